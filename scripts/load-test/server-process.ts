/* One node of a load test: agents that talk in the threads of this node, as many events a second as they are told to. */
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import type * as Library from '../../index.js'
import { obey, report, sample, SAMPLE_EVERY_MS, type ServerStart } from './messages.js'
import { now, randomFrom, threadId, userId, watchersOf, type LoadOptions } from './options.js'

type Step = 'start' | 'think' | 'use a tool' | 'say' | 'end'

/** A run, and how many events each step of it is. */
const STEPS: ReadonlyArray<readonly [step: Step, events: number]> = [
  ['start', 1], ['think', 1], ['use a tool', 2], ['think', 1], ['say', 1], ['use a tool', 2], ['say', 1], ['end', 1]
]
/** Events of about 300 bytes, and every fifth of about 1.2 kB. */
const TEXTS = ['x'.repeat(60), 'x'.repeat(60), 'x'.repeat(60), 'x'.repeat(60), 'x'.repeat(950)]
const TICK_MS = 2
/** The whole log is compared at the end: nothing of it may be trimmed. */
const retention = { maxEvents: 100_000_000, maxBytes: 100_000_000_000 }

const [options, { node, store }] = JSON.parse(process.argv[2]!) as [LoadOptions, ServerStart]
// What is published, not the sources.
const { default: agentEvents, defineAgent, defineTool, Type } = await import(new URL('../../dist/index.js', import.meta.url).href) as typeof Library

const total = { sent: 0, due: 0 }
let measureFrom = Infinity

const search = defineTool({
  name: 'search',
  description: 'Answers at once',
  inputSchema: Type.Object({ query: Type.String() }),
  execute: ({ query }) => ({ found: query })
})

const worker = defineAgent({
  name: 'worker',
  description: 'Goes on when it is its turn',
  tools: [search],
  async run (_input, { context, tools, think, say }) {
    const talker = context['talker'] as Talker
    talker.said(1)
    for (const [step, events] of STEPS.slice(1)) {
      const dueAt = await talker.turn()
      if (dueAt === undefined || step === 'end') return
      const text = TEXTS[total.sent % TEXTS.length]!
      const stamp = dueAt < measureFrom ? {} : { metadata: { dueAt } }
      if (step === 'think') await think(text, stamp)
      else if (step === 'say') await say(text, stamp)
      else await tools.search({ query: text })
      talker.said(events)
    }
  }
})

/** Runs of one thread, one after the other; each step waits until it is due. */
class Talker {
  readonly #scope: { userId: string, threadId: string }
  readonly #watchers: number
  readonly #due: number[] = []
  #granted = 0
  #isOver = false
  #waiting: ((dueAt: number | undefined) => void) | undefined

  constructor (user: number, index: number) {
    this.#scope = { userId: userId(user), threadId: threadId(user, index) }
    this.#watchers = watchersOf(user, options)
  }

  register (): Promise<unknown> { return app.threads.register(this.#scope) }

  /** The next step is due. @returns how many events it is */
  grant (at: number): number {
    this.#due.push(at)
    this.#goOn()
    return STEPS[this.#granted++ % STEPS.length]![1]
  }

  /** When the next step is due; undefined when there is none. One at a time. */
  turn (): Promise<number | undefined> {
    return new Promise((resolve) => {
      this.#waiting = resolve
      this.#goOn()
    })
  }

  said (events: number): void {
    total.sent += events
    total.due += events * this.#watchers
  }

  /** No more than what is due already. */
  end (): void {
    this.#isOver = true
    this.#goOn()
  }

  async talk (): Promise<void> {
    while (await this.turn() !== undefined) {
      await app.agents.run(worker, { ...this.#scope, input: { message: 'go' }, context: { talker: this } })
      this.said(1)
    }
  }

  #goOn (): void {
    if (this.#waiting === undefined || (this.#due.length === 0 && !this.#isOver)) return
    this.#waiting(this.#due.shift())
    this.#waiting = undefined
  }
}

const app = Fastify()
await app.register(agentEvents, {
  prefix: '/',
  agents: [worker],
  authenticate: (request) => ({ userId: (request.query as { userId: string }).userId }),
  store: store === 'memory' ? { memory: { retention } } : { ...store, retention },
  maxThreadsPerUser: options.threads,
  runsPerUser: options.threads,
  limits: { connectionsPerUser: options.connections * 2, subscriptionsPerConnection: options.threads, framesPerSecond: 100 + options.threads }
})
await app.listen({ port: 0, host: '127.0.0.1' })

const talkers: Talker[] = []
for (let user = 0; user < options.users; user++) {
  for (let index = 0; index < options.threads; index++) {
    if ((user * options.threads + index) % options.nodes === node) talkers.push(new Talker(user, index))
  }
}
for (let i = 0; i < talkers.length; i += 100) await Promise.all(talkers.slice(i, i + 100).map((talker) => talker.register()))

/**
 * Makes steps due at the rate, in threads by chance. A step counts from when the tick that makes it due should have come, or
 * from when it was due if that is later: a server too busy to tick on time does not look faster for it.
 */
async function talk (): Promise<void> {
  const random = randomFrom(options.seed + node)
  const eventMs = 1_000 * options.nodes / options.rate
  let dueAt = now()
  let tickAt = dueAt
  measureFrom = dueAt + options.warmup * 1_000
  const endAt = measureFrom + options.duration * 1_000
  const talking = Promise.all(talkers.map((talker) => talker.talk()))
  setInterval(() => { report(sample(total)) }, SAMPLE_EVERY_MS)
  await new Promise<void>((resolve, reject) => {
    const ticking = setInterval(() => {
      const at = now()
      while (dueAt <= Math.min(at, endAt)) {
        const talker = talkers[Math.floor(random() * talkers.length)]!
        dueAt += eventMs * talker.grant(Math.min(at, Math.max(dueAt, tickAt + TICK_MS)))
      }
      tickAt = at
      if (at < endAt) return
      clearInterval(ticking)
      resolve()
    }, TICK_MS)
    talking.catch(reject)
  })
  // What the ends of the runs add is not of this time.
  report(sample(total))
  for (const talker of talkers) talker.end()
  await talking
  report(sample(total))
  report({ type: 'silent' })
}

obey(talk)
report({ type: 'listening', url: `127.0.0.1:${(app.server.address() as AddressInfo).port}` })
