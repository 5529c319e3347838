/**
 * How long it takes to create agents for users: all at once, and at a steady rate.
 *   npm run bench:registration
 */
import Fastify from 'fastify'
import agentEvents, { defineAgent } from 'fastify-agent-events'

const idle = defineAgent({ name: 'idle', description: 'does nothing', run: () => {} })

async function newApp () {
  const app = Fastify()
  await app.register(agentEvents, { agents: [idle], authenticate: () => null, runsPerUser: 100_000, createdTimeoutMs: 600_000, closeGraceMs: 0 })
  return app
}

async function atOnce (users: number): Promise<number> {
  const app = await newApp()
  const started = performance.now()
  const agents = await Promise.all(Array.from({ length: users }, (_, i) => app.agents.createForUser(idle, { userId: `user${i}` })))
  const elapsed = performance.now() - started
  if (new Set(agents.map(({ agentId }) => agentId)).size !== users) throw new Error('ids are not unique')
  await app.close()
  return elapsed
}

/** @returns the latencies in milliseconds, ascending */
async function steady (perSecond: number, seconds: number): Promise<number[]> {
  const app = await newApp()
  const latencies: number[] = []
  const started = performance.now()
  for (let i = 0; i < perSecond * seconds; i++) {
    while (performance.now() < started + i * 1_000 / perSecond) await new Promise((resolve) => { setImmediate(resolve) })
    const before = performance.now()
    await app.agents.createForUser(idle, { userId: `user${i}` })
    latencies.push(performance.now() - before)
  }
  await app.close()
  return latencies.sort((a, b) => a - b)
}

const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!

console.log('users at once    median of 5, all registered within')
for (const users of [100, 1_000, 10_000]) {
  await atOnce(users) // warm
  const rounds: number[] = []
  for (let round = 0; round < 5; round++) rounds.push(await atOnce(users))
  console.log(`${String(users).padStart(13)}    ${median(rounds).toFixed(1)} ms`)
}
const latencies = await steady(1_000, 5)
const at = (quantile: number) => latencies[Math.floor(latencies.length * quantile)]!.toFixed(3)
console.log(`1,000 a second for 5 s: p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms, max ${latencies.at(-1)!.toFixed(3)} ms`)
