import t, { type Test } from 'tap'
import type { AgentEventsOptions } from '../../../index.js'
import { AgentRegistry, ToolRegistry, WebSocketManager, agentInstanceFactory, legacyTraffic, type LegacyContext } from '../../../plugins/compat/index.js'
import type { AgentEvent } from '../../../schemas/index.js'
import { until } from '../../support/delivery.js'
import { brokenRules } from '../../support/run-rules.js'
import { startLegacy, watchThread } from './helpers.js'

type Say = (ws: WebSocketManager, context: LegacyContext) => unknown

/** The events of one run of a legacy agent that says this. */
async function eventsOf (t: Test, say: Say, options: Partial<AgentEventsOptions> = {}, setUp?: (tools: ToolRegistry) => void) {
  const started = await startLegacy(t, options)
  setUp?.(new ToolRegistry(started.app))
  new AgentRegistry(started.app).registerAgent('talker', { execute: (_input: unknown, context: LegacyContext) => say(context.websocketManager, context) })
  const instance = await agentInstanceFactory(started.app).create('talker', { userId: 'u', threadId: 'thread_1', runId: 'legacy-run' })
  await instance.execute({})
  await started.tab.frame('agent_completed', ({ runId }) => runId === instance.runId)
  const events = started.tab.events().filter(({ runId }) => runId === instance.runId)
  t.same(brokenRules(started.tab.events()), [])
  return { ...started, instance, events: events.slice(1, -1), shown: events.slice(1, -1).map(({ type, data }) => [type, data] as [string, any]) }
}

t.test('snake_case, camelCase, payload or flat, any way to call: the same event', async (t) => {
  const { shown, app } = await eventsOf(t, async (ws, { runId, threadId }) => {
    await ws.sendMessage(threadId, { type: 'agent_thinking', run_id: runId, thought: 'one' })
    await ws.send_message({ type: 'agentThinking', runId, payload: { content: 'one' } })
    await ws.notify('agent.thinking', { text: 'one' })
    await ws.notify(threadId, 'AGENT_THINKING', { message: 'one' })
    await ws.send_to_thread(threadId, { type: 'agent-thinking', data: { reasoning: 'one' } })
    await ws.sendMessage('legacy-run', { type: 'thinking', delta: 'one' })
  })
  t.equal(shown.length, 6)
  for (const [type, { agent, kind, phase, text }] of shown) t.same([type, agent, kind, phase, text], ['agent_thinking', 'talker', 'status', 'full', 'one'])
  t.match(legacyTraffic(app), { events: 6, custom: 0, refused: 0 })
})

t.test('steps, answers, and what is left over as metadata', async (t) => {
  const { shown } = await eventsOf(t, async (ws) => {
    await ws.notify('agent_thinking', { thought: 'x', step: 'Reading', step_number: 2, total_steps: 5, confidence: 0.5 })
    await ws.notify('agent_thinking', { thought: { plan: 1 }, current_step: 3 })
    await ws.notify('agent_response', { content: 'Hello', agent_name: 'talker', tone: 'warm' })
    await ws.notify('partial_result', { content: 'Hel' })
  })
  t.match(shown[0]![1], { text: 'x', step: { name: 'Reading', index: 2, total: 5 }, metadata: { legacy: { confidence: 0.5 } } })
  t.match(shown[1]![1], { text: '{"plan":1}', step: { name: '3', index: 3 } })
  t.match(shown[2]!, ['assistant_message', { phase: 'full', text: 'Hello', metadata: { legacy: { tone: 'warm' } } }])
  t.notOk('agent_name' in shown[2]![1].metadata.legacy)
  t.match(shown[3]!, ['assistant_message', { text: 'Hel' }])
  t.not(shown[2]![1].partId, shown[3]![1].partId)
})

t.test('a text larger than an event comes in pieces', async (t) => {
  const long = 'ä'.repeat(5_000)
  const { shown } = await eventsOf(t, async (ws) => {
    await ws.notify('agent_response', { content: long })
    await ws.notify('agent_thinking', { thought: long })
  }, { maxEventBytes: 8_192 })
  for (const type of ['assistant_message', 'agent_thinking']) {
    const pieces = shown.filter(([of]) => of === type)
    t.same([pieces[0]![1].phase, pieces.at(-1)![1].phase], ['start', 'end'])
    t.equal(pieces.map(([, { text }]) => text as string).join(''), long)
  }
})

t.test('a tool that the agent runs itself: its two ends are one call', async (t) => {
  const { shown } = await eventsOf(t, async (ws) => {
    await ws.notify('tool_executing', { tool_name: 'grep', tool_args: { q: 1 } })
    await ws.notify('tool_executing', { tool_name: 'grep', arguments: { q: 2 }, call_id: 'c2' })
    await ws.notify('tool_completed', { tool_name: 'grep', result: 'second', call_id: 'c2', duration_ms: 12 })
    await ws.notify('tool_completed', { tool_name: 'grep', output: 'first' })
    await ws.notify('tool_started', { tool: 'cat' })
    await ws.notify('tool_result', { tool: 'cat', success: false, error: 'gone' })
    await ws.notify('tool_completed', { name: 'late', status: 'failed', error: { code: 'E1', message: 'm' } })
    await ws.notify('tool_executing', { tool_name: 'endless' })
  })
  t.match(shown[0], ['tool_executing', { tool: 'grep', phase: 'start', args: { q: 1 } }])
  t.match(shown[1], ['tool_executing', { toolCallId: 'c2', args: { q: 2 } }])
  t.match(shown[2], ['tool_completed', { toolCallId: 'c2', status: 'ok', output: 'second', durationMs: 12 }])
  t.match(shown[3], ['tool_completed', { toolCallId: shown[0]![1].toolCallId, output: 'first' }])
  t.match(shown[5], ['tool_completed', { tool: 'cat', status: 'error', error: { code: 'LEGACY_TOOL_FAILED', message: 'gone' } }])
  t.match(shown.slice(6, 8), [['tool_executing', { tool: 'late' }], ['tool_completed', { status: 'error', error: { code: 'E1', message: 'm' } }]], 'an end without a beginning gets one')
  t.match(shown[9], ['tool_completed', { tool: 'endless', status: 'cancelled' }], 'and a beginning its end')
})

t.test('a tool of the registry that the agent also announces is one call', async (t) => {
  let tools: ToolRegistry
  let manager: WebSocketManager
  const { shown, app } = await eventsOf(t, async (ws) => {
    manager = ws
    // Before the call, after it, in the middle of it, and around one that fails.
    await ws.notify('tool_executing', { tool_name: 'add', tool_args: { a: 1 } })
    await tools.getTool('add')!.execute({ a: 1 })
    await ws.notify('tool_completed', { tool_name: 'add', result: 2 })
    await tools.getTool('inner')!.execute({})
    await ws.notify('tool_completed', { tool_name: 'inner', result: 'x' })
    await ws.notify('tool_executing', { tool_name: 'broken' })
    await t.rejects(tools.getTool('broken')!.execute({}), { message: 'no' })
  }, {}, (given) => {
    tools = given
    const inner = { name: 'inner', execute: async () => { await manager!.notify('tool_executing', { tool_name: 'inner' }) } }
    given.registerTools([{ name: 'add', execute: ({ a }: { a: number }) => a + 1 }, inner, { name: 'broken', execute: () => { throw new Error('no') } }])
  })
  t.match(shown, [
    ['tool_executing', { tool: 'add', args: { a: 1 } }], ['tool_completed', { tool: 'add', status: 'ok', output: 2 }],
    ['tool_executing', { tool: 'inner' }], ['tool_completed', { tool: 'inner', status: 'ok' }],
    ['tool_executing', { tool: 'broken' }], ['tool_completed', { tool: 'broken', status: 'error', error: { message: 'no' } }]
  ])
  t.equal(shown.length, 6)
  t.equal(legacyTraffic(app).swallowed, 3)
})

t.test('a tool output larger than an event is cut', async (t) => {
  const { shown } = await eventsOf(t, async (ws) => {
    await ws.notify('tool_executing', { tool_name: 'dump' })
    await ws.notify('tool_completed', { tool_name: 'dump', result: 'x'.repeat(10_000) })
  }, { maxEventBytes: 8_192 })
  t.match(shown[1], ['tool_completed', { status: 'ok', truncated: { bytes: 10_002 } }])
})

t.test("the agent's own start and end are left out, counted, and said once by the registry", async (t) => {
  const { events, app, tab } = await eventsOf(t, async (ws, { threadId, runId }) => {
    await ws.sendMessage(threadId, { type: 'agent_started', run_id: runId })
    await ws.sendMessage(threadId, { type: 'agent_completed', run_id: runId })
    await ws.sendMessage(threadId, { type: 'agent_completed', run_id: 'legacy-run' })
  })
  t.same(events, [])
  t.match(legacyTraffic(app), { swallowed: 3, custom: 0 })
  // Also what comes after the end, as a caller sends it.
  await new WebSocketManager(app).sendMessage('thread_1', { type: 'agent_completed', run_id: 'legacy-run' })
  t.equal(legacyTraffic(app).swallowed, 4)
  t.equal(tab.events().filter(({ type }) => type === 'agent_completed').length, 1)
})

t.test('any other message of a run is a custom event of that run', async (t) => {
  const { events } = await eventsOf(t, (ws) => ws.sendMessage({ type: 'quota_warning', left: 3, nested: { camelCase: true } }))
  t.match(events, [{ type: 'custom', data: { name: 'legacy_message', value: { type: 'quota_warning', payload: { left: 3, nested: { camelCase: true } } } } }])
  const { events: wrapped } = await eventsOf(t, (ws) => ws.notify('quota_warning', { left: 3 }))
  t.match(wrapped, [{ data: { value: { type: 'quota_warning', payload: { left: 3 } } } }])
  const { events: textless } = await eventsOf(t, async (ws) => { await ws.notify('agent_thinking', {}); await ws.notify('tool_executing', { tool: 7 }) })
  t.match(textless, [{ type: 'custom', data: { value: { type: 'agent_thinking' } } }, { type: 'custom', data: { value: { type: 'tool_executing' } } }], 'a known type without what it needs, too')
})

t.test('outside of a run: the thread, the user, the run it names; else a clear error', async (t) => {
  const started = await startLegacy(t)
  const { app, tab } = started
  const manager = new WebSocketManager(app)
  t.equal(await manager.sendMessage('thread_1', { type: 'notice', text: 'a' }), true)
  await manager.sendMessage({ type: 'notice', thread_id: 'thread_1', text: 'b' })
  await manager.sendMessage('thread_1_run_1756919162904_9adf1f09', { type: 'agent_started', text: 'c' })
  await tab.until(() => tab.events().length === 3)
  t.same(tab.events().map((event: AgentEvent) => event.type === 'custom' ? (event.data.value as any).payload.text : event.type), ['a', 'b', 'c'], "a run of nobody's: its agent_started is a message like any other")

  await new WebSocketManager(app, { target: 'user' }).sendMessage('u', { type: 'notice' })
  await manager.sendToUser('u', { type: 'notice' })
  await manager.send_to_user('u', 'notice', {})
  await manager.sendMessage({ type: 'notice', user_id: 'u' })
  const inbox = await tab.frame('connected')
  t.equal((await app.notifier.history(inbox.inbox)).length, 4)

  await t.rejects(manager.sendMessage('nowhere', { type: 'notice' }), { code: 'FAE_ERR_THREAD_NOT_FOUND', message: /'nowhere'/ })
  await t.rejects(manager.sendMessage({ type: 'notice' }), { code: 'FAE_ERR_LEGACY_MESSAGE', message: /names none/ })
  await t.rejects(manager.sendMessage('thread_1', { type: '' }), { code: 'FAE_ERR_LEGACY_MESSAGE' })
  await t.rejects(manager.sendMessage({ text: 'no type' }), { code: 'FAE_ERR_LEGACY_MESSAGE' })
  await t.rejects(manager.sendMessage('thread_1', { text: 'no type' }), { code: 'FAE_ERR_LEGACY_MESSAGE' })
  t.throws(() => manager.sendMessage(null), { code: 'FAE_ERR_LEGACY_MESSAGE', message: /null/ })
  t.throws(() => manager.sendMessage(), { code: 'FAE_ERR_LEGACY_MESSAGE' })
  // Nobody waits for this one: it is counted, and the process lives.
  manager.sendMessage('nowhere', { type: 'notice' })
  await until(() => legacyTraffic(app).refused === 6)
})

t.test('after the end of its run a message is a custom event of its thread', async (t) => {
  const { app, tab } = await startLegacy(t)
  let kept: WebSocketManager | undefined
  new AgentRegistry(app).registerAgent('talker', () => ({ setWebSocketManager (ws: WebSocketManager) { kept = ws }, execute () {} }))
  const instance = await agentInstanceFactory(app).create('talker', { userId: 'u', threadId: 'thread_1' })
  await instance.execute({})
  await kept!.notify('agent_thinking', { thought: 'late' })
  await kept!.sendMessage('elsewhere', { type: 'notice', run_id: instance.runId })
  await kept!.notify('agent_completed', {})
  await tab.until(() => tab.events().filter(({ type }) => type === 'custom').length === 2)
  t.same(tab.events().map(({ type }) => type), ['agent_started', 'agent_completed', 'custom', 'custom'])
  t.match(legacyTraffic(app), { custom: 2, swallowed: 1 })
})

t.test('messages that name a run from outside of it, before it runs and while it does', async (t) => {
  const { app, tab } = await startLegacy(t)
  let go: (() => void) | undefined
  const held = new Promise<void>((resolve) => { go = resolve })
  new AgentRegistry(app).registerAgent('held', { execute: () => held })
  const instance = await agentInstanceFactory(app).create('held', { userId: 'u', threadId: 'thread_1', runId: 'legacy-run' })
  const manager = new WebSocketManager(app)
  await manager.sendMessage('thread_1', { type: 'agent_thinking', run_id: 'legacy-run', thought: 'created' })
  const executed = instance.execute({})
  await manager.sendMessage('whatever', { type: 'agent_thinking', run_id: instance.runId, thought: 'running' })
  go!()
  await executed
  await tab.frame('agent_completed')
  t.same(tab.events().map((event) => event.type === 'agent_thinking' ? event.data.text : event.type), ['agent_started', 'created', 'running', 'agent_completed'])
})

t.test('one shared object, many users at once, mixing up whose run it is: nobody gets what is not theirs', async (t) => {
  const started = await startLegacy(t)
  const { app } = started
  // As such agents are: the last run's ids in fields of the one object.
  const shared = {
    ws: undefined as WebSocketManager | undefined,
    runId: '',
    threadId: '',
    setWebSocketManager (ws: WebSocketManager) { this.ws = ws },
    async execute ({ secret }: { secret: string }, { runId, threadId }: LegacyContext) {
      this.runId = runId
      this.threadId = threadId
      await new Promise((resolve) => { setImmediate(resolve) })
      await this.ws!.sendMessage(this.threadId, { type: 'agent_thinking', run_id: this.runId, thought: secret })
      await this.ws!.sendMessage(this.threadId, { type: 'agent_response', content: secret })
      return secret
    }
  }
  new AgentRegistry(app).registerAgent('shared', shared)
  const users = Array.from({ length: 20 }, (_, i) => `user${i}`)
  const tabs = await Promise.all(users.map((user) => watchThread(t, started, user, `thread of ${user}`)))
  await Promise.all(users.map((userId) => new AgentRegistry(app).getAgent('shared')!.execute({ secret: `secret of ${userId}` }, { userId, threadId: `thread of ${userId}` })))
  for (const [i, tab] of tabs.entries()) {
    await tab.frame('agent_completed')
    t.same(tab.events().map((event) => 'text' in event.data ? event.data.text : event.type), ['agent_started', `secret of ${users[i]}`, `secret of ${users[i]}`, 'agent_completed'])
  }
  t.equal(legacyTraffic(app).misdirected, 38, 'all but the last user\'s')
})

t.test('from within a run: another thread of the same user is a thread of its own', async (t) => {
  const { app, tab } = await eventsOf(t, async (ws, { threadId }) => {
    await ws.sendMessage('thread_2', { type: 'notice', n: 1 })
    await ws.sendMessage(`${threadId}_run_1_ab`, { type: 'notice', n: 2 })
    await ws.sendToUser('friend', { type: 'notice', n: 3 })
    await ws.sendMessage('nowhere', { type: 'notice', n: 4 })
  }, { agents: [] }, undefined)
  t.same(tab.events().filter(({ type }) => type === 'custom').map((event: any) => event.data.value.payload.n), [1, 2, 4], 'thread_2 is not registered, so it stays')
  t.match(legacyTraffic(app), { misdirected: 2, custom: 1, events: 3 })

  const { app: second, tab: first } = await startLegacy(t)
  await second.threads.register({ userId: 'u', threadId: 'thread_2' })
  new AgentRegistry(second).registerAgent('talker', { execute: (_: unknown, { websocketManager }: LegacyContext) => websocketManager.sendMessage('thread_2', { type: 'notice' }) })
  await new AgentRegistry(second).getAgent('talker')!.execute({}, { userId: 'u', threadId: 'thread_1' })
  await first.frame('agent_completed')
  t.equal((await second.notifier.history('thread_2')).length, 1)
})
