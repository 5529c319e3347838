import t, { type Test } from 'tap'
import { AgentRegistry, RegistrySwitch, WebSocketManager, legacyTraffic, type LegacyMessage, type RegistrySwitchOptions } from '../../../plugins/compat/index.js'
import { until } from '../../support/delivery.js'
import { brokenRules } from '../../support/run-rules.js'
import { startLegacy } from './helpers.js'

/** A gate that an agent waits at. */
function gate () {
  let open: () => void = () => {}
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { open, opened }
}

/** Both sides with one shared agent object that says something before and after its gate. */
async function bothSides (t: Test, options: Partial<RegistrySwitchOptions> = {}) {
  const started = await startLegacy(t)
  const { app } = started
  const gates = new Map<string, ReturnType<typeof gate>>()
  const sent: Array<[string | undefined, LegacyMessage]> = []
  const agent = {
    ws: undefined as { sendMessage (...args: unknown[]): Promise<boolean> } | undefined,
    setWebSocketManager (ws: WebSocketManager) { this.ws = ws },
    async execute ({ id }: { id: string }) {
      await this.ws!.sendMessage({ type: 'agent_thinking', thought: 'before' })
      await gates.get(id)?.opened
      await this.ws!.sendMessage({ type: 'agent_thinking', thought: 'after' })
      return id
    }
  }
  new AgentRegistry(app).registerAgent('talker', agent)
  const registry = new RegistrySwitch(app, {
    legacy: {
      create: (_name, { runId }) => ({ runId, execute: (input) => agent.execute(input as { id: string }) }),
      send: (target, message) => { sent.push([target, message]) }
    },
    ...options
  })
  return { ...started, registry, sent, agent, gateFor: (id: string) => { const made = gate(); gates.set(id, made); return made } }
}

const context = { userId: 'u', threadId: 'thread_1' }
const texts = (events: Array<{ type: string, data: any }>): string[] => events.map(({ type, data }) => data.text ?? type)

t.test('off by default', async (t) => {
  const { registry, sent, app } = await bothSides(t)
  const agent = await registry.create('talker', context)
  t.equal(agent.side, 'legacy')
  t.match(agent.runId, /^run_/)
  t.equal(await agent.execute({ id: 'x' }), 'x')
  t.same(sent, [[undefined, { type: 'agent_thinking', thought: 'before' }], [undefined, { type: 'agent_thinking', thought: 'after' }]])
  t.same(await app.notifier.history('thread_1'), [])
  t.equal(legacyTraffic(app).diverted, 2)
})

t.test('a run ends on the side on which it began, whatever the flag says meanwhile', async (t) => {
  const { app, registry, sent, tab, gateFor } = await bothSides(t, { useMasterRegistry: true })
  const [a, b] = [gateFor('a'), gateFor('b')]
  const onMaster = await registry.create('talker', { ...context, runId: 'ours' })
  const first = onMaster.execute({ id: 'a' })
  await tab.frame('agent_thinking')
  registry.useMasterRegistry = false
  const onLegacy = await registry.create('talker', { ...context, run_id: 'theirs' })
  t.same([onMaster.side, onMaster.runId, onLegacy.side, onLegacy.runId], ['master', 'ours', 'legacy', 'theirs'])
  const second = onLegacy.execute({ id: 'b' })
  await until(() => sent.length === 1)
  registry.useMasterRegistry = true
  b.open()
  await second
  registry.useMasterRegistry = false
  a.open()
  await first
  await tab.frame('agent_completed')
  t.same(texts(tab.events()), ['agent_started', 'before', 'after', 'agent_completed'])
  t.same(sent.map(([, { thought }]) => thought), ['before', 'after'])
  t.same(brokenRules(tab.events()), [])
  // Late messages, too.
  registry.useMasterRegistry = true
  await registry.sendMessage('thread_1', { type: 'agent_completed', run_id: 'theirs' })
  await new WebSocketManager(app).sendMessage('thread_1', { type: 'thanks', run_id: 'theirs' })
  t.same(sent.slice(2).map(([, { type }]) => type), ['agent_completed', 'thanks'])
})

t.test('by user and by agent; a function that throws means off', async (t) => {
  const { registry } = await bothSides(t, { useMasterRegistry: ({ userId, agent }) => userId === 'u' && agent === 'talker' })
  t.equal((await registry.create('talker', context)).side, 'master')
  t.equal((await registry.create('talker', { user_id: 'v' })).side, 'legacy')
  registry.useMasterRegistry = () => { throw new Error('the flag service is away') }
  t.equal((await registry.create('talker', context)).side, 'legacy')
  registry.useMasterRegistry = () => 'yes' as never
  t.equal((await registry.create('talker', context)).side, 'legacy', 'only true is on')
})

t.test('a message of no run goes to the side of its user', async (t) => {
  const { registry, sent, tab, app } = await bothSides(t, { useMasterRegistry: ({ userId }) => userId === 'u' })
  await app.threads.register({ userId: 'v', threadId: 'thread_v' })
  await registry.sendMessage('thread_1', { type: 'notice' })
  await tab.frame('custom')
  t.same(sent, [])
  await registry.send_message('thread_v', { type: 'notice' })
  await registry.notify('unknown', { type: 'notice' })
  await registry.sendToUser('v', 'notice', { text: 'x' })
  t.same(sent.map(([target]) => target), ['thread_v', 'unknown', 'v'])
  await registry.sendToUser('u', 'notice')
  t.equal(sent.length, 3)
  await registry.sendMessage({ type: 'notice', user_id: 'v' })
  t.equal(sent.length, 4)
})

t.test('an adapter that is none', async (t) => {
  const { app, registry } = await bothSides(t)
  t.throws(() => new RegistrySwitch(app, {} as never), { code: 'FAE_ERR_OPTION_INVALID' })
  t.throws(() => new RegistrySwitch(app, { legacy: { create () {} } } as never), { code: 'FAE_ERR_OPTION_INVALID' })
  t.throws(() => new RegistrySwitch(app, { legacy: { create () {}, send () {} } as never, useMasterRegistry: 'on' as never }), { code: 'FAE_ERR_OPTION_INVALID', message: /useMasterRegistry/ })
  await t.rejects(registry.sendMessage('thread_1', {}), { code: 'FAE_ERR_LEGACY_MESSAGE' })
})

t.test("what the host's own side rejects with, or answers, is the answer", async (t) => {
  const { app } = await startLegacy(t)
  const registry = new RegistrySwitch(app, { legacy: { create (name) { if (name === 'none') throw new Error('no such agent'); return { execute () { throw new Error('broken') } } }, send: () => false } })
  await t.rejects(registry.create('none', context), { message: 'no such agent' })
  const agent = await registry.create('some', context)
  await t.rejects(agent.execute(), { message: 'broken' })
  t.equal(await registry.sendMessage('thread_1', { type: 'x', run_id: agent.runId }), false)
})
