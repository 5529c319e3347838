import t, { type Test } from 'tap'
import { defineAgent, Type, type AgentContext } from '../../../index.js'
import { connect } from '../../support/connect.js'
import { startApp } from '../../support/start-app.js'
import { watchRun } from '../../support/watch-run.js'

const agent = (run: (ctx: AgentContext<any, any>) => unknown, more: object = {}) => defineAgent({ name: 'a', description: '', ...more, run: (_input, ctx) => run(ctx) })

/** Whatever an agent does, its run has one beginning and one end, and leaves nothing. */
function oneEnd (t: Test, { events, app }: Awaited<ReturnType<typeof watchRun>>) {
  t.equal(events.filter(({ type }) => type === 'agent_started').length, 1)
  t.equal(events.filter(({ type }) => type === 'agent_completed').length, 1)
  t.equal(events.at(-1)!.type, 'agent_completed', 'nothing follows it')
  t.same(app.agents.active(), [])
}

const unprintable = Object.create(null)
const hostile = { get message (): string { throw new Error('no') }, get code (): string { throw new Error('no') } }

const thrown: Array<[what: string, value: unknown, code: string, message: string | RegExp]> = [
  ['an error', new Error('broken'), 'FAE_ERR_RUN_FAILED', 'broken'],
  ['an error with a code', Object.assign(new Error('gone'), { code: 'ENOENT' }), 'ENOENT', 'gone'],
  ['undefined', undefined, 'FAE_ERR_RUN_FAILED', 'thrown: undefined'],
  ['null', null, 'FAE_ERR_RUN_FAILED', 'thrown: null'],
  ['a string', 'plain', 'FAE_ERR_RUN_FAILED', 'thrown: plain'],
  ['a symbol', Symbol('s'), 'FAE_ERR_RUN_FAILED', 'thrown: Symbol(s)'],
  ['an object that no string can be made of', unprintable, 'FAE_ERR_RUN_FAILED', /thrown/],
  ['an object whose properties throw', hostile, 'FAE_ERR_RUN_FAILED', /thrown/],
  ['an error with an endless message', new Error('x'.repeat(1_000_000)), 'FAE_ERR_RUN_FAILED', /^x+…?$/]
]

for (const [what, value, code, message] of thrown) {
  t.test(`B3: an agent that throws ${what}`, async (t) => {
    for (const run of [() => { throw value }, async () => { await null; throw value }]) {
      const watched = await watchRun(t, agent(run))
      t.match(watched.completed.data, { status: 'error', error: { code, message } })
      t.equal(watched.error!.code, 'FAE_ERR_RUN_FAILED')
      t.equal(watched.error!.cause, value, 'execute() rejects with it as cause')
      oneEnd(t, watched)
    }
  })
}

t.test('B3: an agent that returns undefined', async (t) => {
  const watched = await watchRun(t, agent(() => undefined))
  t.equal(watched.completed.data.status, 'success')
  t.notOk('result' in watched.completed.data)
  t.equal(watched.result, undefined)
  t.equal(watched.error, undefined)
  oneEnd(t, watched)
})

t.test('B3: an agent that never settles', async (t) => {
  let signal: AbortSignal | undefined
  const watched = await watchRun(t, agent((ctx) => { signal = ctx.signal; return new Promise(() => {}) }, { timeoutMs: 20 }))
  t.match(watched.completed.data, { status: 'timeout', error: { code: 'FAE_ERR_RUN_TIMEOUT', message: /20 ms/ } })
  t.equal(watched.error!.code, 'FAE_ERR_RUN_TIMEOUT')
  t.equal(signal!.aborted, true)
  oneEnd(t, watched)
})

t.test('B3: an agent that is created and never executed', async (t) => {
  const { app, url } = await startApp(t, { agents: [agent(() => 1)], createdTimeoutMs: 20 })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  const instance = await app.agents.createForUser('a', { userId: 'u', threadId })
  t.match(await tab.frame('agent_completed'), { data: { status: 'timeout', error: { code: 'FAE_ERR_RUN_TIMEOUT', message: /never executed/ } } })
  await t.rejects(instance.execute({ message: '' }), { code: 'FAE_ERR_RUN_STATE' })
  t.same(app.agents.active(), [])
})

t.test('a run executes once', async (t) => {
  const { app } = await startApp(t, { agents: [agent(() => 1)] })
  const instance = await app.agents.createForUser('a', { userId: 'u' })
  const first = instance.execute({ message: '' })
  await t.rejects(instance.execute({ message: '' }), { code: 'FAE_ERR_RUN_STATE', message: /running/ })
  t.equal(await first, 1)
  await t.rejects(instance.execute({ message: '' }), { code: 'FAE_ERR_RUN_STATE', message: /success/ })
})

t.test('a result that is too large is how the run ended', async (t) => {
  const watched = await watchRun(t, agent(() => 'x'.repeat(5_000)), { options: { maxEventBytes: 4_096 } })
  t.match(watched.completed.data, { status: 'error', error: { code: 'FAE_ERR_EVENT_TOO_LARGE', message: /agent_completed.*4096/ } })
  t.notOk('result' in watched.completed.data)
  t.match(watched.error, { code: 'FAE_ERR_RUN_FAILED', cause: { code: 'FAE_ERR_EVENT_TOO_LARGE' } })
  oneEnd(t, watched)
})

t.test('a result that JSON cannot say is replaced by rule', async (t) => {
  const circle: Record<string, unknown> = { big: 10n, f () {}, nothing: undefined, date: new Date(0) }
  circle.self = circle
  const watched = await watchRun(t, agent(() => circle))
  t.same(watched.completed.data.result, { big: '10', date: '1970-01-01T00:00:00.000Z', self: '[Circular]' })
  t.equal(watched.result, circle, 'execute() resolves with the value itself')
  oneEnd(t, watched)
})

t.test('input and result are checked', async (t) => {
  const strict = agent(() => ({ n: 'one' }), { inputSchema: Type.Object({ n: Type.Number() }), outputSchema: Type.Object({ n: Type.Number() }) })
  const wrongResult = await watchRun(t, strict, { input: { n: 1 } })
  t.match(wrongResult.completed.data, { status: 'error', error: { code: 'FAE_ERR_AGENT_OUTPUT', message: /'a'.*at 'n': expected a number, found "one"/ } })
  t.equal(wrongResult.error!.code, 'FAE_ERR_AGENT_OUTPUT')
  oneEnd(t, wrongResult)
  const wrongInput = await watchRun(t, strict, { input: { n: '1' } })
  t.match(wrongInput.completed.data, { status: 'error', error: { code: 'FAE_ERR_AGENT_INPUT', message: /'a'.*at 'n': expected a number/ } })
  t.equal(wrongInput.error!.code, 'FAE_ERR_AGENT_INPUT')
  oneEnd(t, wrongInput)
  const { app } = wrongInput
  await t.rejects(app.agents.run('a', { userId: 'u', input: {} }), { code: 'FAE_ERR_AGENT_INPUT' }, 'run() refuses it before it starts')
})

t.test('an emit after the end is refused, counted and never unhandled', async (t) => {
  let late: AgentContext<any, any>
  const { app, tab, events } = await watchRun(t, agent((ctx) => { late = ctx }))
  const unhandled: unknown[] = []
  const listener = (error: unknown) => { unhandled.push(error) }
  process.on('unhandledRejection', listener)
  t.teardown(() => { process.off('unhandledRejection', listener) })
  for (const emit of [() => late.say('x'), () => late.think('x'), () => late.emit('x', 1), () => late.callTool('x', {}), () => late.say((async function * () { yield 'a' })())]) {
    emit()
    await t.rejects(emit(), { code: 'FAE_ERR_RUN_ENDED' })
  }
  await new Promise((resolve) => { setImmediate(resolve) })
  t.same(unhandled, [])
  t.ok(app.notifier.refused >= 8)
  t.equal(tab.events().length, events.length)
})
