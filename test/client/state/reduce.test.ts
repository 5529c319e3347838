import t from 'tap'
import fc from 'fast-check'
import { initialState, reduce, reset, withStatus, type ThreadState } from '../../../client/state/index.js'
import type { AgentEvent } from '../../../client/index.js'
import type { AgentEvent as StoredEvent } from '../../../schemas/index.js'
import { Log } from './events.js'

const fold = (events: readonly StoredEvent[], state = initialState()) => (events as AgentEvent[]).reduce((before, event) => reduce(before, event), state)
const next = (state: ThreadState, event: StoredEvent) => reduce(state, event as AgentEvent)
const plain = (state: ThreadState) => JSON.parse(JSON.stringify(state))

/** A question, a thought, two calls of one tool that finish in reverse, an answer in pieces, and a custom event. */
function wholeRun (): Log {
  const log = new Log()
  log.add('user_message', { messageId: 'u1', content: 'ping' }, { runId: 'r' })
  log.start('r')
  log.think('r', 'th', 'start', 'Look')
  log.think('r', 'th', 'delta', 'ing')
  log.think('r', 'th', 'end', ' it up')
  for (const toolCallId of ['c1', 'c2']) log.add('tool_executing', { agent: 'triage', toolCallId, tool: 'search', phase: 'start', args: { query: toolCallId }, attempt: 1 }, { runId: 'r' })
  log.add('tool_executing', { agent: 'triage', toolCallId: 'c1', tool: 'search', phase: 'progress', progress: 0.5, progressText: 'half', attempt: 1 }, { runId: 'r' })
  log.add('tool_completed', { agent: 'triage', toolCallId: 'c2', tool: 'search', status: 'ok', output: { answer: 'C2' }, durationMs: 2 }, { runId: 'r' })
  log.add('tool_completed', { agent: 'triage', toolCallId: 'c1', tool: 'search', status: 'timeout', error: { code: 'FAE_ERR_TOOL_TIMEOUT', message: 'too slow' }, durationMs: 9 }, { runId: 'r' })
  log.say('r', 'p', 'start', 'He')
  log.say('r', 'p', 'delta', 'll')
  log.add('custom', { name: 'score', value: 7 }, { runId: 'r' })
  log.say('r', 'p', 'end', 'o')
  log.complete('r', { result: { answer: 'Hello' }, usage: [{ model: 'm', inputTokens: 1 }] })
  return log
}

t.test('a whole run becomes a question and an answer', async (t) => {
  const { events } = wholeRun()
  const state = fold(events)
  t.same(plain(state).messages, [
    { id: 'u1', role: 'user', runId: 'r', parts: [{ type: 'text', id: 'u1', text: 'ping', state: 'done' }] },
    {
      id: 'm-r',
      role: 'assistant',
      runId: 'r',
      parts: [
        { type: 'thinking', id: 'th', kind: 'reasoning', text: 'Looking it up', state: 'done' },
        { type: 'tool', id: 'c1', toolCallId: 'c1', tool: 'search', attempt: 1, state: 'timeout', args: { query: 'c1' }, error: { code: 'FAE_ERR_TOOL_TIMEOUT', message: 'too slow' }, durationMs: 9 },
        { type: 'tool', id: 'c2', toolCallId: 'c2', tool: 'search', attempt: 1, state: 'ok', args: { query: 'c2' }, output: { answer: 'C2' }, durationMs: 2 },
        { type: 'text', id: 'p', text: 'Hello', state: 'done' },
        { type: 'custom', id: events[12]!.id, name: 'score', value: 7 }
      ]
    }
  ])
  t.same(plain(state).runs, [
    { runId: 'r', agent: 'triage', status: 'success', startedAt: '2026-01-01T12:00:00.000Z', result: { answer: 'Hello' }, usage: [{ model: 'm', inputTokens: 1 }], durationMs: 5 }
  ])
  t.equal(state.cursor, events.at(-1)!.id)
  t.equal(state.status, 'idle')
})

t.test('text', async (t) => {
  const textOf = (log: Log) => fold(log.events).messages[0]!.parts.map((part) => part.type === 'text' ? [part.text, part.state] : [])

  t.test('is streaming until its end', async (t) => {
    const log = new Log()
    log.say('r', 'p', 'start', 'a')
    t.same(textOf(log), [['a', 'streaming']])
    log.say('r', 'p', 'delta', 'b')
    t.same(textOf(log), [['ab', 'streaming']])
    log.say('r', 'p', 'end', '')
    t.same(textOf(log), [['ab', 'done']])
  })

  t.test('says why it ended, and which step a thought belongs to', async (t) => {
    const log = new Log()
    log.add('agent_thinking', { agent: 'triage', thinkingId: 'th', kind: 'status', phase: 'start', text: 'a', step: { name: 'plan', index: 0, total: 2 } }, { runId: 'r' })
    log.add('agent_thinking', { agent: 'triage', thinkingId: 'th', kind: 'status', phase: 'end', text: 'b' }, { runId: 'r' })
    log.add('assistant_message', { agent: 'triage', messageId: 'm', partId: 'p', phase: 'full', text: 'cut', finishReason: 'length' }, { runId: 'r' })
    t.same(fold(log.events).messages[0]!.parts, [
      { type: 'thinking', id: 'th', kind: 'status', text: 'ab', state: 'done', step: { name: 'plan', index: 0, total: 2 } },
      { type: 'text', id: 'p', text: 'cut', state: 'done', finishReason: 'length' }
    ])
  })

  t.test('a full one stands alone', async (t) => {
    const log = new Log()
    log.say('r', 'p', 'start', 'a')
    log.say('r', 'p', 'full', 'b')
    log.say('r', 'q', 'full', 'c')
    t.same(textOf(log), [['b', 'done'], ['c', 'done']])
  })

  t.test('blocks of two runs that speak at the same time do not mix, even with one id', async (t) => {
    const log = new Log()
    for (const phase of ['start', 'delta', 'end'] as const) {
      for (const runId of ['r1', 'r2']) log.say(runId, 'p', phase, runId)
    }
    t.same(fold(log.events).messages.map(({ id, parts }) => [id, (parts[0] as { text: string }).text]), [['m-r1', 'r1r1r1'], ['m-r2', 'r2r2r2']])
  })

  t.test('a thought and a text may share an id', async (t) => {
    const log = new Log()
    log.think('r', 'x', 'full', 'hm')
    log.say('r', 'x', 'full', 'so')
    t.same(fold(log.events).messages[0]!.parts.map(({ type }) => type), ['thinking', 'text'])
  })
})

t.test('a user sends parts', async (t) => {
  const log = new Log()
  log.add('user_message', { messageId: 'u', content: [{ type: 'text', text: 'see' }, { type: 'file', mediaType: 'image/png', url: 'https://x/y.png', filename: 'y.png' }] })
  t.same(fold(log.events).messages, [{
    id: 'u',
    role: 'user',
    parts: [{ type: 'text', id: 'u-0', text: 'see', state: 'done' }, { type: 'file', id: 'u-1', mediaType: 'image/png', url: 'https://x/y.png', filename: 'y.png' }]
  }])
})

t.test('a tool call from its first argument on', async (t) => {
  const log = new Log()
  const call = { agent: 'triage', toolCallId: 'c', tool: 'search', attempt: 2 }
  const part = () => fold(log.events).messages[0]!.parts[0]
  log.add('tool_executing', { ...call, phase: 'input_delta', argsText: '{"q' }, { runId: 'r' })
  log.add('tool_executing', { ...call, phase: 'input_delta', argsText: '":1}' }, { runId: 'r' })
  t.match(part(), { state: 'input', argsText: '{"q":1}' })
  log.add('tool_executing', { ...call, phase: 'start', title: 'Searching', args: { q: 1 } }, { runId: 'r' })
  t.match(part(), { state: 'running', args: { q: 1 }, title: 'Searching', argsText: undefined })
  log.add('tool_executing', { ...call, phase: 'progress', progress: 0.5, progressText: 'half' }, { runId: 'r' })
  t.match(part(), { state: 'running', args: { q: 1 }, title: 'Searching', progress: 0.5, progressText: 'half' })
  for (const status of ['ok', 'error', 'denied', 'cancelled', 'timeout'] as const) {
    const completed = log.add('tool_completed', { agent: 'triage', toolCallId: 'c', tool: 'search', status, ...(status === 'ok' ? { output: 2 } : { error: { code: 'X', message: 'x' } }), durationMs: 3 }, { runId: 'r' })
    t.match(part(), { state: status, attempt: 2, title: 'Searching', args: { q: 1 }, durationMs: 3, ...(status === 'ok' ? { output: 2 } : { error: { code: 'X' } }) })
    log.events.splice(log.events.indexOf(completed), 1)
  }
})

t.test('an output that was cut says so', async (t) => {
  const log = new Log()
  log.add('tool_completed', { agent: 'triage', toolCallId: 'c', tool: 'search', status: 'ok', output: 'long …', durationMs: 2, truncated: { bytes: 200_000 } }, { runId: 'r' })
  t.match(fold(log.events).messages[0]!.parts, [{ state: 'ok', output: 'long …', truncated: { bytes: 200_000 } }])
})

t.test('runs', async (t) => {
  t.test('nothing but agent_completed ends one', async (t) => {
    const { events } = wholeRun()
    for (const event of events.slice(1, -1)) t.equal(fold(events.slice(0, events.indexOf(event) + 1)).runs[0]!.status, 'running', event.type)
    t.equal(withStatus(fold(events.slice(0, -1)), 'closed').runs[0]!.status, 'running', 'nor does the end of the connection')
  })

  t.test('each end, and who started it', async (t) => {
    for (const status of ['error', 'cancelled', 'timeout', 'lost'] as const) {
      const log = new Log()
      log.start('child', 'triage', 'parent')
      log.complete('child', { status, ...(status === 'cancelled' ? { reason: 'enough' } : { error: { code: 'X', message: 'x' } }) })
      t.match(fold(log.events).runs, [{ runId: 'child', parentRunId: 'parent', agent: 'triage', status, durationMs: 5, ...(status === 'cancelled' ? { reason: 'enough' } : { error: { code: 'X' } }) }])
    }
  })

  t.test('one that is started again began when it began', async (t) => {
    const log = new Log()
    log.start('r')
    log.say('r', 'p', 'full', 'x')
    const again = { ...log.start('r'), timestamp: '2026-01-01T13:00:00.000Z' }
    const state = next(fold(log.events.slice(0, 2)), again)
    t.match(state.runs, [{ runId: 'r', status: 'running', startedAt: '2026-01-01T12:00:00.000Z' }])
    t.equal(state.runs.length, 1)
    t.match(state.messages, [{ parts: [{ text: 'x' }] }])
  })

  t.test('an answer is there from agent_started on', async (t) => {
    const log = new Log()
    log.start('r')
    t.same(fold(log.events).messages, [{ id: 'm-r', role: 'assistant', runId: 'r', parts: [] }])
  })
})

t.test('without a run', async (t) => {
  const log = new Log()
  log.add('assistant_message', { agent: 'host', messageId: 'm1', partId: 'p', phase: 'full', text: 'Welcome' })
  const custom = log.add('custom', { name: 'banner', value: 1 })
  log.add('assistant_message', { agent: 'host', messageId: 'm1', partId: 'q', phase: 'full', text: 'back' })
  t.same(fold(log.events).messages, [
    { id: 'm1', role: 'assistant', parts: [{ type: 'text', id: 'p', text: 'Welcome', state: 'done' }, { type: 'text', id: 'q', text: 'back', state: 'done' }] },
    { id: custom.id, role: 'assistant', parts: [{ type: 'custom', id: custom.id, name: 'banner', value: 1 }] }
  ])
  t.same(fold(log.events).runs, [])
})

t.test('a log whose beginning is gone', async (t) => {
  const log = new Log(100)
  log.add('tool_completed', { agent: 'triage', toolCallId: 'c', tool: 'search', status: 'ok', output: 1, durationMs: 2 }, { runId: 'r' })
  const early = fold(log.events)
  t.match(early.messages, [{ id: 'r', runId: 'r', parts: [{ state: 'ok', args: {} }] }])
  t.match(early.runs, [{ runId: 'r', agent: 'triage', status: 'running' }])
  log.say('r', 'p', 'end', 'bye')
  t.match(fold(log.events).messages, [{ id: 'm-r', parts: [{ type: 'tool' }, { type: 'text', text: 'bye' }] }], 'the message gets its id as soon as it is known')
  log.complete('r')
  t.match(fold(log.events).runs, [{ status: 'success' }])

  const middle = new Log(100)
  middle.add('tool_executing', { agent: 'triage', toolCallId: 'c', tool: 'search', phase: 'progress', progress: 0.9, attempt: 1 }, { runId: 'r' })
  t.match(fold(middle.events).messages, [{ parts: [{ state: 'running', args: {}, progress: 0.9 }] }])

  const end = new Log(100)
  end.complete('r', { durationMs: 1_500 })
  t.match(fold(end.events).runs, [{ runId: 'r', status: 'success', startedAt: '2026-01-01T11:59:58.500Z' }])
})

t.test('what changes nothing', async (t) => {
  const { events } = wholeRun()
  const state = fold(events)

  t.test('an event that has been seen', async (t) => {
    for (const event of events) t.equal(next(state, event), state)
  })

  t.test('an event of an unknown type moves the cursor only', async (t) => {
    const after = next(state, { ...events[0]!, type: 'plan_changed', seq: 99, id: 'mb2k9x0q7f3c-0000000099' } as unknown as StoredEvent)
    t.equal(after.messages, state.messages)
    t.equal(after.runs, state.runs)
    t.equal(after.cursor, 'mb2k9x0q7f3c-0000000099')
  })

  t.test('the same status', async (t) => {
    t.equal(withStatus(state, 'idle'), state)
    const live = withStatus(state, 'live')
    t.equal(live.status, 'live')
    t.equal(live.messages, state.messages)
    t.equal(state.status, 'idle')
  })
})

t.test('a reset keeps the status only, and what follows counts from the start', async (t) => {
  const { events } = wholeRun()
  const state = reset(withStatus(fold(events), 'replaying'))
  t.same(plain(state), { messages: [], runs: [], status: 'replaying' })
  t.same(plain(fold(events, state)).messages, plain(fold(events)).messages)
})

t.test('identity: what an event does not touch stays the same object', async (t) => {
  const log = new Log().fill(50)
  log.start('open')
  log.say('open', 'p', 'start', 'a')
  log.say('open', 'q', 'start', 'b')
  const before = fold(log.events)
  const after = next(before, log.say('open', 'q', 'delta', 'c'))
  t.equal(after.runs, before.runs)
  t.not(after.messages, before.messages)
  for (let at = 0; at < 50; at++) if (after.messages[at] !== before.messages[at]) t.fail(`message ${at} changed`)
  const [was, is] = [before.messages[50]!, after.messages[50]!]
  t.not(is, was)
  t.equal(is.parts[0], was.parts[0], 'also the parts of the message that changed')
  t.not(is.parts[1], was.parts[1])
  t.equal((was.parts[1] as { text: string }).text, 'b', 'the state before is still what it was')
})

t.test('pure: nothing given is changed, and two futures of one state do not disturb each other', async (t) => {
  const freeze = <Value>(value: Value): Value => {
    if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze)
    return value
  }
  const log = new Log().fill(3)
  const base = fold(freeze(log.events))
  freeze(base.messages)
  freeze(base.runs)
  const futures = ['left', 'right'].map((name) => {
    const own = new Log(log.events.length)
    // what both have is not at the same place in both
    if (name === 'right') own.say('shared', 'p', 'full', name)
    for (let at = 0; at < 40; at++) own.say(`${name}-${at}`, 'p', 'full', name)
    if (name === 'left') own.say('shared', 'p', 'full', name)
    for (let at = 0; at < 40; at++) own.say(`${name}-${at}`, 'p2', 'full', name)
    own.say('shared', 'p2', 'full', name)
    return freeze(own.events)
  })
  // taken in turns, so that each sees what the other has left behind
  const states = [base, base]
  for (let at = 0; at < futures[0]!.length; at++) for (const side of [0, 1]) states[side] = next(states[side]!, futures[side]![at]!)
  for (const side of [0, 1]) t.same(plain(states[side]!), plain(fold([...log.events, ...futures[side]!])))
  t.equal(base.messages.length, 3)
})

t.test('the same from any split of the events, with repetitions, also through JSON', async (t) => {
  const log = wholeRun()
  log.add('user_message', { messageId: 'u2', content: 'again' }, { runId: 'r2' })
  log.start('r2')
  log.start('r3', 'triage', 'r2')
  log.say('r3', 'p', 'start', 'x')
  log.say('r2', 'p', 'start', 'y')
  log.say('r3', 'p', 'end', 'x')
  log.complete('r3')
  const { events } = log
  const whole = plain(fold(events))
  fc.assert(fc.property(fc.array(fc.record({ take: fc.nat({ max: 6 }), again: fc.nat({ max: 4 }), stored: fc.boolean() }), { maxLength: 12 }), (steps) => {
    let state = initialState()
    let at = 0
    for (const { take, again, stored } of [...steps, { take: events.length, again: 0, stored: false }]) {
      // as after a reconnect: what was there already comes again
      state = fold(events.slice(Math.max(0, at - again), at + take), state)
      at = Math.min(events.length, at + take)
      if (stored) state = plain(state)
    }
    return JSON.stringify(state) === JSON.stringify(whole)
  }), { numRuns: 200, seed: 8 })
  t.pass()
})

t.test('a delta costs the same in a thread of ten messages and of ten thousand', async (t) => {
  /** How many elements of arrays are copied or looked at while a delta is reduced. */
  function costOf (messages: number): number {
    const log = new Log().fill(messages - 1)
    log.start('open')
    log.say('open', 'p', 'start', 'a')
    const state = fold(log.events)
    const delta = log.say('open', 'p', 'delta', 'b')
    let touched = 0
    const prototype = Array.prototype as unknown as Record<string | symbol, (this: unknown[], ...args: unknown[]) => unknown>
    const names = Object.getOwnPropertyNames(prototype).filter((name) => typeof prototype[name] === 'function' && name !== 'constructor')
    const originals = new Map<string | symbol, unknown>(names.map((name) => [name, prototype[name]]))
    const iterate = prototype[Symbol.iterator]!
    let after: ThreadState
    try {
      for (const name of names) {
        const original = originals.get(name) as (...args: unknown[]) => unknown
        prototype[name] = function (...args) { touched += this.length; return original.apply(this, args) }
      }
      prototype[Symbol.iterator] = function () { touched += this.length; return iterate.call(this) }
      after = next(state, delta)
    } finally {
      prototype[Symbol.iterator] = iterate
      for (const [name, original] of originals) Object.defineProperty(prototype, name, { value: original, writable: true, configurable: true, enumerable: false })
    }
    t.equal(after.messages.length, messages)
    t.match(after.messages.at(-1), { parts: [{ text: 'ab' }] })
    t.ok(touched > 0, `${messages} messages: ${touched} elements`)
    return touched
  }
  const small = costOf(10)
  // three arrays of at most 32 instead of one of ten, whatever the number of messages
  for (const messages of [1_000, 10_000, 25_000]) t.ok(costOf(messages) <= small + 3 * 32 - 10, `${messages} messages`)
})
