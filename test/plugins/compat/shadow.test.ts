import t, { type Test } from 'tap'
import { defineAgent, defineTool, Type } from '../../../index.js'
import { RegistrySwitch, type Difference } from '../../../plugins/compat/index.js'
import { until } from '../../support/delivery.js'
import { startLegacy } from './helpers.js'

const search = defineTool({ name: 'search', description: 'd', execute () { throw new Error('a shadow runs nothing') } })
const known = defineAgent({ name: 'known', description: 'd', tools: [search], inputSchema: Type.Object({ n: Type.Integer() }), run () { throw new Error('a shadow runs nothing') } })

type Say = (send: (target: string | undefined, message: Record<string, unknown>) => Promise<boolean>) => unknown

/** What a legacy run that says this would have done otherwise. */
async function differencesOf (t: Test, say: Say, { agent = 'known', input = { n: 1 } as unknown, context = {} as Record<string, unknown> } = {}): Promise<Difference[]> {
  const { app } = await startLegacy(t, { agents: [known] })
  await app.threads.register({ userId: 'eve', threadId: 'thread of eve' })
  const seen: Difference[] = []
  let runs = 0
  const registry: RegistrySwitch = new RegistrySwitch(app, {
    shadow: true,
    onDifference: (difference) => { seen.push(difference) },
    legacy: {
      create: (_name, { runId }) => ({ runId, execute: async () => { runs++; await say((target, message) => target === undefined ? registry.sendMessage(message) : registry.sendMessage(target, message)) } }),
      send: () => true
    }
  })
  const instance = await registry.create(agent, { userId: 'u', threadId: 'thread_1', runId: 'thread_1_run_7', ...context })
  await instance.execute(input)
  t.equal(runs, 1, 'run once')
  // A judgement beside the run: asked of the registry itself until it stands still.
  for (let before = -1; before !== seen.length;) {
    before = seen.length
    for (let i = 0; i < 20; i++) await new Promise((resolve) => { setImmediate(resolve) })
  }
  t.same(await app.notifier.history('thread_1'), [], 'nothing is stored')
  t.equal(app.agents.active().length, 0)
  t.same(registry.differences, seen)
  return seen
}

const whole: Say = async (send) => {
  await send('thread_1', { type: 'agent_started', run_id: 'thread_1_run_7' })
  await send('thread_1', { type: 'agent_thinking', thought: 'x' })
  await send('thread_1', { type: 'tool_executing', tool_name: 'search' })
  await send('thread_1', { type: 'tool_completed', tool_name: 'search', result: 1 })
  await send('thread_1', { type: 'agent_response', content: 'x' })
  await send('thread_1', { type: 'agent_completed' })
}
const brief = (differences: Difference[]): string[] => differences.map(({ rule, code }) => `${rule} ${code}`)

t.test('a run without faults differs in nothing', async (t) => {
  t.same(await differencesOf(t, whole), [])
})

t.test('creation: an unknown agent, no user, a foreign thread, a run id as thread id, input that does not fit', async (t) => {
  t.same(brief(await differencesOf(t, whole, { agent: 'unknown' })), ['creation FAE_ERR_AGENT_NOT_FOUND'])
  t.ok(brief(await differencesOf(t, whole, { context: { userId: undefined } })).includes('creation FAE_ERR_USER_ID_INVALID'))
  t.ok(brief(await differencesOf(t, whole, { context: { threadId: 'thread of eve' } })).includes('creation FAE_ERR_THREAD_NOT_FOUND'))
  t.ok(brief(await differencesOf(t, whole, { context: { threadId: 'thread_1_run_7' } })).includes('routing run_id_as_thread_id'))
  t.match(await differencesOf(t, whole, { input: { n: 'one' } }), [{ rule: 'schema', code: 'FAE_ERR_AGENT_INPUT', message: /'n'/ }])
})

t.test('routing: to a run id, to nobody, to somebody else', async (t) => {
  const to = (target: string): Say => async (send) => {
    await send('thread_1', { type: 'agent_started' })
    await send(target, { type: 'agent_thinking', thought: 'x' })
    await send('thread_1', { type: 'agent_completed' })
  }
  t.match(await differencesOf(t, to('thread_1_run_7')), [{ rule: 'routing', code: 'run_id_as_thread_id', type: 'agent_thinking', agent: 'known', userId: 'u', runId: 'thread_1_run_7' }])
  t.same(brief(await differencesOf(t, to('nowhere'))), ['routing FAE_ERR_THREAD_NOT_FOUND'])
  t.same(brief(await differencesOf(t, to('thread of eve'))), ['routing other_users_thread'])
  t.same(brief(await differencesOf(t, to('u'))), [], "the user's own id")
})

t.test('schema: too large, not what it says it is, a tool that nobody knows', async (t) => {
  const between = (...messages: Array<Record<string, unknown>>): Say => async (send) => {
    await send('thread_1', { type: 'agent_started' })
    for (const message of messages) await send('thread_1', message)
    await send('thread_1', { type: 'agent_completed' })
  }
  t.same(brief(await differencesOf(t, between({ type: 'notice', text: 'x'.repeat(200_000) }))), ['schema FAE_ERR_EVENT_TOO_LARGE'])
  t.same(brief(await differencesOf(t, between({ type: 'agent_thinking' }))), ['schema legacy_message'])
  t.same(brief(await differencesOf(t, between({ type: 'tool_executing', tool_name: 'magic' }, { type: 'tool_completed', tool_name: 'magic' }))), ['schema FAE_ERR_TOOL_NOT_FOUND'])
})

t.test('sequence: too early, twice, after the end, never', async (t) => {
  t.same(brief(await differencesOf(t, () => {})), ['sequence no_agent_started', 'sequence no_agent_completed'])
  t.same(brief(await differencesOf(t, async (send) => {
    await send('thread_1', { type: 'agent_thinking', thought: 'x' })
    await send('thread_1', { type: 'agent_started' })
    await send('thread_1', { type: 'agent_started' })
    await send('thread_1', { type: 'tool_completed', tool_name: 'search' })
    await send('thread_1', { type: 'tool_executing', tool_name: 'search' })
    await send('thread_1', { type: 'agent_completed' })
    await send('thread_1', { type: 'agent_response', content: 'x' })
    await send('thread_1', { type: 'agent_completed' })
  })), [
    'sequence before_agent_started', 'sequence agent_started_twice', 'sequence no_tool_executing', 'sequence FAE_ERR_RUN_ENDED', 'sequence agent_completed_twice', 'sequence no_tool_completed'
  ])
})

t.test('without a listener the differences are logged and kept; a shadow that fails is only logged', async (t) => {
  const { app } = await startLegacy(t, { agents: [known] })
  const registry = new RegistrySwitch(app, { shadow: true, legacy: { create: () => ({ execute () {} }), send () {} } })
  const agent = await registry.create('known', { userId: 'u' })
  await agent.execute({ n: 1 })
  await until(() => registry.differences.length === 2)
  const failing = new RegistrySwitch(app, { shadow: true, onDifference () { throw new Error('full') }, legacy: { create: () => ({ execute: () => 'done' }), send () {} } })
  t.equal(await (await failing.create('unknown', { userId: 'u' })).execute(), 'done')
})
