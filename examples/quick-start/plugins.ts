import Fastify from 'fastify'
import { agentRegistry, defineAgent, threadRegistry, toolDispatcher, websocketNotifier } from 'fastify-agent-events'

const greeter = defineAgent({
  name: 'greeter',
  description: 'Greets',
  run: ({ message }, ctx) => ctx.say(`Hello ${message}`)
})

const app = Fastify()
await app.register(threadRegistry)                             // app.threads: whose thread is it, where is its log
await app.register(websocketNotifier)                          // app.notifier: say it, remember it, get it to the user
await app.register(toolDispatcher)                             // app.tools: run a tool between its two events
await app.register(agentRegistry, { agents: [greeter] })       // app.agents: create, run and clean up after agents
await app.ready()

const { threadId } = await app.threads.register({ userId: 'ada' })
const said = await app.agents.run(greeter, { userId: 'ada', threadId, input: { message: 'world' } })
const events = await app.notifier.history(threadId)
console.log(said, events.map(({ type }) => type))
await app.close()
