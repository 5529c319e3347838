import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import agentEvents, { defineAgent, type AgentContext } from 'fastify-agent-events'
import type { BenchServer } from '../workload.js'

/** fastify-agent-events: every event goes through a run, its lane and the log. */
export default async function ours (): Promise<BenchServer> {
  const contexts: AgentContext[] = []
  const speaker = defineAgent({
    name: 'speaker',
    description: 'Thinks what it is told to',
    run: (_input, ctx) => new Promise<void>((_resolve) => { contexts.push(ctx as unknown as AgentContext) })
  })
  const app = Fastify()
  await app.register(agentEvents, { prefix: '/', agents: [speaker], authenticate: () => ({ userId: 'bench' }), lane: { maxEvents: 1_000_000, maxBytes: 1e9 }, limits: { connectionsPerUser: 100_000 } })
  return {
    async listen () {
      await app.listen({ port: 0, host: '127.0.0.1' })
      return { port: (app.server.address() as AddressInfo).port, path: '/ws' }
    },
    async prepare (threads) {
      for (let i = 0; i < threads; i++) {
        const threadId = `t${i}`
        await app.threads.register({ userId: 'bench', threadId })
        const agent = await app.agents.createForUser(speaker, { userId: 'bench', threadId })
        agent.execute({ message: '' }).catch(() => {})
        while (contexts.length <= i) await new Promise((resolve) => { setImmediate(resolve) })
      }
    },
    emit (thread, text) { contexts[thread]!.think(text).catch(() => {}) },
    settled: () => new Promise((resolve) => { setTimeout(resolve, 50) })
  }
}
