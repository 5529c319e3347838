import t from 'tap'
import { Type, defineAgent, type AgentContext, type AnyAgent } from '../../../index.js'
import { connect } from '../../support/connect.js'
import { brokenRules } from '../../support/run-rules.js'
import { startApp } from '../../support/start-app.js'
import { watchRun } from '../../support/watch-run.js'

type Run = (ctx: AgentContext) => unknown

function agent (run: Run, more: object = {}): AnyAgent {
  return defineAgent({ name: 'a', description: '', ...more, run: (_input, ctx) => run(ctx) })
}

async function * pieces (...texts: string[]): AsyncGenerator<string> { yield * texts }

/** A source that says whether it was told to stop. */
function source (next: (count: number) => Promise<IteratorResult<string>>): AsyncIterable<string> & { returned: number, asked: number } {
  const self = {
    returned: 0,
    asked: 0,
    [Symbol.asyncIterator]: () => ({
      next: () => next(++self.asked),
      return: async () => {
        self.returned++
        return { done: true, value: undefined } as const
      }
    })
  }
  return self
}

for (const coalesceMs of [0, 10_000]) {
  t.test(`a character that comes in two halves is never shown as one half (coalesceMs ${coalesceMs})`, async (t) => {
    const text = '🧵a🧵🧵b'
    const units = text.split('')
    const { of, result, events } = await watchRun(t, agent((ctx) => ctx.say(pieces(...units))), { options: { coalesceMs } })
    const texts = of('assistant_message').map(({ data }) => data.text)
    t.equal(result, text)
    t.equal(texts.join(''), text)
    for (const part of texts) t.notMatch(part, /\p{Surrogate}/u)
    t.same(brokenRules(events), [])
  })
}

t.test('half a character at the very end is not lost', async (t) => {
  const { of } = await watchRun(t, agent((ctx) => ctx.say(pieces('a', 'b\ud83e'))), { options: { coalesceMs: 0 } })
  t.same(of('assistant_message').map(({ data: { phase, text } }) => [phase, text]), [['start', 'a'], ['delta', 'b'], ['end', '\ud83e']])
})

t.test('awaiting each piece costs no window: what comes within one is one event', async (t) => {
  const many = Array.from({ length: 500 }, (_, i) => `${i} `)
  const { of } = await watchRun(t, agent((ctx) => ctx.say(pieces(...many))), { options: { coalesceMs: 60_000 } })
  t.same(of('assistant_message').map(({ data: { phase } }) => phase), ['start', 'end'], 'the first at once, the others with the end')
  t.equal(of('assistant_message').map(({ data }) => data.text).join(''), many.join(''))
})

t.test('without a window each piece is an event, in order with everything else', async (t) => {
  const { events } = await watchRun(t, agent(async (ctx) => {
    async function * talking () {
      for (let i = 0; i < 5; i++) {
        yield `say ${i}`
        ctx.emit('note', `note ${i}`)
      }
    }
    await ctx.say(talking())
  }), { options: { coalesceMs: 0, events: { note: Type.String() } } })
  t.same(events.slice(1, -2).map(({ data }) => (data as { text?: string, value?: string }).text ?? (data as { value: string }).value),
    Array.from({ length: 5 }, (_, i) => [`say ${i}`, `note ${i}`]).flat())
})

t.test('blocks that are not awaited and overlap keep their own text, and what is held goes before what is newer', async (t) => {
  const { events, of } = await watchRun(t, agent(async (ctx) => {
    let release = () => {}
    const held = new Promise<void>((resolve) => { release = resolve })
    async function * slow () { yield 'a'; yield 'b'; await held; yield 'c' }
    const saying = ctx.say(slow())
    // The second piece is held by now.
    await new Promise((resolve) => { setImmediate(resolve) })
    const thinking = ctx.think(pieces('x', 'y'))
    await new Promise((resolve) => { setImmediate(resolve) })
    release()
    await Promise.all([saying, thinking])
  }), { options: { coalesceMs: 60_000 } })
  const order = events.slice(1, -1).map(({ data }) => (data as { text: string }).text).filter((text) => text !== '')
  t.ok(order.indexOf('b') < order.indexOf('x'), `${order.join(' ')}: held text before the block that begins after it`)
  t.equal(of('assistant_message').map(({ data }) => data.text).join(''), 'abc')
  t.equal(of('agent_thinking').map(({ data }) => data.text).join(''), 'xy')
  t.same(brokenRules(events), [])
})

t.test('a child run begins after the text that its parent holds', async (t) => {
  const child = defineAgent({ name: 'child', description: '', run: (_input, ctx) => ctx.say('child') })
  const { events } = await watchRun(t, agent(async (ctx) => {
    async function * talking () { yield 'a'; yield 'b'; await (ctx.agents as { child: (input: unknown) => Promise<unknown> }).child({ message: '' }); yield 'c' }
    await ctx.say(talking())
  }, { agents: [child] }), { options: { coalesceMs: 60_000 } })
  const texts = events.flatMap((event) => event.type === 'assistant_message' && event.data.text !== '' ? [event.data.text] : [])
  t.same(texts, ['a', 'b', 'child', 'c'])
  t.same(brokenRules(events), [])
})

t.test('what is left of a full event waits for more', async (t) => {
  const many = Array.from({ length: 20 }, (_, i) => String(i).padEnd(100))
  const { of, result } = await watchRun(t, agent((ctx) => ctx.say(pieces(...many))), { options: { coalesceMs: 60_000, maxEventBytes: 4_096 } })
  t.equal(result, many.join(''))
  t.same(of('assistant_message').map(({ data: { text } }) => text.length), [100, 341, 341, 341, 341, 341, 195])
  const windows = await watchRun(t, agent((ctx) => ctx.say((async function * () {
    yield 'first'
    yield 'x'.repeat(371)
    await new Promise((resolve) => { setTimeout(resolve, 20) })
    yield 'last'
  })())), { options: { coalesceMs: 1, maxEventBytes: 4_096 } })
  t.same(windows.of('assistant_message').map(({ data: { text } }) => text.length), [5, 341, 30, 4], 'but no longer than the window')
})

t.test('pieces that are larger than an event, gathered or not', async (t) => {
  for (const coalesceMs of [0, 60_000]) {
    const long = 'é"🧵'.repeat(4_000)
    const { of, events } = await watchRun(t, agent((ctx) => ctx.say(pieces(long, 'x', long, long.slice(1)))), { options: { coalesceMs, maxEventBytes: 4_096 } })
    t.equal(of('assistant_message').map(({ data }) => data.text).join(''), `${long}x${long}${long.slice(1)}`)
    for (const event of events) t.ok(Buffer.byteLength(JSON.stringify(event)) < 4_096 + 200)
    t.same(brokenRules(events), [])
  }
})

for (const how of ['says piece after piece', 'never says another piece'] as const) {
  t.test(`B3: a source that ${how} is told when its run is cancelled`, async (t) => {
    let refused: unknown
    const endless = source(async (count) => {
      if (how === 'never says another piece' && count > 2) return new Promise(() => {})
      await new Promise((resolve) => { setImmediate(resolve) })
      return { done: false, value: 'x' }
    })
    const { app, url } = await startApp(t, { agents: [agent((ctx) => ctx.say(endless).catch((error) => { refused = error }))], coalesceMs: 1 })
    const { threadId } = await app.threads.register({ userId: 'u' })
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId })
    tab.send({ type: 'send', ref: '1', threadId, content: 'go' })
    const { runId } = await tab.frame('agent_started') as { runId: string }
    await tab.frame('assistant_message', ({ data }) => data.phase === 'delta')
    tab.send({ type: 'cancel', runId })
    t.match(await tab.frame('agent_completed'), { data: { status: 'cancelled' } })
    t.ok(endless.returned > 0, 'return() was called')
    t.match(refused, { code: /FAE_ERR_RUN_(CANCELLED|ENDED)/ }, 'say() rejects')
    const asked = endless.asked
    await app.notifier.history(threadId)
    await new Promise((resolve) => { setTimeout(resolve, 20) })
    t.ok(endless.asked <= asked + 1, 'and is not asked again')
    t.same(brokenRules(tab.events(threadId)), [])
  })
}

t.test('a source that cannot be told is let go all the same', async (t) => {
  const rude = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}), return () { throw new Error('no') } }) }
  const { app, completed } = await watchRun(t, agent((ctx) => { ctx.say(rude as AsyncIterable<string>) }))
  t.equal(completed.data.status, 'success')
  t.same(app.agents.active(), [])
})

t.test('an agent that has ended is not asked for its text', async (t) => {
  const late = source(async () => ({ done: false, value: 'x' }))
  let ctx: AgentContext | undefined
  const { app } = await watchRun(t, agent((own) => { ctx = own }))
  const refused = app.notifier.refused
  await t.rejects(ctx!.say(late), { code: 'FAE_ERR_RUN_ENDED' })
  t.equal(late.asked, 0)
  t.equal(app.notifier.refused, refused + 1)
})

t.test('a piece that is refused while nobody waits is heard of by the next one', async (t) => {
  async function * slow (): AsyncGenerator<string> {
    yield 'hello '
    yield 'secret'
    await new Promise((resolve) => { setTimeout(resolve, 50) }) // longer than the window
  }
  let refusal: Error & { code?: string } | undefined
  await watchRun(t, agent((ctx) => ctx.say(slow()).catch((error: Error) => { refusal = error })), {
    options: {
      coalesceMs: 1,
      redact: ({ data }) => {
        if ('text' in data && data.text === 'secret') throw new Error('not this')
        return data
      }
    }
  })
  t.equal(refusal?.code, 'FAE_ERR_EVENT_REDACT')
})

t.test('a long text that nobody waits for stands where it was said, and is whole', async (t) => {
  const long = 'L'.repeat(1_000_000)
  const { events, of, completed } = await watchRun(t, agent((ctx) => {
    ctx.say(long)
    ctx.say('short')
    ctx.think(long)
  }))
  t.equal(completed.data.status, 'success')
  t.same(brokenRules(events), [])
  t.equal(of('assistant_message').map(({ data }) => data.text).join(''), `${long}short`)
  t.equal(of('agent_thinking').map(({ data }) => data.text).join(''), long)
  t.ok(of('agent_thinking')[0]!.seq > of('assistant_message').find(({ data }) => data.text === 'short')!.seq)
})

t.test('what comes before the text of a source in one turn is said before it', async (t) => {
  const long = 'L'.repeat(100_000)
  const { of } = await watchRun(t, agent(async (ctx) => {
    ctx.say(long)
    await ctx.say(pieces('short ', 'pieces'))
  }))
  t.equal(of('assistant_message').map(({ data }) => data.text).join(''), `${long}short pieces`)
})

t.test('one piece of any length is taken as the log takes it', async (t) => {
  const long = 'é'.repeat(3_000_000)
  for (const text of [long, pieces(long), pieces('x', long)]) {
    const { of, completed, events } = await watchRun(t, agent((ctx) => ctx.say(text).then((whole) => whole.length)), { options: { maxEventBytes: 512 * 1024 } })
    t.match(completed.data, { status: 'success' })
    t.ok(of('assistant_message').map(({ data }) => data.text).join('').endsWith(long))
    t.same(brokenRules(events), [])
  }
})

t.test('text without bound that nobody waits for ends its run and says why', async (t) => {
  const { completed, events } = await watchRun(t, agent(async (ctx) => {
    for (let i = 0; i < 10; i++) ctx.say('L'.repeat(500_000))
    await new Promise((resolve) => { ctx.signal.addEventListener('abort', resolve) })
  }))
  t.match(completed.data, { status: 'error', error: { code: 'FAE_ERR_RUN_OVERFLOW' } })
  t.same(brokenRules(events), [])
})

const refusesSecrets = {
  redact: ({ data }: { data: object }): any => {
    if ('text' in data && String(data.text).includes('secret')) throw new Error('not this')
    return data
  }
}

t.test('a block whose first piece is refused is not there at all, whatever is said beside it', async (t) => {
  for (const text of [() => pieces('secret', 'more'), () => `secret${'x'.repeat(50_000)}`]) {
    for (const beside of [(_ctx: AgentContext) => {}, (ctx: AgentContext) => { ctx.think('beside') }]) {
      const { of, result, events } = await watchRun(t, agent((ctx) => {
        const saying = ctx.say(text()).catch((error: Error & { code: string }) => error.code)
        beside(ctx)
        return saying
      }), { options: refusesSecrets })
      t.equal(result, 'FAE_ERR_EVENT_REDACT')
      t.same(of('assistant_message'), [])
      t.same(brokenRules(events), [])
    }
  }
})

t.test('what follows a refused piece is not said, and the block ends with what was taken', async (t) => {
  const long = `${'a'.repeat(30_000)}${'secret'.repeat(5_000)}${'b'.repeat(30_000)}`
  for (const coalesceMs of [0, 1]) {
    for (const [text, expected] of [[() => long, /^a+$/], [() => pieces('one ', 'secret', ' three'), /^one $/]] as const) {
      const { of, events, result } = await watchRun(t, agent((ctx) => {
        const saying = ctx.say(text()).catch((error: Error & { code: string }) => error.code)
        ctx.think('beside')
        return saying
      }), { options: { ...refusesSecrets, coalesceMs } })
      t.equal(result, 'FAE_ERR_EVENT_REDACT')
      t.match(of('assistant_message').map(({ data }) => data.text).join(''), expected)
      t.same(brokenRules(events), [])
    }
  }
})
