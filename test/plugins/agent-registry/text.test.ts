import t from 'tap'
import { defineAgent, type AgentContext } from '../../../index.js'
import { watchRun } from '../../support/watch-run.js'

const agent = (run: (ctx: AgentContext<any, any>) => unknown) => defineAgent({ name: 'a', description: '', run: (_input, ctx) => run(ctx) })

async function * pieces (...texts: string[]) {
  for (const text of texts) {
    await new Promise((resolve) => { setImmediate(resolve) })
    yield text
  }
}

t.test('a text at once is one full event', async (t) => {
  const { of, result } = await watchRun(t, agent((ctx) => ctx.say('all of it', { metadata: { signature: 'x' } })))
  t.equal(result, 'all of it', 'say resolves with the text')
  const [started] = of('agent_started')
  t.match(of('assistant_message').map(({ data }) => data), [
    { agent: 'a', messageId: started!.data.messageId, partId: String, phase: 'full', text: 'all of it', metadata: { signature: 'x' } }
  ])
})

for (const coalesceMs of [0, 30]) {
  t.test(`a stream becomes start, delta, end, whose texts joined are the whole (coalesceMs ${coalesceMs})`, async (t) => {
    const texts = ['Hel', 'lo', ', ', 'wor', 'ld', ' 🧵', '', '!']
    const { of, result } = await watchRun(t, agent((ctx) => ctx.say(pieces(...texts))), { options: { coalesceMs } })
    const parts = of('assistant_message').map(({ data }) => data)
    t.equal(result, texts.join(''))
    t.equal(parts.map(({ text }) => text).join(''), texts.join(''))
    t.same([parts.at(0)!.phase, parts.at(-1)!.phase], ['start', 'end'])
    t.ok(parts.slice(1, -1).every(({ phase }) => phase === 'delta'))
    t.equal(parts[0]!.text, 'Hel', 'the first piece at once')
    t.equal(new Set(parts.map(({ partId }) => partId)).size, 1)
    t.ok(parts.length <= texts.length + 1)
    if (coalesceMs === 0) t.same(parts.slice(0, 3).map(({ text }) => text), ['Hel', 'lo', ', '], 'each piece is an event')
  })
}

t.test('a stream without a piece still begins and ends', async (t) => {
  const { of, result } = await watchRun(t, agent((ctx) => ctx.say(pieces())))
  t.equal(result, '')
  t.same(of('assistant_message').map(({ data: { phase, text } }) => [phase, text]), [['start', ''], ['end', '']])
})

t.test('a stream that fails midway is ended, and the failure is the agent\'s to handle', async (t) => {
  async function * broken () { yield 'one '; yield 'two '; throw new Error('model gone') }
  const caught = await watchRun(t, agent((ctx) => ctx.say(broken()).catch((error: Error) => error.message)))
  const parts = caught.of('assistant_message').map(({ data }) => data)
  t.equal(caught.result, 'model gone')
  t.equal(parts.map(({ text }) => text).join(''), 'one two ')
  t.equal(parts.at(-1)!.phase, 'end')
  t.equal(parts.filter(({ phase }) => phase === 'end').length, 1)
  const uncaught = await watchRun(t, agent((ctx) => ctx.say(broken())))
  t.match(uncaught.completed.data, { status: 'error', error: { message: 'model gone' } })
  t.equal(uncaught.of('assistant_message').at(-1)!.data.phase, 'end')
})

t.test('several parts of one message, in the order in which they were said', async (t) => {
  const { events, of } = await watchRun(t, agent(async (ctx) => {
    ctx.say('first')
    await ctx.say(pieces('se', 'cond'))
    await ctx.think('between')
    await ctx.say('third')
  }))
  t.same(events.slice(1, -1).map(({ type, data }) => [type, (data as { text: string }).text]).filter(([, text]) => text !== ''),
    [['assistant_message', 'first'], ['assistant_message', 'se'], ['assistant_message', 'cond'], ['agent_thinking', 'between'], ['assistant_message', 'third']])
  t.equal(new Set(of('assistant_message').map(({ data }) => data.messageId)).size, 1, 'one message per run')
  t.equal(new Set(of('assistant_message').map(({ data }) => data.partId)).size, 3, 'one id per block')
})

t.test('held text goes out before whatever is said next', async (t) => {
  const { events } = await watchRun(t, agent(async (ctx) => {
    async function * talking () { yield 'a'; yield 'b'; await ctx.think('meanwhile'); yield 'c' }
    await ctx.say(talking())
  }), { options: { coalesceMs: 10_000 } })
  t.same(events.slice(1, -1).map(({ data }) => (data as { text: string }).text), ['a', 'b', 'meanwhile', 'c'])
})

t.test('a text too long for one event becomes several, and no character is cut', async (t) => {
  const long = '🧵日"\n'.repeat(5_000)
  const { of, result, events } = await watchRun(t, agent(async (ctx) => {
    await ctx.think(long, { kind: 'reasoning' })
    await ctx.say(pieces('x', long, long))
    return ctx.say(long).then((text) => text.length)
  }), { options: { maxEventBytes: 8_192 } })
  t.equal(result, long.length)
  t.equal(of('agent_thinking').map(({ data }) => data.text).join(''), long)
  t.equal(of('assistant_message').map(({ data }) => data.text).join(''), `x${long}${long}${long}`)
  for (const event of events) t.ok(Buffer.byteLength(JSON.stringify(event)) <= 8_192 + 200)
  for (const { data } of of('assistant_message')) t.notMatch(data.text, /\p{Surrogate}/u)
})

t.test('thinking: status by default, reasoning, steps, streams', async (t) => {
  const { of } = await watchRun(t, agent(async (ctx) => {
    await ctx.think('Looking it up')
    await ctx.think('because', { kind: 'reasoning', metadata: { signature: 's' } })
    await ctx.think('Step', { step: { name: 'read', index: 1, total: 3 } })
    await ctx.think(pieces('a', 'b'), { kind: 'reasoning' })
  }), { options: { coalesceMs: 0 } })
  const thoughts = of('agent_thinking').map(({ data }) => data)
  t.match(thoughts, [
    { agent: 'a', kind: 'status', phase: 'full', text: 'Looking it up' },
    { kind: 'reasoning', phase: 'full', text: 'because', metadata: { signature: 's' } },
    { kind: 'status', phase: 'full', step: { name: 'read', index: 1, total: 3 } },
    { kind: 'reasoning', phase: 'start', text: 'a' },
    { kind: 'reasoning', phase: 'delta', text: 'b' },
    { kind: 'reasoning', phase: 'end', text: '' }
  ])
  t.equal(new Set(thoughts.map(({ thinkingId }) => thinkingId)).size, 4)
})

t.test('B3: a stream that is cut off by the run\'s end is closed before it', async (t) => {
  const { of, events, completed } = await watchRun(t, defineAgent({
    name: 'a',
    description: '',
    timeoutMs: 50,
    async run (_input, ctx) {
      async function * endless () { yield 'a'; yield 'b'; await new Promise(() => {}) }
      await ctx.say(endless())
    }
  }), { options: { coalesceMs: 10_000 } })
  t.equal(completed.data.status, 'timeout')
  t.same(of('assistant_message').map(({ data: { phase, text, finishReason } }) => [phase, text, finishReason]), [['start', 'a', undefined], ['delta', 'b', undefined], ['end', '', 'timeout']])
  t.equal(events.at(-1), completed)
})
