import Fastify from 'fastify'
import agentEvents from 'fastify-agent-events'
import { createAssistant } from './agent.js'
import { offlineModel } from './offline-model.js'
import { daysBetween } from './tools.js'

const question = process.argv[2] ?? 'How many days are there from 2026-01-01 to 2026-12-24?'
const assistant = createAssistant({ model: offlineModel(), tools: [daysBetween], instructions: 'Never count days in your head.' })

const app = Fastify()
await app.register(agentEvents, { agents: [assistant], authenticate: async () => ({ userId: 'ada' }) })
await app.ready()

const { threadId } = await app.threads.register({ userId: 'ada' })
const result = await app.agents.run(assistant, { userId: 'ada', threadId, input: { message: question } })
for (const { seq, type, data } of await app.notifier.history(threadId)) process.stdout.write(`${seq} ${type} ${JSON.stringify(data)}\n`)
process.stdout.write(`\n${question}\n${result.text}\n`)
await app.close()
