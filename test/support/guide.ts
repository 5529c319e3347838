import { defineAgent, defineTool, Type } from '../../index.js'

/** Doors that a test opens, and that an agent waits at. */
export class Gates {
  readonly #doors = new Map<string, { readonly opened: Promise<void>, readonly open: () => void }>()

  open (name: string): void { this.#door(name).open() }

  async pass (name: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const aborted = new Promise<never>((_resolve, reject) => {
      signal.addEventListener('abort', () => { reject(signal.reason) }, { once: true })
    })
    await Promise.race([this.#door(name).opened, aborted])
  }

  #door (name: string): { readonly opened: Promise<void>, readonly open: () => void } {
    let door = this.#doors.get(name)
    if (door === undefined) {
      let open = () => {}
      const opened = new Promise<void>((resolve) => { open = resolve })
      this.#doors.set(name, door = { opened, open })
    }
    return door
  }
}

/** Thinks, waits at `tool` in its tool, and streams its answer in three pieces with the doors `first` and `second` between them. */
export function guideBehind (gates: Gates) {
  const lookUp = defineTool({
    name: 'look_up',
    description: 'Looks a question up',
    inputSchema: Type.Object({ question: Type.String() }),
    async execute ({ question }, { signal }) {
      await gates.pass('tool', signal)
      return { page: question.length }
    }
  })
  return defineAgent({
    name: 'guide',
    description: 'Knows the way',
    tools: [lookUp],
    async run ({ message }, ctx) {
      await ctx.think('Reading the map')
      const { page } = await ctx.tools.look_up({ question: message })
      await ctx.say(pieces(page, ctx.signal))
      return { page }
    }
  })

  async function * pieces (page: number, signal: AbortSignal): AsyncGenerator<string> {
    yield 'It is on **page '
    await gates.pass('first', signal)
    yield `${page}**`
    await gates.pass('second', signal)
    yield ', at the end.'
  }
}
