/* The server of the leak test: agents that do everything a run can do, and what must be back to rest after it. */
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import type * as Library from '../../index.js'
import type { AgentEventsOptions } from '../../index.js'
import { KINDS, threadOf, THREADS_PER_USER, USERS } from './work.js'

/** The heap has been collected when it shrinks by no more. */
const CALM_BYTES = 20_000

/** Everything that must be back where it was when nobody is there. */
export interface Counts { connections: number, subscriptions: number, feeds: number, runs: number, contexts: number, timers: number, listeners: number, handles: number }

/** Every ctx that an agent was given and that is not collected yet. */
const contexts = { live: 0, registry: new FinalizationRegistry<void>(() => { contexts.live-- }) }

function agentsOf ({ Type, defineAgent, defineTool }: typeof Library, sabotage: boolean) {
  const kept: unknown[] = []
  const search = defineTool({
    name: 'search',
    description: 'Answers at once',
    inputSchema: Type.Object({ query: Type.String() }),
    async execute ({ query }, { progress }) {
      await progress(0.5)
      return { query, hits: [1, 2, 3] }
    }
  })
  const wait = defineTool({ name: 'wait', description: 'Never answers', execute: () => new Promise<void>(() => {}) })
  const helper = defineAgent({
    name: 'helper',
    description: 'Called by the other',
    tools: [search],
    async run ({ message }, ctx) {
      contexts.live++
      contexts.registry.register(ctx)
      await ctx.tools.search({ query: message })
      return message
    }
  })
  async function * words (): AsyncGenerator<string> { for (let i = 0; i < 20; i++) yield `word ${i} ` }
  async function * stuck (): AsyncGenerator<string> { yield 'and'; yield ' then'; await new Promise(() => {}) }
  const worker = defineAgent({
    name: 'worker',
    description: 'Does what the message says',
    tools: [search, wait],
    agents: [helper],
    timeoutMs: 100,
    async run ({ message }, ctx) {
      contexts.live++
      contexts.registry.register(ctx)
      if (sabotage) kept.push(new Array(10_000))
      await ctx.think(message)
      switch (message as typeof KINDS[number]) {
        case 'says': return ctx.say('hello')
        case 'streams': return ctx.say(words())
        case 'uses a tool': return ctx.tools.search({ query: message })
        case 'calls an agent': return ctx.agents.helper({ message })
        case 'throws': throw new Error('told to')
        case 'is cancelled': return ctx.tools.wait()
        case 'is too slow':
          ctx.signal.addEventListener('abort', () => {})
          return ctx.say(stuck())
        case 'leaves things open':
          ctx.tools.wait()
          ctx.say(stuck())
          ctx.agents.helper({ message })
      }
    }
  })
  return [worker]
}

export interface LeakServer { readonly app: FastifyInstance, readonly url: string }

/** @param sabotage keeps a little of every run, to see that this is found */
export async function startServer (store: AgentEventsOptions['store'], sabotage: boolean): Promise<LeakServer> {
  // What is published, not the sources.
  const library = await import(new URL('../../dist/index.js', import.meta.url).href) as typeof Library
  const app = Fastify()
  await app.register(library.default, {
    prefix: '/',
    agents: agentsOf(library, sabotage),
    authenticate: async (request) => ({ userId: (request.query as { userId: string }).userId }),
    ...(store !== undefined && { store }),
    limits: { framesPerSecond: 100_000 }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (let user = 0; user < USERS; user++) {
    for (let i = 0; i < THREADS_PER_USER; i++) await app.threads.register({ userId: `user${user}`, threadId: threadOf(user, i) })
  }
  return { app, url: `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

export function count (app: FastifyInstance): Counts {
  const { connections, feeds } = app.notifier.hub
  const resources = process.getActiveResourcesInfo()
  const listeners = app.server.eventNames().reduce((sum, name) => sum + app.server.listenerCount(name), 0)
  return {
    connections: connections.size,
    subscriptions: [...connections.values()].reduce((sum, { subscriptions }) => sum + subscriptions.size, 0),
    feeds: feeds.size,
    runs: app.agents.active().length,
    contexts: contexts.live,
    timers: resources.filter((type) => type === 'Timeout').length,
    listeners,
    handles: resources.filter((type) => type !== 'Timeout' && type !== 'Immediate').length
  }
}

/** heap: what can be reached, in the heap and in buffers beside it. */
export interface Memory { readonly counts: Counts, readonly heap: number, readonly rss: number }

/** Waits until the server has let go of what the clients let go of, and collects until there is nothing more to collect. */
export async function settle (app: FastifyInstance, rest?: Counts): Promise<Memory> {
  let heap = Infinity
  for (let i = 0, calm = 0; i < 200 && calm < 3; i++) {
    await new Promise((resolve) => { setTimeout(resolve, 50) })
    globalThis.gc!()
    const { heapUsed, external } = process.memoryUsage()
    const isAtRest = rest === undefined || leftovers(count(app), rest).length === 0
    calm = isAtRest && heapUsed + external >= heap - CALM_BYTES ? calm + 1 : 0
    heap = Math.min(heap, heapUsed + external)
  }
  return { counts: count(app), heap, rss: process.memoryUsage.rss() }
}

export function leftovers (counts: Counts, rest: Counts): string[] {
  return (Object.keys(rest) as Array<keyof Counts>).filter((name) => counts[name] > rest[name]).map((name) => `${counts[name] - rest[name]} ${name}`)
}
