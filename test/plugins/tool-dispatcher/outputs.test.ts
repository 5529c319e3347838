import t from 'tap'
import { defineAgent, defineTool, Type } from '../../../index.js'
import { watchRun } from '../../support/watch-run.js'

/** One call of one tool that returns this. */
async function outputOf (t: { teardown (fn: () => unknown): void }, output: unknown, more: object = {}, options: object = {}) {
  const tool = defineTool({ name: 'tool', description: '', ...more, execute: () => output })
  const agent = defineAgent({ name: 'a', description: '', tools: [tool], run: (_input, ctx) => ctx.callTool('tool', {}) })
  const watched = await watchRun(t, agent, { options })
  return { ...watched, data: watched.of('tool_completed')[0]!.data, executing: watched.of('tool_executing').length }
}

t.test('a tool that returns undefined', async (t) => {
  const { data, result, completed } = await outputOf(t, undefined)
  t.equal(data.status, 'ok')
  t.notOk('output' in data)
  t.equal(result, undefined)
  t.equal(completed.data.status, 'success')
})

t.test('output that JSON cannot say is replaced by rule, and the agent gets the value itself', async (t) => {
  const circle: Record<string, unknown> = { n: 10n, f () {}, symbol: Symbol('x'), date: new Date(0), nan: NaN, map: new Map([[1, 2]]), list: [1n, undefined] }
  circle.self = circle
  circle.inner = { back: circle }
  const { data, tab } = await outputOf(t, circle)
  t.equal(data.status, 'ok')
  t.same(data.output, { n: '10', date: '1970-01-01T00:00:00.000Z', nan: null, map: {}, list: ['1', null], self: '[Circular]', inner: { back: '[Circular]' } })
  t.equal(tab.closeCode, undefined)
})

t.test('output whose properties throw', async (t) => {
  const { data } = await outputOf(t, { good: 1, inner: { get bad (): string { throw new Error('no') } } })
  t.same(data.output, { good: 1, inner: '[Unserializable]' })
})

t.test('output without end', async (t) => {
  let deep: unknown = 1
  for (let i = 0; i < 100_000; i++) deep = { deep }
  const { data, completed } = await outputOf(t, deep)
  t.equal(data.status, 'ok')
  t.match(JSON.stringify(data.output), /\[Too deep\]/)
  t.equal(completed.data.status, 'success')
})

t.test('oversized output is cut and says how large it was', async (t) => {
  for (const output of ['x'.repeat(100_000), { text: '"'.repeat(100_000) }, '日'.repeat(100_000), '🧵'.repeat(50_000), ['\u0000'.repeat(100_000)]]) {
    const { data, result, events, completed } = await outputOf(t, output, {}, { maxEventBytes: 16_384 })
    t.equal(data.status, 'ok')
    t.same(data.truncated, { bytes: Buffer.byteLength(JSON.stringify(output)) })
    t.ok(JSON.stringify(output).startsWith((data.output as string).slice(0, -1)), 'the beginning of its JSON')
    t.ok((data.output as string).length > 1_000)
    for (const event of events) t.ok(Buffer.byteLength(JSON.stringify(event)) <= 16_384 + 200, 'no event over the limit, its id aside')
    t.equal(completed.data.status, 'error', 'as a result it is too large, which is said')
    t.match(completed.data.error, { code: 'FAE_ERR_EVENT_TOO_LARGE' })
    t.equal(result, undefined)
  }
})

t.test('output that does not match outputSchema', async (t) => {
  const outputSchema = Type.Object({ text: Type.String() })
  const bad = await outputOf(t, { text: 1 }, { outputSchema })
  t.match(bad.data, { status: 'error', error: { code: 'FAE_ERR_TOOL_OUTPUT', message: /'tool'.*at 'text': expected a string, found number 1/ } })
  t.match(bad.error, { code: 'FAE_ERR_RUN_FAILED', cause: { code: 'FAE_ERR_TOOL_OUTPUT' } })
  const good = await outputOf(t, { text: 'x' }, { outputSchema })
  t.match(good.data, { status: 'ok', output: { text: 'x' } })
  t.same(good.result, { text: 'x' })
  const none = await outputOf(t, undefined, { outputSchema })
  t.match(none.data, { status: 'error', error: { code: 'FAE_ERR_TOOL_OUTPUT', message: /found nothing/ } })
})

t.test('arguments that JSON cannot say', async (t) => {
  const circle: Record<string, unknown> = { n: 1n }
  circle.self = circle
  let got: unknown
  const tool = defineTool({ name: 'tool', description: '', execute (input) { got = input } })
  const agent = defineAgent({ name: 'a', description: '', tools: [tool], run: (_input, ctx) => ctx.callTool('tool', circle) })
  const { of } = await watchRun(t, agent)
  t.same(of('tool_executing')[0]!.data.args, { n: '1', self: '[Circular]' })
  t.equal(got, circle)
})
