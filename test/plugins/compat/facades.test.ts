import t from 'tap'
import { defineAgent, defineTool, Type } from '../../../index.js'
import { AgentRegistry, ToolRegistry, UniversalRegistry, WebSocketManager, agentInstanceFactory, fromLegacyAgent, legacyEvents, legacyTraffic } from '../../../plugins/compat/index.js'
import { startApp } from '../../support/start-app.js'
import { brokenRules } from '../../support/run-rules.js'
import { settled, startLegacy } from './helpers.js'

const context = { userId: 'u', threadId: 'thread_1' }

class Echo {
  name = 'echo'
  ws: WebSocketManager | undefined
  setWebSocketManager (ws: WebSocketManager) { this.ws = ws }
  async execute (input: { text: string }) {
    await this.ws!.sendMessage({ type: 'agent_thinking', thought: input.text })
    return input.text
  }
}

t.test('all facades are one registry', async (t) => {
  const { app } = await startLegacy(t)
  const agent = new Echo()
  new AgentRegistry(app).registerAgent('echo', agent)
  new UniversalRegistry(app).registerAgent('echo', agent)
  new UniversalRegistry(app).register('other', Echo)
  t.throws(() => { new UniversalRegistry(app).registerAgent('echo', new Echo()) }, { code: 'FAE_ERR_AGENT_DUPLICATE' })
  t.same(app.agents.list().map(({ name }) => name), ['echo', 'other'])
  t.same(new AgentRegistry(app).listAgents(), ['echo', 'other'])
  t.same(new UniversalRegistry(app).list(), ['echo', 'other'])
  t.ok(new AgentRegistry(app).hasAgent('other') && new UniversalRegistry(app).has('echo'))
  t.equal(new AgentRegistry(app).getAgent('nobody'), undefined)
  t.equal(new UniversalRegistry(app).get('nobody'), undefined)

  const tools = new ToolRegistry(app)
  const lookUp = { name: 'look_up', execute: () => 1 }
  tools.registerTools([lookUp])
  tools.registerTool(lookUp)
  t.throws(() => { tools.registerTool({ name: 'look_up', execute: () => 2 }) }, { code: 'FAE_ERR_TOOL_DUPLICATE' })
  t.same(app.tools.list().map(({ name }) => name), ['look_up'])
  t.same([tools.hasTool('look_up'), tools.listTools(), tools.getTool('nothing')], [true, ['look_up'], undefined])
})

t.test("setting a manager: the app's own through any facade, another through none", async (t) => {
  const { app } = await startLegacy(t)
  const facades = [new AgentRegistry(app), new UniversalRegistry(app), new ToolRegistry(app)]
  for (const facade of facades) {
    facade.setWebSocketManager(app.notifier)
    facade.setWebSocketManager(new WebSocketManager(app))
    t.throws(() => { facade.setWebSocketManager({ sendMessage () {} }) }, { code: 'FAE_ERR_NOTIFIER_SET' })
    t.throws(() => { facade.setWebSocketManager(undefined) }, { code: 'FAE_ERR_NOTIFIER_SET' })
  }
  const { app: another } = await startLegacy(t)
  t.throws(() => { facades[0]!.setWebSocketManager(new WebSocketManager(another)) }, { code: 'FAE_ERR_NOTIFIER_SET' })
  new AgentRegistry(app).registerAgent('echo', new Echo())
  const handle = new AgentRegistry(app).getAgent('echo')!
  handle.setWebSocketManager(new WebSocketManager(app))
  t.throws(() => { handle.setWebSocketManager({}) }, { code: 'FAE_ERR_NOTIFIER_SET' })
})

t.test('an app that cannot take them is told at once', async (t) => {
  const { app } = await startApp(t)
  t.throws(() => new AgentRegistry(app), { code: 'FAE_ERR_COMPAT_HOST', message: /events: \{ \.\.\.legacyEvents \}/ })
  t.throws(() => new WebSocketManager({} as never), { code: 'FAE_ERR_COMPAT_HOST', message: /register the plugin first/ })
  t.same(Object.keys(legacyEvents), ['legacy_message'])
})

t.test('an object, a class, a maker, a definition of ours: each runs for its user', async (t) => {
  const { app, tab } = await startLegacy(t)
  const registry = new AgentRegistry(app)
  registry.registerAgent('object', new Echo())
  registry.registerAgent('class', Echo)
  registry.registerAgent('maker', async () => new Echo())
  registry.registerAgent('ours', defineAgent({ name: 'ours', description: 'd', inputSchema: Type.Object({ text: Type.String() }), async run ({ text }, ctx) { await ctx.think(text); return text } }))
  for (const name of ['object', 'class', 'maker', 'ours']) {
    t.equal(await registry.getAgent(name)!.execute({ text: 'hello' }, context), 'hello', name)
    const completed = await tab.frame('agent_completed', ({ data }) => data.agent === name)
    t.same(tab.events().filter(({ runId }) => runId === completed.runId).map(({ type }) => type), ['agent_started', 'agent_thinking', 'agent_completed'], name)
    t.match(completed.agentId, new RegExp(`^u:${name}:`))
  }
  t.same(brokenRules(tab.events()), [])
  t.equal(app.agents.active().length, 0)
})

t.test("a class's agents are made for one run each, a maker's too", async (t) => {
  const { app } = await startLegacy(t)
  let made = 0
  class Counted extends Echo { constructor () { super(); made++ } }
  new AgentRegistry(app).registerAgent('class', Counted)
  new AgentRegistry(app).registerAgent('maker', () => new Counted())
  for (const name of ['class', 'class', 'maker', 'maker']) await new AgentRegistry(app).getAgent(name)!.execute({ text: 'x' }, context)
  t.equal(made, 4)
})

t.test('what execute gets beside its input', async (t) => {
  const { app } = await startLegacy(t)
  let got: any
  new AgentRegistry(app).registerAgent('look', { description: 'Looks', execute: (input: unknown, context: unknown) => { got = { input, context } } })
  const instance = await agentInstanceFactory(app).create('look', { ...context, runId: 'mine', context: { plan: 'gold' } })
  await instance.execute([1])
  t.same(got.input, [1])
  const { signal, websocketManager, ...ids } = got.context
  const { runId, agentId, threadId } = instance
  t.same(ids, { plan: 'gold', userId: 'u', user_id: 'u', threadId, thread_id: threadId, runId, run_id: runId, agentId, agent_id: agentId })
  t.type(signal, AbortSignal)
  t.ok(websocketManager instanceof WebSocketManager)
  t.equal(app.agents.list()[0]!.description, 'Looks')
})

t.test('the user may be part of the input, in either spelling; nobody is refused', async (t) => {
  const { app, tab } = await startLegacy(t)
  new UniversalRegistry(app).registerAgent('echo', Echo)
  const handle = new UniversalRegistry(app).get('echo')!
  await handle.execute({ text: 'x', user_id: 'u', thread_id: 'thread_1' })
  await tab.frame('agent_completed')
  await t.rejects(handle.execute({ text: 'x' }), { code: 'FAE_ERR_USER_ID_INVALID' })
  await t.rejects(handle.execute(), { code: 'FAE_ERR_USER_ID_INVALID' })
})

t.test("threads of older code: registered on first use, never somebody else's", async (t) => {
  const started = await startLegacy(t)
  const { app } = started
  new AgentRegistry(app).registerAgent('echo', Echo)
  const factory = agentInstanceFactory(app)
  t.equal((await factory.create('echo', { userId: 'u', threadId: 'brand new' })).threadId, 'brand new')
  t.equal((await app.threads.list({ userId: 'u' })).length, 2)
  await t.rejects(factory.create('echo', { userId: 'eve', threadId: 'brand new' }), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
  await t.rejects(factory.create('nobody', context), { code: 'FAE_ERR_AGENT_NOT_FOUND', message: /echo/ })
  const mixedUp = await factory.create('echo', { userId: 'u', threadId: 'thread_1_run_1756919162904_9adf1f09' })
  t.equal(mixedUp.threadId, 'thread_1', "a run's id is not made a thread's")
  await t.rejects(factory.create('echo', { userId: 'eve', threadId: 'thread_1_run_1756919162904_9adf1f09' }), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
  const inbox = await factory.create('echo', { userId: 'u' })
  t.not(inbox.threadId, 'thread_1')
})

t.test('a message over the socket reaches a legacy agent', async (t) => {
  const { app, tab } = await startLegacy(t)
  app.agents.register(fromLegacyAgent(app, Echo, { name: 'echo', description: 'Echoes', inputSchema: Type.Object({ text: Type.String() }), fromMessage: ({ text }) => ({ text }) }))
  tab.send({ type: 'send', ref: 'm', threadId: 'thread_1', content: 'over the wire', clientMessageId: 'c1' })
  const { runId } = await tab.frame('accepted')
  t.same(await settled(tab, runId), ['user_message', 'agent_started', 'agent_thinking', 'agent_completed'])
  t.match((await tab.frame('agent_completed')).data, { status: 'success', result: 'over the wire' })
})

t.test('what is no agent or tool is refused by name', async (t) => {
  const { app } = await startLegacy(t)
  t.throws(() => { new AgentRegistry(app).registerAgent('x', {} as never) }, { code: 'FAE_ERR_AGENT_INVALID', message: /'x'.*execute/ })
  t.throws(() => { new AgentRegistry(app).registerAgent('x', 7 as never) }, { code: 'FAE_ERR_AGENT_INVALID' })
  t.throws(() => { new AgentRegistry(app).registerAgent('not a name', Echo) }, { code: 'FAE_ERR_AGENT_INVALID', message: /name must be/ })
  t.throws(() => { new ToolRegistry(app).registerTools([undefined as never]) }, { code: 'FAE_ERR_TOOL_INVALID' })
  t.throws(() => { new ToolRegistry(app).registerTools([{ name: 'x' }]) }, { code: 'FAE_ERR_TOOL_INVALID', message: /execute/ })
  new AgentRegistry(app).registerAgent('broken', (() => ({})) as never)
  await t.rejects(new AgentRegistry(app).getAgent('broken')!.execute({}, context), { code: 'FAE_ERR_RUN_FAILED' })
})

t.test('tools: within a run their calls are shown, outside of one a legacy tool just runs', async (t) => {
  const { app, tab } = await startLegacy(t)
  const tools = new ToolRegistry(app)
  tools.registerTools([
    { name: 'add', parameters: { type: 'object', properties: { a: { type: 'number' } } }, execute: ({ a, b }: { a: number, b: number }) => a + b },
    { name: 'runs', run: () => 'ran' },
    defineTool({ name: 'ours', description: 'd', execute: (_input, { toolCallId }) => toolCallId })
  ])
  t.match(app.tools.list()[0]!.inputSchema, { type: 'object', properties: { a: { type: 'number' } } }, 'the model still sees the schema')
  t.equal(await tools.getTool('add')!.execute({ a: 1, b: 2 }), 3)
  t.equal(await tools.getTool('runs')!.execute(), 'ran')
  await t.rejects(tools.getTool('ours')!.execute(), { code: 'FAE_ERR_TOOL_FAILED', message: /outside of a run/ })

  new AgentRegistry(app).registerAgent('sum', { async execute () { return [await tools.getTool('add')!.execute({ a: 3, b: 4 }), await tools.getTool('ours')!.execute()] } })
  const [sum, id] = await new AgentRegistry(app).getAgent('sum')!.execute({}, context) as [number, string]
  t.equal(sum, 7)
  const completed = await tab.frame('agent_completed')
  t.same(await settled(tab, completed.runId!), ['agent_started', 'tool_executing', 'tool_completed', 'tool_executing', 'tool_completed', 'agent_completed'])
  t.match((await tab.frame('tool_completed', ({ data }) => data.tool === 'ours')).data, { status: 'ok', toolCallId: id, output: id })
  t.same(legacyTraffic(app), { events: 0, custom: 0, swallowed: 0, misdirected: 0, diverted: 0, refused: 0 })
})

t.test('a cancelled run aborts its legacy agent', async (t) => {
  const { app, tab } = await startLegacy(t)
  let reached: (() => void) | undefined
  const waiting = new Promise<void>((resolve) => { reached = resolve })
  new AgentRegistry(app).registerAgent('slow', {
    execute: (_input: unknown, { signal }: { signal: AbortSignal }) => new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => { reject(new Error('aborted')) })
      reached!()
    })
  })
  const instance = await agentInstanceFactory(app).create('slow', context)
  const executed = t.rejects(instance.execute({}), { code: 'FAE_ERR_RUN_CANCELLED' })
  await waiting
  await instance.cancel()
  await executed
  t.match((await tab.frame('agent_completed')).data, { status: 'cancelled' })
})
