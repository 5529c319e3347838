import { setTimeout as delay } from 'node:timers/promises'
import { defineAgent, defineTool, Type } from '../../index.js'
import { appendAll, congestedIn, ServerSockets, untilEmpty } from './delivery.js'
import type { NodeOptions } from './node-process.js'
import { connectCluster } from './redis-cluster.js'
import { startApp } from './start-app.js'

/*
 * One node of many: an app in a process of its own over one Redis. Its options are the first argument, as JSON. Says
 * { port }, and answers { id, call, args } with { id, result } or { id, error }. SIGTERM closes it as a deployment does.
 */
const { redis, limits, ...storeOptions } = JSON.parse(process.argv[2]!) as NodeOptions

const search = defineTool({
  name: 'search',
  description: 'Search the handbook',
  inputSchema: Type.Object({ query: Type.String() }),
  async execute ({ query }) {
    await delay(20)
    return { answer: query.toUpperCase() }
  }
})

const echo = defineAgent({
  name: 'echo',
  description: 'Says where it is, thinks, uses a tool, streams what it heard',
  tools: [search],
  async run ({ message }, ctx) {
    await ctx.emit('place', { pid: process.pid })
    await ctx.think('Looking it up')
    const { answer } = await ctx.tools.search({ query: message })
    await ctx.say((async function * () {
      for (const word of ['You', 'said', answer]) {
        await delay(20)
        yield `${word} `
      }
    })())
    return { answer }
  }
})

const long = defineAgent({
  name: 'long',
  description: 'Says where it is and goes on for as many seconds as it is told',
  tools: [search],
  async run ({ message }, ctx) {
    await ctx.emit('place', { pid: process.pid })
    const until = Date.now() + Number(message) * 1_000
    await ctx.say((async function * () {
      for (let count = 0; Date.now() < until && !ctx.signal.aborted; count++) {
        await delay(50)
        yield `${count} `
      }
    })())
    return { ended: true }
  }
})

const patient = defineAgent({
  name: 'patient',
  description: 'Waits until it is told to end',
  run: (_input, { signal }) => new Promise<void>((_resolve, reject) => { signal.addEventListener('abort', () => { reject(signal.reason) }) })
})

const { app, port } = await startApp({ teardown () {} }, {
  agents: [echo, long, patient],
  events: { place: Type.Object({ pid: Type.Number() }) },
  store: { redis: typeof redis === 'object' && 'cluster' in redis ? connectCluster(redis.cluster) : redis, ...storeOptions },
  limits: { connectionsPerUser: 1_000, ...limits },
  closeGraceMs: 0,
  debug: true
})

const sockets = new ServerSockets(app)

const calls: Record<string, (...args: any[]) => unknown> = {
  confirmed: (threadId: string, cursor: string, timeoutMs: number) => app.notifier.confirmed(threadId, cursor, { timeoutMs }),
  append: (threadIds: readonly string[], count: number, bytes: number, isCustom: boolean) => appendAll(app, threadIds, count, bytes, isCustom),
  hold (port: number) { sockets.hold(port) },
  release (port: number) { sockets.release(port) },
  releaseAll () { sockets.releaseAll() },
  congested: () => congestedIn(app),
  untilEmpty: () => untilEmpty(app),
  active: () => app.agents.active().map(({ runId }) => runId)
}

process.on('message', ({ id, call, args }: { id: number, call: string, args: unknown[] }) => {
  Promise.resolve(calls[call]!(...args)).then(
    (result) => process.send!({ id, result }),
    (error: Error) => process.send!({ id, error: error.message })
  )
})
process.on('disconnect', () => process.exit())
process.on('SIGTERM', () => { app.close().finally(() => process.exit()) })
process.send!({ port })
