import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import agentEvents, { defineAgent, type AgentContext, type AgentEventsOptions } from 'fastify-agent-events'
import type { BenchServer } from './server.js'

/** This project: every event goes through a run, its lane and the log. */
export default async function ours (options: Pick<AgentEventsOptions, 'store' | 'coalesceMs'>): Promise<BenchServer> {
  const contexts: AgentContext[] = []
  const speaker = defineAgent({
    name: 'speaker',
    description: 'Says what it is told to',
    run: (_input, ctx) => new Promise<void>(() => { contexts.push(ctx as unknown as AgentContext) })
  })
  const app = Fastify()
  await app.register(agentEvents, {
    prefix: '/',
    agents: [speaker],
    authenticate: (request) => ({ userId: (request.query as { userId: string }).userId }),
    lane: { maxEvents: 1_000_000, maxBytes: 1e9 }, // nothing here awaits an emit
    limits: { connectionsPerUser: 100_000 },
    ...options
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return {
    url: `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}/ws`,
    async addThreads (count) {
      for (let i = 0; i < count; i++) await app.threads.register({ userId: `user${i}`, threadId: `t${i}` })
    },
    async addSpeakers (count) {
      for (let i = 0; i < count; i++) {
        const agent = await app.agents.createForUser(speaker, { userId: `user${i}`, threadId: `t${i}` })
        agent.execute({ message: '' }).catch(() => {})
        while (contexts.length <= i) await new Promise((resolve) => { setImmediate(resolve) })
      }
    },
    think (thread, text) { contexts[thread]!.think(text).catch(() => {}) },
    async say (pieces) { await contexts[0]!.say(pieces) },
    async addIdleThreads (count) {
      for (let i = 0; i < count; i++) {
        await app.threads.register({ userId: `idle${i}`, threadId: `idle${i}` })
        await app.notifier.sendToThread(`idle${i}`, { type: 'user_message', data: { messageId: `message${i}`, content: 'Are you there?' } })
      }
    }
  }
}
