/*
 * A server that is killed: agents at work on the lmdb store, and clients that come back each time.
 *   node --import tsx crash-server.ts <folder> <port>
 */
import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import agentEvents, { Type, defineAgent, defineTool } from '../../index.js'
import { tell } from './tell.js'

const [folder = '', port = '0'] = process.argv.slice(2)

/** One line of what happened here. */
export type Told =
  | { readonly type: 'ready' }
  /** An agent's own code runs. */
  | { readonly type: 'began', readonly runId: string, readonly message: string }

const lookUp = defineTool({
  name: 'lookUp',
  description: 'Looks a word up, in its own time',
  inputSchema: Type.Object({ word: Type.String(), ms: Type.Number() }),
  async execute ({ word, ms }, { signal }) {
    await delay(ms, undefined, { signal })
    return { answer: `${word} `.repeat(20) }
  }
})

async function * spoken (text: string, pieces: number, ms: number): AsyncGenerator<string> {
  for (let i = 0; i < pieces; i++) {
    await delay(ms)
    yield `${i} of ${text} `
  }
}

/** A message is 'short …' or 'long …'. */
const worker = defineAgent({
  name: 'worker',
  description: 'Thinks, uses a tool, streams its answer',
  tools: [lookUp],
  async run ({ message }, ctx) {
    tell({ type: 'began', runId: ctx.run.runId, message } satisfies Told)
    const isLong = message.startsWith('long')
    await ctx.think(`About ${message}`)
    const { answer } = await ctx.tools.lookUp({ word: message, ms: isLong ? 250 : 50 })
    await ctx.say(spoken(message, isLong ? 60 : 8, isLong ? 15 : 1))
    return { message, length: answer.length }
  }
})

// A test that is ended before its end leaves nobody behind: the kernel closes the pipe with its process.
process.stdin.on('close', () => { process.exit() }).resume()

const app = Fastify()
await app.register(agentEvents, {
  prefix: '/',
  agents: [worker],
  // Nothing is trimmed: in the end all of it is compared.
  store: { lmdb: folder, retention: { maxEvents: 10_000_000, maxBytes: 2 ** 40 } },
  authenticate: async (request) => {
    const { userId } = request.query as { userId?: string }
    return userId === undefined ? null : { userId }
  }
})
await app.listen({ port: Number(port), host: '127.0.0.1' })
tell({ type: 'ready' } satisfies Told)
