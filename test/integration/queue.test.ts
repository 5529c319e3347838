import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import { endLost } from '../../plugins/agent-registry/ownerless.js'
import { MAX_WAITING_RUNS } from '../../plugins/store/index.js'
import { Type, defineAgent, type AgentContext, type AgentEventsOptions, type AnyAgent } from '../../index.js'
import type { AgentEvent } from '../../schemas/index.js'
import { connect, type Receiver } from '../support/connect.js'
import { brokenRules, eventsOf } from '../support/run-rules.js'
import { SharedStore } from '../support/shared-store.js'
import { startApp } from '../support/start-app.js'

/** Two messages at once in a thread, and many: what waits, in which order, and that it always has its turn. */

interface Stage { app: FastifyInstance, threadId: string, tab: Receiver, say (content: string, more?: { clientMessageId?: string, agent?: string }): Promise<string> }

async function stage (t: Test, agents: readonly AnyAgent[], options: Partial<AgentEventsOptions> = {}): Promise<Stage> {
  const { app, url } = await startApp(t, { agents, closeGraceMs: 0, events: { note: Type.Any() }, ...options })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  const say: Stage['say'] = async (content, more = {}) => (await app.agents.send({ user: { userId: 'u' }, threadId, content, ...more })).runId
  return { app, threadId, tab, say }
}

async function untilEnded (tab: Receiver, threadId: string, runs: number): Promise<AgentEvent[]> {
  const ended = () => tab.events(threadId).filter(({ type }) => type === 'agent_completed').length
  await tab.until(() => ended() >= runs, `${runs} ends`)
  return tab.events(threadId)
}

function statuses (events: readonly AgentEvent[]): string[] {
  return events.flatMap((event) => event.type === 'agent_completed' ? [event.data.status] : [])
}

/** More than one of the runs whose agent was at work is between its start and its end. */
function overlaps (events: readonly AgentEvent[], contexts: ReadonlyMap<string, AgentContext>): boolean {
  const atWork = new Set([...contexts.values()].map(({ run }) => run.runId))
  let live = 0
  let most = 0
  for (const { type, runId } of events) {
    if (!atWork.has(runId!)) continue
    if (type === 'agent_started') most = Math.max(most, ++live)
    if (type === 'agent_completed') live--
  }
  return most > 1
}

/** Ends as its message says; 'wait' waits for the signal. */
function obedient (more: object = {}): { agent: AnyAgent, heard: string[], contexts: Map<string, AgentContext> } {
  const heard: string[] = []
  const contexts = new Map<string, AgentContext>()
  const agent = defineAgent({
    name: 'obedient',
    description: '',
    ...more,
    run ({ message }: { message: string }, ctx) {
      heard.push(message)
      contexts.set(message, ctx)
      if (message.startsWith('throw')) throw new Error('told to')
      if (message === 'reject') return Promise.reject(new Error('told to'))
      if (message.startsWith('wait')) return new Promise(() => {})
      if (message === 'flood') for (let i = 0; i < 3_000; i++) ctx.emit('note', i)
      return message
    }
  })
  return { agent, heard, contexts }
}

t.test('messages wait for their turn and have it in order, whatever comes in between', async (t) => {
  const { agent, heard, contexts } = obedient()
  const { say, tab, threadId } = await stage(t, [agent])
  const contents = Array.from({ length: 30 }, (_, i) => i % 7 === 3 ? `throw ${i}` : `${i}`)
  await Promise.all(contents.map((content) => say(content)))
  const events = await untilEnded(tab, threadId, contents.length)
  t.same(heard, contents)
  t.notOk(overlaps(events, contexts), 'one at a time')
  t.same(brokenRules(events), [])
  t.equal(statuses(events).filter((status) => status === 'error').length, 4)
})

/** How the run before ends; its message is `wait` unless it ends by itself. */
const befores: Record<string, { message?: string, status: string, end? (stage: Stage, runId: string, ctx: AgentContext): unknown }> = {
  success: { message: 'fine', status: 'success' },
  'a throw': { message: 'throw', status: 'error' },
  'a rejection': { message: 'reject', status: 'error' },
  'an overflow': { message: 'flood', status: 'error' },
  'a cancel': { status: 'cancelled', end: ({ app }, runId) => app.agents.cancel(runId) },
  'a cancel from its own abort listener': {
    status: 'cancelled',
    end ({ app }, runId, ctx) {
      ctx.signal.addEventListener('abort', () => { app.agents.cancel(runId).catch(() => {}) })
      return app.agents.cancel(runId)
    }
  },
  'its timeout': { message: 'wait', status: 'timeout' },
  'being taken over': {
    status: 'lost',
    async end ({ app }, runId, ctx) {
      const record = await app.threads.store.getRun(runId)
      const { next } = await endLost(app.threads.store, app.notifier, record!)
      await ctx.emit('note', 'too late').catch(() => {})
      return next
    }
  }
}

for (const [how, { message = 'wait', status, end }] of Object.entries(befores)) {
  t.test(`what waits has its turn after ${how}`, async (t) => {
    const { agent, heard, contexts } = obedient(how === 'its timeout' ? { timeoutMs: 100 } : {})
    const it = await stage(t, [agent])
    const runId = await it.say(message)
    const waiting = await it.say('next')
    await it.tab.until(() => heard.includes(message), 'the first')
    const claimed = await end?.(it, runId, contexts.get(message)!)
    if (how === 'being taken over') {
      // Whoever takes the run over has the next one to start; here that is nobody.
      t.match(claimed, { runId: waiting, state: 'running' })
      await it.app.agents.cancel(waiting).catch(() => {})
      return
    }
    const events = await untilEnded(it.tab, it.threadId, 2)
    t.match(eventsOf(events, runId).at(-1), { data: { status } })
    t.match(eventsOf(events, waiting).at(-1), { data: { status: 'success', result: 'next' } })
    t.notOk(overlaps(events, contexts))
    t.same(brokenRules(events), [])
    t.same(it.app.agents.active(), [])
  })
}

t.test('the queue of a thread is bounded, and says so without storing the message', async (t) => {
  const { agent } = obedient()
  const { say, app, tab, threadId } = await stage(t, [agent])
  const runIds = [await say('wait')]
  for (let i = 0; i < MAX_WAITING_RUNS; i++) runIds.push(await say(`wait ${i}`))
  const before = await app.threads.get(threadId)
  await t.rejects(say('one too many'), { code: 'FAE_ERR_RUN_QUEUE_FULL' })
  t.equal((await app.threads.get(threadId))!.head, before!.head, 'nothing was stored')
  tab.send({ type: 'send', ref: 'full', threadId, content: 'one too many' })
  t.match(await tab.frame('error'), { ref: 'full', code: 'FAE_ERR_RUN_QUEUE_FULL' })
  await app.agents.cancel(runIds[50]!)
  runIds.push(await say('wait once more'))
  // All at once, in any order, while their turns come.
  await Promise.all([...runIds].reverse().map((runId) => app.agents.cancel(runId)))
  const events = await untilEnded(tab, threadId, runIds.length)
  t.equal(statuses(events).length, MAX_WAITING_RUNS + 2)
  t.ok(statuses(events).every((status) => status === 'cancelled'))
  t.same(brokenRules(events), [])
  t.same(app.agents.active(), [])
})

t.test('a queued run that is cancelled while its turn comes ends once', async (t) => {
  for (let round = 0; round < 20; round++) {
    const { agent, heard } = obedient()
    const store = new SharedStore()
    const view = store.view()
    const { say, app, tab, threadId } = await stage(t, [agent], { store: view })
    const first = await say('wait 1')
    const second = await say('wait 2')
    await tab.until(() => heard.length === 1, 'the first')
    let turns = round
    view.beforeAppend = async () => { for (let i = 0; i < turns % 5; i++) await new Promise((resolve) => { setImmediate(resolve) }) }
    const cancels = [app.agents.cancel(first), app.agents.cancel(second)]
    turns++
    t.same(await Promise.all(cancels), [true, true])
    const events = await untilEnded(tab, threadId, 2)
    t.same(statuses(events), ['cancelled', 'cancelled'])
    t.same(brokenRules(events), [])
    t.same(app.agents.active(), [])
  }
})

t.test('a run that is cancelled before its start is stored has both its ends', async (t) => {
  const store = new SharedStore()
  const view = store.view()
  const { agent, heard } = obedient()
  const { say, app, tab, threadId } = await stage(t, [agent], { store: view })
  let release = () => {}
  const held = new Promise<void>((resolve) => { release = resolve })
  view.beforeAppend = ({ run }) => run?.starts === true ? held : undefined
  const runId = await say('wait')
  const cancelled = app.agents.cancel(runId)
  await new Promise((resolve) => { setImmediate(resolve) })
  release()
  t.equal(await cancelled, true)
  const events = await untilEnded(tab, threadId, 1)
  t.same(events.map(({ type }) => type), ['user_message', 'agent_started', 'agent_completed'])
  t.same(brokenRules(events), [])
  t.same(heard, [], 'its agent never ran')
  view.beforeAppend = undefined
})

t.test('interrupt: a newer message ends the run before, and they never overlap', async (t) => {
  const { agent, heard, contexts } = obedient({ concurrency: 'interrupt' })
  const { say, tab, threadId, app } = await stage(t, [agent])
  for (let i = 0; i < 20; i++) await say(`wait ${i}`)
  await say('last')
  const events = await untilEnded(tab, threadId, 21)
  t.same(statuses(events), [...Array.from({ length: 20 }, () => 'cancelled'), 'success'])
  t.notOk(overlaps(events, contexts))
  t.same(brokenRules(events), [])
  t.equal(heard.at(-1), 'last')
  t.same(app.agents.active(), [])
})

t.test('interrupt: messages that come at once, on a store whose replies come out of order', async (t) => {
  const store = new SharedStore()
  const view = store.view()
  const { agent, heard, contexts } = obedient({ concurrency: 'interrupt' })
  const { say, tab, threadId, app } = await stage(t, [agent], { store: view })
  let calls = 0
  view.beforeReply = async () => { for (let i = (++calls * 7) % 11; i > 0; i--) await new Promise((resolve) => { setImmediate(resolve) }) }
  const runIds = await Promise.all(Array.from({ length: 20 }, (_, i) => say(`wait ${i}`)))
  t.equal(new Set(runIds).size, 20)
  const last = await say('last')
  const events = await untilEnded(tab, threadId, 21)
  t.notOk(overlaps(events, contexts))
  t.same(brokenRules(events), [])
  t.match(eventsOf(events, last).at(-1), { data: { status: 'success' } })
  t.equal(statuses(events).filter((status) => status === 'success').length, 1)
  t.equal(heard.at(-1), 'last')
  view.beforeReply = undefined
  for (const deadline = Date.now() + 10_000; app.agents.active().length > 0 && Date.now() < deadline;) await new Promise((resolve) => { setImmediate(resolve) })
  t.same(app.agents.active(), [], 'nothing left once the last reply is there')
})

t.test('parallel: everything at once', async (t) => {
  const { agent, heard } = obedient({ concurrency: 'parallel' })
  const { say, tab, threadId, app } = await stage(t, [agent])
  const runIds = await Promise.all(Array.from({ length: 10 }, (_, i) => say(`wait ${i}`)))
  await tab.until(() => heard.length === 10, 'all of them')
  t.equal(app.agents.active().length, 10)
  await Promise.all(runIds.map((runId) => app.agents.cancel(runId)))
  t.same(brokenRules(await untilEnded(tab, threadId, 10)), [])
})

t.test('reject: refused while it is at work, by the API and by a frame, and no message is stored', async (t) => {
  const { agent, heard } = obedient({ concurrency: 'reject' })
  const { say, tab, threadId, app } = await stage(t, [agent])
  const runId = await say('wait')
  await t.rejects(say('two', { clientMessageId: 'm2' }), { code: 'FAE_ERR_THREAD_BUSY' })
  tab.send({ type: 'send', ref: 'three', threadId, content: 'three' })
  t.match(await tab.frame('error'), { ref: 'three', code: 'FAE_ERR_THREAD_BUSY' })
  await app.agents.cancel(runId)
  t.ok(await say('two', { clientMessageId: 'm2' }), 'the refused id is free')
  const events = await untilEnded(tab, threadId, 2)
  t.same(events.flatMap((event) => event.type === 'user_message' ? [event.data.content] : []), ['wait', 'two'])
  t.same(heard, ['wait', 'two'])
  const races = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => say(`wait ${i}`)))
  t.equal(races.filter(({ status }) => status === 'fulfilled').length, 1, 'of many at once one is taken')
})

t.test('one clientMessageId, many times at once, is one run with one id', async (t) => {
  const store = new SharedStore()
  const view = store.view()
  const { agent, heard } = obedient()
  const { say, tab, threadId } = await stage(t, [agent], { store: view })
  let calls = 0
  view.beforeReply = async () => { for (let i = ++calls % 5; i > 0; i--) await new Promise((resolve) => { setImmediate(resolve) }) }
  const runIds = await Promise.all(Array.from({ length: 10 }, () => say('hello', { clientMessageId: 'm1' })))
  for (let i = 0; i < 5; i++) tab.send({ type: 'send', ref: `r${i}`, threadId, content: 'hello', clientMessageId: 'm1' })
  const accepted = await Promise.all(Array.from({ length: 5 }, (_, i) => tab.frame('accepted', ({ ref }) => ref === `r${i}`)))
  const events = await untilEnded(tab, threadId, 1)
  t.equal(new Set([...runIds, ...accepted.map(({ runId }) => runId)]).size, 1)
  t.same(events.map(({ type }) => type), ['user_message', 'agent_started', 'agent_completed'])
  t.same(heard, ['hello'])
  t.equal(await say('hello', { clientMessageId: 'm1' }), runIds[0], 'after its end too')
  t.same(heard, ['hello'])
})

t.test('an input that is larger than any event does not keep the thread from going on', async (t) => {
  const { agent, heard } = obedient({ fromMessage: ({ text }: { text: string }) => ({ message: text === 'big' ? 'x'.repeat(50_000) : text }) })
  const { say, tab, threadId } = await stage(t, [agent], { maxEventBytes: 8_192 })
  await say('big')
  const waiting = await say('next')
  const events = await untilEnded(tab, threadId, 2)
  t.equal(heard[0]!.length, 50_000)
  t.match(eventsOf(events, waiting).at(-1), { data: { status: 'success' } })
  t.same(brokenRules(events), [])
})

t.test('a thread is deleted with its queue: who waits gets both ends and does not run', async (t) => {
  const { agent, heard } = obedient()
  const { say, tab, threadId, app } = await stage(t, [agent])
  for (let i = 0; i < 10; i++) await say(`wait ${i}`)
  await tab.until(() => heard.length === 1, 'the first')
  t.equal(await app.threads.delete(threadId), true)
  await tab.frame('unsubscribed', ({ reason }) => reason === 'deleted')
  const events = tab.events(threadId)
  t.same(statuses(events), Array.from({ length: 10 }, () => 'cancelled'))
  t.same(brokenRules(events), [])
  t.same(heard, ['wait 0'])
  t.same(app.agents.active(), [])
})

t.test('the app closes with a queue: who waits gets both ends at the receiver and does not run', async (t) => {
  const { agent, heard } = obedient()
  const { say, tab, threadId, app } = await stage(t, [agent])
  for (let i = 0; i < 10; i++) await say(`wait ${i}`)
  await tab.until(() => heard.length === 1, 'the first')
  await app.close()
  t.equal(await tab.closed(), 1012)
  const events = tab.events(threadId)
  t.same(statuses(events), Array.from({ length: 10 }, () => 'cancelled'))
  t.same(brokenRules(events), [])
  t.same(heard, ['wait 0'])
})

t.test('an input from outside that is larger than any event is refused before anything is stored', async (t) => {
  const { agent } = obedient()
  const { app, threadId } = await stage(t, [agent], { maxEventBytes: 8_192 })
  const { head } = (await app.threads.get(threadId))!
  await t.rejects(app.agents.send({ user: { userId: 'u' }, threadId, input: { message: 'x'.repeat(9_000) } }), { code: 'FAE_ERR_EVENT_TOO_LARGE' })
  t.equal((await app.threads.get(threadId))!.head, head)
})
