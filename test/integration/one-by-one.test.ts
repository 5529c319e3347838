import t from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { agentRegistry, routes, threadRegistry, toolDispatcher, websocketNotifier } from '../../index.js'
import { search, triage, TRIAGE_EVENTS } from '../support/agents.js'

function host (t: { teardown (fn: () => unknown): void }): FastifyInstance {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/', async () => 'the host\'s own')
  return app
}

t.test('the four plugins, one by one in a host\'s app, without routes', async (t) => {
  const app = host(t)
  await app.register(threadRegistry)
  await app.register(websocketNotifier)
  await app.register(toolDispatcher, { tools: [search] })
  await app.register(agentRegistry, { agents: [triage] })
  await app.ready()

  const { threadId } = await app.threads.register({ userId: 'u' })
  const agent = await app.agents.createForUser(triage, { userId: 'u', threadId })
  t.match(agent.agentId, /^u:triage:[0-9a-f-]{36}$/)
  t.same((await app.notifier.history(threadId)).map(({ type }) => type), ['agent_started'])
  t.match(app.agents.active({ userId: 'u' }), [{ runId: agent.runId, agentId: agent.agentId, state: 'created' }])
  t.same(await agent.execute({ message: 'ping' }), { answer: 'PING' })

  const events = await app.notifier.history(threadId)
  t.same(events.map(({ type }) => type), TRIAGE_EVENTS)
  t.ok(events.every(({ runId, agentId }) => runId === agent.runId && agentId === agent.agentId))
  t.same((await app.notifier.history(threadId, { after: events[3]!.id })).map(({ seq }) => seq), [5, 6])
  t.same((await app.notifier.history(threadId, { after: events[3]!.id, limit: 1 })).map(({ seq }) => seq), [5])
  t.same(app.agents.active(), [])
  t.equal(app.agents.tools, app.tools, 'one table of tools')
  t.equal((await app.inject('/')).body, 'the host\'s own')
  t.equal((await app.inject('/agent-events/threads')).statusCode, 404, 'no doors')
})

t.test('each plugin alone works as far as it goes', async (t) => {
  const app = host(t)
  await app.register(threadRegistry)
  await app.register(websocketNotifier)
  await app.ready()
  const { threadId } = await app.threads.register({ userId: 'u' })
  await app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', text: 'hello' } })
  t.match(await app.notifier.history(threadId), [{ type: 'assistant_message', seq: 1, data: { text: 'hello', phase: 'full' } }])
})

t.test('in another order the boot fails and names what is missing', async (t) => {
  const cases = [
    ['websocket-notifier', 'thread-registry', websocketNotifier],
    ['tool-dispatcher', 'websocket-notifier', toolDispatcher],
    ['agent-registry', 'tool-dispatcher', agentRegistry]
  ] as const
  for (const [name, missing, plugin] of cases) {
    const app = Fastify()
    app.register(plugin)
    await t.rejects(async () => { await app.ready() }, { message: new RegExp(`'fastify-agent-events/${missing}'.*'fastify-agent-events/${name}'|decorator '(threads|notifier|tools)'`) }, name)
  }
  const app = Fastify()
  app.register(routes, { authenticate: async () => null })
  await t.rejects(async () => { await app.ready() }, /'fastify-agent-events\/agent-registry'|decorator/, 'routes')
})

t.test('a notifier, dispatcher or registry of another scope is not borrowed by accident', async (t) => {
  const app = Fastify()
  app.register(async (scope) => { await scope.register(threadRegistry) })
  app.register(async (scope) => { await scope.register(websocketNotifier) })
  await t.rejects(async () => { await app.ready() }, /'fastify-agent-events\/thread-registry'|decorator 'threads'/)
})
