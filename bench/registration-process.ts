/* Creates agents for users, in a process of its own. */
import Fastify, { type FastifyInstance } from 'fastify'
import agentEvents, { defineAgent, type AgentEventsOptions } from 'fastify-agent-events'
import { setImmediate } from 'node:timers/promises'
import { answer } from './child.js'
import { quantile } from './statistics.js'

const store = JSON.parse(process.argv[2]!) as NonNullable<AgentEventsOptions['store']>
const silent = defineAgent({ name: 'silent', description: 'does nothing', run: () => {} })

async function newApp (): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(agentEvents, { store, agents: [silent], authenticate: () => null, createdTimeoutMs: 600_000, closeGraceMs: 0 })
  return app
}

async function register (app: FastifyInstance, users: number): Promise<number> {
  const startedAt = performance.now()
  const agents = await Promise.all(Array.from({ length: users }, (_, i) => app.agents.createForUser(silent, { userId: `user${i}` })))
  const elapsed = performance.now() - startedAt
  if (new Set(agents.map(({ agentId }) => agentId)).size !== users) throw new Error('ids are not unique')
  return elapsed
}

answer({
  /** Milliseconds until all are registered, with code that is warm. */
  async atOnce ({ users }: { users: number }) {
    for (let i = 0; i < 3; i++) {
      const warm = await newApp()
      await register(warm, users)
      await warm.close()
    }
    const app = await newApp()
    return register(app, users)
  },
  /** Milliseconds that one registration takes when they come at a steady rate, whether the one before is done or not. */
  async steady ({ perSecond, seconds }: { perSecond: number, seconds: number }) {
    const app = await newApp()
    const latencies: number[] = []
    async function registerOne (i: number): Promise<void> {
      const before = performance.now()
      await app.agents.createForUser(silent, { userId: `user${i}` })
      if (i >= perSecond) latencies.push(performance.now() - before)
    }
    await register(app, perSecond) // warm
    const pending: Array<Promise<void>> = []
    const startedAt = performance.now()
    // The first second does not count: before it as many came at once, and code and disk have that to do.
    for (let i = 0; i < perSecond * (seconds + 1); i++) {
      while (performance.now() < startedAt + i * 1_000 / perSecond) await setImmediate()
      pending.push(registerOne(i))
    }
    await Promise.all(pending)
    const sorted = Float64Array.from(latencies).sort()
    return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) }
  }
})
