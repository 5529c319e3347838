import t from 'tap'
import { Type } from '@sinclair/typebox'
import type { EventData } from '../../../schemas/index.js'
import { EventEncoder, encodeScope, toJson } from '../../../plugins/websocket-notifier/encode.js'

const encoder = new EventEncoder(100_000)
const scope = encodeScope({ threadId: 't1', runId: 'r1', agentId: 'u1:triage:1' })
const completed = (result: unknown): EventData<'agent_completed'> => ({
  agent: 'triage', status: 'success', result, durationMs: 1, counts: { events: 2, tools: 0 }, firstSeq: 1
})
/** The result as whoever reads the event sees it. */
const seen = (result: unknown): unknown => (JSON.parse(encoder.encode(scope, 'agent_completed', completed(result))) as { data: { result?: unknown } }).data.result

t.test('an event is version, type, scope, time and data, in this order', async (t) => {
  const before = Date.now()
  const body = encoder.encode(encodeScope({ threadId: 't"1', runId: 'r1', agentId: 'a', parentRunId: 'r0' }), 'user_message', { messageId: 'm1', content: 'Grüße "👋"\u2028' })
  const event = JSON.parse(body) as Record<string, unknown>
  t.same(Object.keys(event), ['v', 'type', 'threadId', 'runId', 'agentId', 'parentRunId', 'timestamp', 'data'])
  t.match(event, { v: 1, type: 'user_message', threadId: 't"1', runId: 'r1', agentId: 'a', parentRunId: 'r0', data: { messageId: 'm1', content: 'Grüße "👋"\u2028' } })
  const at = Date.parse(event.timestamp as string)
  t.equal(new Date(at).toISOString(), event.timestamp)
  t.ok(at >= before && at <= Date.now())
  t.equal(encodeScope({ threadId: 't1' }), '"threadId":"t1"')
  t.ok(body.startsWith('{"v"'), 'the store puts id and seq in front')
})

t.test('the time goes on', async (t) => {
  const time = (): string => (JSON.parse(encoder.encode(scope, 'agent_completed', completed(1))) as { timestamp: string }).timestamp
  const first = time()
  const deadline = Date.now() + 5_000
  while (time() === first && Date.now() < deadline) await new Promise((resolve) => { setTimeout(resolve, 1) })
  t.ok(time() > first)
})

t.test('what JSON cannot say is replaced by rule', async (t) => {
  const circular: Record<string, unknown> = { name: 'loop', list: [1] }
  circular.self = circular
  ;(circular.list as unknown[]).push(circular)
  const shared = { twice: true }
  const throwing = { fine: 1, get bad () { throw new Error('no') } }
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  class Money { constructor (readonly cents: bigint) {} toJSON (): unknown { return { cents: this.cents } } }
  const selfish = { toJSON (): unknown { return selfish } }

  const cases: Array<readonly [what: string, value: unknown, expected: unknown]> = [
    ['undefined', undefined, undefined],
    ['a function', () => 1, undefined],
    ['a symbol', Symbol('x'), undefined],
    ['functions and symbols inside', { f () {}, s: Symbol('x'), u: undefined, list: [() => 1, Symbol('x'), undefined] }, { list: [null, null, null] }],
    ['not a number', [NaN, Infinity, -Infinity, -0], [null, null, null, 0]],
    ['a bigint', 12345678901234567890n, '12345678901234567890'],
    ['a bigint inside', { list: [{ n: 5n }], f () {} }, { list: [{ n: '5' }] }],
    ['a circle', circular, { name: 'loop', list: [1, '[Circular]'], self: '[Circular]' }],
    ['something that is there twice', [5n, shared, shared], ['5', shared, shared]],
    ['a date', new Date(0), '1970-01-01T00:00:00.000Z'],
    ['an invalid date', [new Date(NaN), 5n], [null, '5']],
    ['what says itself how', new Money(5n), { cents: '5' }],
    ['what says that it is itself', [selfish, 5n], ['[Circular]', '5']],
    ['what throws when it is read', { a: throwing, b: 2 }, { a: '[Unserializable]', b: 2 }],
    ['what throws when asked how', [{ toJSON () { throw new Error('no') } }, 1], ['[Unserializable]', 1]],
    ['a revoked proxy', { proxy, b: 2 }, { proxy: '[Unserializable]', b: 2 }],
    ['maps, sets and expressions', [new Map([[1, 2]]), new Set([1]), /x/, 5n], [{}, {}, {}, '5']],
    ['errors', { error: new Error('secret'), n: 5n }, { error: {}, n: '5' }],
    ['no prototype', Object.assign(Object.create(null), { a: 1, n: 5n }), { a: 1, n: '5' }],
    ['a lone surrogate', 'a\ud800b', 'a\ud800b'],
    ['null', null, null]
  ]
  for (const [what, value, expected] of cases) t.strictSame(seen(value), expected, what)
  t.equal(toJson({ error: new Error('x') }), '{"error":{}}')
  for (const nothing of [undefined, () => 1, Symbol('x')]) t.equal(toJson(nothing), 'null')
  const hostile = Object.assign(() => {}, { toJSON () { throw new Error('no') } })
  t.equal(toJson({ hostile, list: [hostile] }), '{"list":[null]}', 'functions are nothing, whatever they carry')
  t.equal(toJson(hostile), 'null')
  let asked = 0
  t.equal(toJson({ toJSON () { if (asked++ === 0) throw new Error('no') } }), 'null')
  const own = JSON.parse('{"__proto__": 1}') as Record<string, unknown>
  own.n = 5n
  t.equal(toJson(own), '{"__proto__":1,"n":"5"}')
})

t.test('depth without end is cut, not a crash', async (t) => {
  let deep: unknown = 'end'
  for (let i = 0; i < 50_000; i++) deep = { deep }
  t.match(JSON.stringify(seen(deep)), /^(\{"deep":){99}"\[Too deep\]"\}/)
  let list: unknown = 5n
  for (let i = 0; i < 50_000; i++) list = [list]
  t.match(JSON.stringify(seen(list)), /^\[{99}"\[Too deep\]"\]/)
  let shallow: unknown = 'end'
  for (let i = 0; i < 90; i++) shallow = [shallow]
  t.strictSame(seen(shallow), shallow)
})

t.test('what is too large is refused, counted in bytes of the whole event', async (t) => {
  const size = (text: string): number => Buffer.byteLength(encoder.encode(scope, 'user_message', { messageId: 'm', content: text }))
  for (const character of ['x', 'é', '€', '👋']) {
    const text = character.repeat(200)
    const bytes = size(text)
    const exact = new EventEncoder(bytes)
    t.equal(Buffer.byteLength(exact.encode(scope, 'user_message', { messageId: 'm', content: text })), bytes)
    t.throws(() => exact.encode(scope, 'user_message', { messageId: 'm', content: `${text}x` }), {
      code: 'FAE_ERR_EVENT_TOO_LARGE', statusCode: 413, message: `Event 'user_message' has ${bytes + 1} bytes, over maxEventBytes (${bytes})`
    })
    t.ok(exact.encode(scope, 'user_message', { messageId: 'm', content: `${text}x` }, Infinity), 'but for what has to have room')
  }
})

t.test('what does not fit its schema is refused, with its place', async (t) => {
  const bad = { messageId: 'm1', content: 5 } as unknown as EventData<'user_message'>
  t.throws(() => encoder.encode(scope, 'user_message', bad), { code: 'FAE_ERR_EVENT_INVALID', statusCode: 400, message: /^Event 'user_message' is invalid at 'content': / })
  t.throws(() => { encoder.check('agent_completed', { ...completed(1), status: 'done' }) }, { code: 'FAE_ERR_EVENT_INVALID', message: /'status'/ })
  t.throws(() => { encoder.check('agent_completed', undefined) }, { code: 'FAE_ERR_EVENT_INVALID' })
  t.throws(() => { encoder.check('nonsense' as 'custom', {}) }, { code: 'FAE_ERR_EVENT_INVALID' })
})

t.test('custom events are those that are registered, with the value that was promised', async (t) => {
  const custom = new EventEncoder(1_000, { progress: Type.Object({ percent: Type.Number({ maximum: 100 }) }), note: Type.String() })
  const say = (name: string, value: unknown): unknown => (JSON.parse(custom.encode(scope, 'custom', { name, value })) as { data: unknown }).data
  t.same(say('progress', { percent: 5 }), { name: 'progress', value: { percent: 5 } })
  t.same(say('note', 'x'), { name: 'note', value: 'x' })
  t.throws(() => say('progress', { percent: 101 }), { code: 'FAE_ERR_EVENT_INVALID', message: /at 'value\.percent'/ })
  t.throws(() => say('progress', 'much'), { code: 'FAE_ERR_EVENT_INVALID', message: /at 'value': expected an object/ })
  t.throws(() => say('other', 1), { code: 'FAE_ERR_EVENT_INVALID', message: /at 'name': 'other' is not registered in the option events; known are: progress, note/ })
  for (const name of ['constructor', 'toString', '__proto__']) t.throws(() => say(name, 1), { code: 'FAE_ERR_EVENT_INVALID' })
  t.throws(() => encoder.encode(scope, 'custom', { name: 'note', value: 1 }), { code: 'FAE_ERR_EVENT_INVALID', message: /known are: none/ })
})

t.test('a run begins also when its input is too large to be shown', async (t) => {
  const small = new EventEncoder(1_000)
  const started = (input: unknown): EventData<'agent_started'> => ({ agent: 'triage', messageId: 'm1', trigger: 'api', attempt: 1, input })
  t.same((JSON.parse(small.encodeStarted(scope, started({ a: 1 }))) as { data: unknown }).data, started({ a: 1 }))
  t.notOk('input' in (JSON.parse(small.encodeStarted(scope, started('x'.repeat(1_000)))) as { data: object }).data)
  t.throws(() => small.encodeStarted(scope, { agent: 5 } as unknown as EventData<'agent_started'>), { code: 'FAE_ERR_EVENT_INVALID' })
})

t.test('objects that all refer to each other do not take the process with them', async (t) => {
  const all: Array<{ others?: unknown[], big: bigint }> = Array.from({ length: 40 }, () => ({ big: 1n }))
  for (const one of all) one.others = [...all]
  const json = toJson(all)
  t.ok(json.length < 1_000_000)
  t.match(json, '[Too large]')
  JSON.parse(json)
})
