import t from 'tap'
import Fastify from 'fastify'
import { defaultLimits } from '../../../plugins/websocket-notifier/index.js'
import { defineAgent, defineTool, MasterAgentRegistry, MemoryStore, ThreadRegistry, ToolDispatcher, Type, WebSocketNotifier } from '../../../index.js'
import { EventEncoder } from '../../../plugins/websocket-notifier/encode.js'
import { search, triage, TRIAGE_EVENTS } from '../../support/agents.js'

const silent = Fastify().log

/** The registry as a plain class: no app, no plugin. */
function createRegistry (defaultAgent?: string) {
  const threads = new ThreadRegistry(new MemoryStore(), { maxIdLength: 100, maxThreadsPerUser: 10 }, silent)
  const tools = new ToolDispatcher(60_000)
  const limits = { runTimeoutMs: 60_000, createdTimeoutMs: 60_000, runsPerUser: 10, coalesceMs: 0, closeGraceMs: 100, unknownAgentMs: 100 }
  return { threads, tools, registry: new MasterAgentRegistry(threads, tools, limits, silent, defaultAgent), notifier: createNotifier(threads) }
}

function createNotifier (threads: ThreadRegistry): WebSocketNotifier {
  return new WebSocketNotifier(threads, new EventEncoder(64 * 1024), { limits: defaultLimits, heartbeat: { intervalMs: 25_000, timeoutMs: 10_000 } }, { maxEvents: 1_000, maxBytes: 1024 * 1024 }, silent)
}

const echo = defineAgent({ name: 'echo', description: 'Echoes', tools: [search], run: async ({ message }, ctx) => (await ctx.tools.search({ query: message })).answer })

t.test('A5: agents registered before and after the notifier both emit, tool calls included', async (t) => {
  const { registry, notifier, threads } = createRegistry()
  registry.register(triage)
  registry.setNotifier(notifier)
  registry.register(echo)
  const { threadId } = await threads.register({ userId: 'u' })
  t.same(await registry.run(triage, { userId: 'u', threadId, input: { message: 'before' } }), { answer: 'BEFORE' })
  t.equal(await registry.run(echo, { userId: 'u', threadId, input: { message: 'after' } }), 'AFTER')
  t.same((await notifier.history(threadId)).map(({ type }) => type), [...TRIAGE_EVENTS, 'agent_started', 'tool_executing', 'tool_completed', 'agent_completed'])
})

t.test('A5: a second, different notifier is refused, the same one is not', async (t) => {
  const { registry, notifier, threads, tools } = createRegistry()
  registry.setNotifier(notifier)
  registry.setNotifier(notifier)
  t.throws(() => { registry.setNotifier(createNotifier(threads)) }, { code: 'FAE_ERR_NOTIFIER_SET' })
  t.throws(() => { tools.setNotifier(createNotifier(threads)) }, { code: 'FAE_ERR_NOTIFIER_SET' })
  t.equal(await registry.run(echo, { userId: 'u', input: { message: 'first stays' } }), 'FIRST STAYS')
})

t.test('A5: a run without a notifier is refused', async (t) => {
  const { registry, threads } = createRegistry()
  registry.register(triage)
  await threads.register({ userId: 'u', threadId: 't1' })
  const refused = { code: 'FAE_ERR_NOTIFIER_MISSING' }
  await t.rejects(registry.createForUser(triage, { userId: 'u' }), refused)
  await t.rejects(registry.run('triage', { userId: 'u', input: { message: 'x' } }), refused)
  await t.rejects(registry.send({ user: { userId: 'u' }, threadId: 't1', content: 'x' }), refused)
  t.same(registry.active(), [])
  t.equal((await threads.get('t1'))!.head, 0)
})

t.test('A2: an unknown agent is refused with the known ones', async (t) => {
  const { registry, notifier, threads } = createRegistry()
  registry.setNotifier(notifier)
  await threads.register({ userId: 'u', threadId: 't1', agent: 'gone' })
  await t.rejects(registry.createForUser('nobody', { userId: 'u' }), { code: 'FAE_ERR_AGENT_NOT_FOUND', message: "Unknown agent 'nobody'. Known agents: none" })
  registry.register(triage)
  registry.register(echo)
  const refused = (name: string) => ({ code: 'FAE_ERR_AGENT_NOT_FOUND', statusCode: 404, message: `Unknown agent '${name}'. Known agents: triage, echo` })
  await t.rejects(registry.createForUser('nobody', { userId: 'u' }), refused('nobody'))
  await t.rejects(registry.run('nobody', { userId: 'u' }), refused('nobody'))
  await t.rejects(registry.send({ user: { userId: 'u' }, threadId: 't1', content: 'x', agent: 'nobody' }), refused('nobody'))
  await t.rejects(registry.send({ user: { userId: 'u' }, threadId: 't1', content: 'x' }), refused('gone'))
  t.equal((await threads.get('t1'))!.head, 0, 'nothing was stored')
})

t.test('A2: owner, thread and ids', async (t) => {
  const { registry, notifier, threads } = createRegistry()
  registry.setNotifier(notifier)
  await threads.register({ userId: 'owner', threadId: 't1' })
  const missing = { code: 'FAE_ERR_THREAD_NOT_FOUND' }
  await t.rejects(registry.createForUser(triage, { userId: 'u', threadId: 't1' }), missing)
  await t.rejects(registry.createForUser(triage, { userId: 'u', threadId: 'nothing' }), missing)
  await t.rejects(registry.send({ user: { userId: 'u' }, threadId: 't1', content: 'x' }), missing)
  await t.rejects(registry.createForUser(triage, { userId: '' }), { code: 'FAE_ERR_USER_ID_INVALID' })
  const agents = await Promise.all(Array.from({ length: 5 }, (_, i) => registry.createForUser(triage, { userId: `u${i}` })))
  t.ok(agents.every(({ agentId }, i) => new RegExp(`^u${i}:triage:[0-9a-f-]{36}$`).test(agentId)))
  t.equal(new Set(agents.map(({ agentId }) => agentId)).size, 5)
  t.equal(new Set(agents.map(({ runId }) => runId)).size, 5)
  for (const agent of agents) t.ok((await threads.find(agent.threadId))!.record.inbox, 'without a thread it is the inbox')
  await Promise.all(agents.map((agent) => agent.cancel()))
  t.same(registry.active(), [])
})

t.test('A7: lists agents, tools, live runs and the tree', async (t) => {
  const { registry, notifier } = createRegistry('echo')
  registry.setNotifier(notifier)
  const parent = defineAgent({ name: 'parent', description: 'p', version: '2', agents: [echo], run () {} })
  registry.register(parent)
  t.match(registry.list(), [
    { name: 'parent', version: '2', tools: [], agents: ['echo'], default: false },
    { name: 'echo', description: 'Echoes', tools: ['search'], agents: [], default: true, inputSchema: { properties: { message: { type: 'string' } } } }
  ], 'listed agents and tools are registered with their owner')
  t.match(registry.tools.list(), [{ name: 'search', timeoutMs: 60_000 }])
  const agent = await registry.createForUser(echo, { userId: 'u' })
  t.match(registry.active({ userId: 'u' }), [{ runId: agent.runId, agent: 'echo', userId: 'u', state: 'created', ageMs: Number }])
  t.same(registry.active({ userId: 'other' }), [])
  t.match(registry.mermaid(), /^flowchart TD\n[^]*store: memory[^]*tool0\["tool: search"\][^]*registry --> agent0\["agent: parent"\]\n *agent0 -\.-> agent1\n *registry --> agent1\["agent: echo"\]\n *agent1 -\.-> tool0/)
  await agent.execute({ message: 'x' })
  t.same(registry.active(), [], 'nothing of it is left')
})

t.test('A6: names of agents and tools are unique, objects may come again', async (t) => {
  const { registry } = createRegistry()
  registry.register(triage)
  registry.register(triage)
  t.throws(() => { registry.register(defineAgent({ name: 'triage', description: '', run () {} })) }, { code: 'FAE_ERR_AGENT_DUPLICATE' })
  const other = defineTool({ name: 'search', description: 'another', inputSchema: Type.Object({ query: Type.String() }), execute () {} })
  t.throws(() => { registry.tools.register(other) }, { code: 'FAE_ERR_TOOL_DUPLICATE' })
  t.throws(() => { registry.register(defineAgent({ name: 'second', description: '', tools: [other], run () {} })) }, { code: 'FAE_ERR_TOOL_DUPLICATE' })
  registry.tools.register(search)
  t.equal(registry.tools.get('search'), search)
  t.throws(() => registry.tools.get('nothing'), { code: 'FAE_ERR_TOOL_NOT_FOUND', message: "Unknown tool 'nothing'. Known tools: search" })
  t.same(registry.list().map(({ name }) => name), ['triage'], 'what was refused left nothing')
})
