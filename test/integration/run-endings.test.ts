import t, { type Test } from 'tap'
import { getEventListeners } from 'node:events'
import type { FastifyInstance } from 'fastify'
import { endLost } from '../../plugins/agent-registry/ownerless.js'
import { Type, defineAgent, defineTool, type AgentContext, type AgentEventsOptions, type AnyAgent } from '../../index.js'
import type { AgentEvent, RunStatus } from '../../schemas/index.js'
import { connect, get, post, type Receiver } from '../support/connect.js'
import { brokenRules, eventsOf } from '../support/run-rules.js'
import { startApp } from '../support/start-app.js'
import { gc } from '../support/gc.js'

/*
 * Every way a run can end, crossed with everything that can be open in it (B3, A4). Whatever the pair: one terminal event,
 * everything open closed before it, nothing of the run after it, and nothing of it left in the process.
 */

type Context = AgentContext<readonly [typeof wait, typeof deaf], readonly [typeof helper]>
/** Begins something in a run; resolves when it is open. */
type Opener = (ctx: Context) => Promise<void>
/** What one run of the agents below does. */
interface Script { open: Opener, end (ctx: Context): unknown, isSync?: boolean }

/** By the message that starts the run. */
const scripts = new Map<string, Script>()
/** The run's ctx, for what comes after its end. */
const contexts = new Map<string, Context>()
/** Who waits for a tool or a child to be at work, by thread. */
const atWork = new Map<string, () => void>()
/** What must be gone once its run is. */
const kept: Array<{ what: string, ref: WeakRef<object> }> = []

function keep (what: string, object: object): void {
  kept.push({ what, ref: new WeakRef(object) })
}

function untilAborted (signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(signal.reason) }, { once: true }) })
}

const wait = defineTool({
  name: 'wait',
  description: 'At work until it is aborted',
  inputSchema: Type.Object({}),
  async execute (_input, { signal, run, progress }) {
    keep('tool signal', signal)
    await progress(0.5)
    atWork.get(run.threadId)!()
    await untilAborted(signal)
  }
})
const deaf = defineTool({
  name: 'deaf',
  description: 'Never ends, whatever happens',
  inputSchema: Type.Object({}),
  async execute (_input, { signal, run }) {
    keep('deaf tool signal', signal)
    atWork.get(run.threadId)!()
    await new Promise(() => {})
  }
})
const helper = defineAgent({
  name: 'helper',
  description: 'A child that is at work until it is aborted',
  tools: [wait],
  async run ({ message }, ctx) {
    keep('child ctx', ctx)
    if (message === 'tool') {
      await ctx.tools.wait({})
      return
    }
    atWork.get(ctx.run.threadId)!()
    await untilAborted(ctx.signal)
  }
})

function worker (name: string, more: Partial<Pick<AnyAgent, 'timeoutMs' | 'concurrency' | 'onDisconnect'>> = {}): AnyAgent {
  return defineAgent({
    name,
    description: 'Does what its script says',
    tools: [wait, deaf],
    agents: [helper],
    ...more as object,
    run ({ message }, ctx) {
      keep('ctx', ctx)
      keep('signal', ctx.signal)
      const { open, end, isSync } = scripts.get(message)!
      contexts.set(message, ctx)
      const opened = open(ctx)
      return isSync === true ? end(ctx) : opened.then(() => end(ctx))
    }
  })
}

/** Never ends and ignores every signal. */
const never = () => new Promise(() => {})

/** Two pieces, then a third that never comes. */
function stuckText (onStuck: () => void): AsyncIterable<string> {
  return {
    async * [Symbol.asyncIterator] () {
      yield 'some'
      yield ' text'
      onStuck()
      await never()
    }
  }
}

function working (ctx: Context, count: number, begin: () => void): Promise<void> {
  return new Promise((resolve) => {
    let left = count
    atWork.set(ctx.run.threadId, () => { if (--left === 0) resolve() })
    begin()
  })
}

const openers: Record<string, Opener> = {
  nothing: async () => {},
  thinking: (ctx) => new Promise((resolve) => { ctx.think(stuckText(resolve), { kind: 'reasoning' }) }),
  'a text': (ctx) => new Promise((resolve) => { ctx.say(stuckText(resolve)) }),
  'a tool': (ctx) => working(ctx, 1, () => { ctx.tools.wait({}) }),
  'two tools': (ctx) => working(ctx, 2, () => {
    ctx.callTool('wait', {}, { toolCallId: 'one', argsText: '{}' })
    ctx.callTool('wait', {}, { toolCallId: 'two' })
  }),
  'a tool that ignores its signal': (ctx) => working(ctx, 1, () => { ctx.tools.deaf({}) }),
  'a child run': (ctx) => working(ctx, 1, () => { ctx.agents.helper({ message: '' }) }),
  'a tool in a child run': (ctx) => working(ctx, 1, () => { ctx.agents.helper({ message: 'tool' }) })
}

interface Case { app: FastifyInstance, url: string, tab: Receiver, threadId: string, message: string, runId: string, settled: Promise<unknown>, t: Test }

interface EndingOf {
  status: RunStatus
  /** What execute() rejects with; undefined when it resolves. */
  code?: string
  agent?: string
  isSync?: boolean
  /** What the agent does once something is open. @default waits for ever */
  end? (ctx: Context): unknown
  /** What happens from outside once something is open. */
  act? (of: Case): unknown
  /** Begins by a message instead of createForUser. */
  isSent?: boolean
  /** The thread's log is gone with it. */
  isDeleted?: boolean
  /** Ended by somebody else: a child learns of it only afterwards. */
  isTaken?: boolean
}

async function takeOver ({ app, runId }: Case): Promise<void> {
  const record = await app.threads.store.getRun(runId)
  await endLost(app.threads.store, app.notifier, record!)
}

const endings: Record<string, EndingOf> = {
  success: { status: 'success', end: () => 'done' },
  'throws at once': { status: 'error', code: 'FAE_ERR_RUN_FAILED', isSync: true, end () { throw new Error('at once') } },
  rejects: { status: 'error', code: 'FAE_ERR_RUN_FAILED', end: async () => { throw new Error('later') } },
  'throws undefined': { status: 'error', code: 'FAE_ERR_RUN_FAILED', end: () => Promise.reject() }, // eslint-disable-line prefer-promise-reject-errors
  'cancelled by the API': { status: 'cancelled', code: 'FAE_ERR_RUN_CANCELLED', act: ({ app, runId }) => app.agents.cancel(runId) },
  'cancelled by a frame': { status: 'cancelled', isSent: true, act: ({ tab, runId }) => { tab.send({ type: 'cancel', runId }) } },
  'cancelled by HTTP': { status: 'cancelled', code: 'FAE_ERR_RUN_CANCELLED', act: ({ url, runId }) => post(url, `/runs/${runId}/cancel`, 'u') },
  'its own time is up': { status: 'timeout', code: 'FAE_ERR_RUN_TIMEOUT', agent: 'hasty' },
  'emits without awaiting, over the bound': {
    status: 'error',
    code: 'FAE_ERR_RUN_FAILED',
    end (ctx) {
      for (let i = 0; i < 3_000; i++) ctx.emit('note', i)
      return never()
    }
  },
  'its thread is deleted': { status: 'cancelled', code: 'FAE_ERR_RUN_CANCELLED', isDeleted: true, act: ({ app, threadId }) => app.threads.delete(threadId) },
  'its user leaves': { status: 'cancelled', code: 'FAE_ERR_RUN_CANCELLED', agent: 'clingy', act: ({ tab }) => { tab.close() } },
  'taken over by another owner': {
    status: 'lost',
    code: 'FAE_ERR_RUN_FAILED',
    isTaken: true,
    async act (of) {
      await takeOver(of)
      await of.t.rejects(contexts.get(of.message)!.emit('note', 'too late'), { code: 'FAE_ERR_RUN_ENDED' })
    }
  },
  'interrupted by a newer message': {
    status: 'cancelled',
    agent: 'polite',
    isSent: true,
    async act ({ tab, threadId, runId }) {
      scripts.set('newer', { open: openers.nothing!, end: () => 'newer' })
      tab.send({ type: 'send', ref: 'newer', threadId, agent: 'polite', content: 'newer' })
      await tab.frame('agent_completed', (event) => event.threadId === threadId && event.runId !== runId && event.data.agent === 'polite')
    }
  }
}

const options: Partial<AgentEventsOptions> = {
  events: { note: Type.Any() },
  limits: { framesPerSecond: 1_000 },
  agents: [worker('worker'), worker('hasty', { timeoutMs: 150 }), worker('clingy', { onDisconnect: { cancelAfterMs: 5 } }), worker('polite', { concurrency: 'interrupt' })]
}

function timers (): number {
  return process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length
}

async function until (holds: () => boolean, what: string): Promise<void> {
  for (const deadline = Date.now() + 10_000; !holds();) {
    if (Date.now() > deadline) throw new Error(`waited 10 s for ${what}`)
    await new Promise((resolve) => { setImmediate(resolve) })
  }
}

/** Starts the run of a case; resolves once what its script opens is open, or the run is over. */
async function begin (t: Test, { app, url }: { app: FastifyInstance, url: string }, what: string, opener: Opener, ending: EndingOf): Promise<Case & { opened: boolean }> {
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  const message = `${what} in ${threadId}`
  let opened = false
  const isOpen = new Promise<void>((resolve) => {
    scripts.set(message, {
      ...(ending.isSync === true && { isSync: true }),
      async open (ctx) {
        await opener(ctx)
        opened = true
        resolve()
      },
      end: ending.end ?? never
    })
  })
  let runId: string
  let settled: Promise<unknown>
  if (ending.isSent === true) {
    tab.send({ type: 'send', ref: 'first', threadId, agent: ending.agent ?? 'worker', content: message })
    runId = (await tab.frame('accepted')).runId
    settled = tab.frame('agent_completed', (event) => event.runId === runId)
  } else {
    const agent = await app.agents.createForUser(ending.agent ?? 'worker', { userId: 'u', threadId })
    runId = agent.runId
    settled = agent.execute({ message }).then(() => undefined, (error: unknown) => error)
  }
  await Promise.race([isOpen, settled])
  return { app, url, tab, threadId, message, runId, settled, t, opened }
}

/** The terminal event of the run, and the rules of everything around it, at a receiver and in the log. */
async function verify (t: Test, { app, tab, threadId, runId }: Case, ending: EndingOf, opened: boolean, what: string): Promise<void> {
  await until(() => app.agents.active().length === 0, `the runs of '${what}' to be over`)
  let log: AgentEvent[] = []
  if (ending.isDeleted === true) {
    if (tab.closeCode === undefined) await tab.frame('unsubscribed', ({ reason }) => reason === 'deleted')
    log = tab.events(threadId)
  } else {
    for (let after: string | undefined; ;) {
      const page = await app.notifier.history(threadId, { limit: 1_000, ...(after !== undefined && { after }) })
      if (page.length === 0) break
      log.push(...page)
      after = page.at(-1)!.id
    }
    if (tab.closeCode === undefined) {
      await tab.until(() => tab.events(threadId).length === log.length, `${log.length} events`)
      t.same(tab.events(threadId), log, 'the receiver has what the log has')
    }
  }
  t.same(brokenRules(log), [], 'rules')
  const own = eventsOf(log, runId)
  const end = own.at(-1)
  t.match(end, { type: 'agent_completed', data: { status: ending.status, agent: ending.agent ?? 'worker' } }, 'terminal event')
  if (opened && what.includes('tool') && !what.includes('child')) t.ok(own.some(({ type }) => type === 'tool_completed'), 'the tool was closed')
  if (opened && what.includes('child')) {
    const ids = new Set(log.filter((event) => event.parentRunId === runId).map((event) => event.runId!))
    t.equal(ids.size, 1, 'one child run')
    for (const id of ids) {
      const last = eventsOf(log, id).at(-1)!
      t.match(last, { type: 'agent_completed', data: { status: 'cancelled' } }, 'the child was cancelled')
      if (ending.isTaken !== true) t.ok(last.seq < end!.seq, 'the child ended before its parent')
    }
  }
}

/** Whatever an agent says after its end is refused, counted, and never unhandled. */
async function sayTooLate (t: Test, app: FastifyInstance, message: string): Promise<void> {
  const ctx = contexts.get(message)
  if (ctx === undefined) return
  const before = app.notifier.refused
  await t.rejects(ctx.emit('note', 1), { code: 'FAE_ERR_RUN_ENDED' })
  await t.rejects(ctx.think('late'), { code: 'FAE_ERR_RUN_ENDED' })
  await t.rejects(ctx.say('late'), { code: 'FAE_ERR_RUN_ENDED' })
  await t.rejects(ctx.tools.wait({}), { code: 'FAE_ERR_RUN_ENDED' })
  await t.rejects(ctx.agents.helper({ message: '' }), { code: 'FAE_ERR_RUN_ENDED' })
  t.equal(app.notifier.refused, before + 5, 'counted')
  ctx.emit('note', 2)
  ctx.say(stuckText(() => {}))
  ctx.tools.deaf({})
  ctx.agents.helper({ message: '' })
  t.equal(ctx.signal.aborted, true)
  t.same(getEventListeners(ctx.signal, 'abort').length, 0, 'no listener is left')
}

for (const [how, ending] of Object.entries(endings)) {
  t.test(`B3: ${how}`, async (t) => {
    const { app, url } = await startApp(t, options)
    const atRest = timers()
    for (const [what, opener] of Object.entries(openers)) {
      await t.test(`while it has open: ${what}`, async (t) => {
        const of = await begin(t, { app, url }, what, opener, ending)
        await ending.act?.(of)
        const error = await of.settled as { code?: string } | undefined
        if (ending.isSent !== true) t.equal(error?.code, ending.code, 'how execute() settled')
        await verify(t, of, ending, of.opened, what)
        if (ending.isDeleted === true) t.equal((await get(url, `/threads/${of.threadId}`, 'u')).status, 404)
        await sayTooLate(t, app, of.message)
        of.tab.close()
        await of.tab.closed()
        for (const table of [scripts, contexts, atWork]) table.clear()
      })
    }
    await until(() => app.notifier.hub.connections.size === 0, 'no connection')
    t.equal(app.notifier.hub.feeds.size, 0, 'no feed')
    t.same(app.agents.active(), [], 'no run')
    await until(() => timers() <= atRest, `timers to be back at ${atRest}`)
  })
}

t.test('B3: created and never executed', async (t) => {
  const { app, url } = await startApp(t, { ...options, createdTimeoutMs: 20 })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  const agent = await app.agents.createForUser('worker', { userId: 'u', threadId })
  t.match(await tab.frame('agent_completed'), { runId: agent.runId, data: { status: 'timeout' } })
  t.same(brokenRules(tab.events(threadId)), [])
  await t.rejects(agent.execute({ message: 'late' }), { code: 'FAE_ERR_RUN_STATE' })
  t.same(app.agents.active(), [])
})

for (const [what, opener] of Object.entries(openers)) {
  t.test(`B3: the app closes while a run has open: ${what}`, async (t) => {
    const { app, url } = await startApp(t, { ...options, closeGraceMs: 20 })
    const ending: EndingOf = { status: 'cancelled', code: 'FAE_ERR_RUN_CANCELLED' }
    const of = await begin(t, { app, url }, what, opener, ending)
    await app.close()
    t.match(await of.settled, { code: ending.code })
    t.equal(await of.tab.closed(), 1012)
    await verify(t, of, { ...ending, isDeleted: true }, of.opened, what)
    await sayTooLate(t, app, of.message)
    for (const table of [scripts, contexts, atWork]) table.clear()
  })

  t.test(`B3: the run that called it ends while a child has open: ${what}`, async (t) => {
    const inner = worker('inner')
    let opened = () => {}
    const isOpen = new Promise<void>((resolve) => { opened = resolve })
    const boss = defineAgent({
      name: 'boss',
      description: 'Leaves before its child is done',
      agents: [inner],
      async run (_input, ctx) {
        keep('boss ctx', ctx)
        ctx.agents.inner!({ message: 'child' } as never)
        await isOpen
        return 'left'
      }
    })
    const { app, url } = await startApp(t, { events: options.events!, agents: [boss as AnyAgent] })
    scripts.set('child', { open: (ctx) => opener(ctx).then(opened), end: never })
    const { threadId } = await app.threads.register({ userId: 'u' })
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId })
    t.equal(await app.agents.run(boss, { userId: 'u', threadId, input: { message: 'x' } }), 'left')
    await tab.frame('agent_completed', ({ data }) => data.agent === 'boss')
    const log = tab.events(threadId)
    t.same(brokenRules(log), [])
    const ends = log.flatMap((event) => event.type === 'agent_completed' ? [[event.data.agent, event.data.status]] : [])
    t.same(ends.slice(-2), [['inner', 'cancelled'], ['boss', 'success']])
    t.same(app.agents.active(), [])
    await sayTooLate(t, app, 'child')
    for (const table of [scripts, contexts, atWork]) table.clear()
  })
}

t.test('B3: whoever hears of the end and asks for it again does not make it twice', async (t) => {
  const { app } = await startApp(t, options)
  const { threadId } = await app.threads.register({ userId: 'u' })
  const agent = await app.agents.createForUser('worker', { userId: 'u', threadId })
  const cancels: Array<Promise<void>> = []
  scripts.set('again', {
    async open (ctx) { ctx.signal.addEventListener('abort', () => { cancels.push(agent.cancel('again'), agent.cancel('and again')) }, { once: true }) },
    end: never
  })
  const settled = agent.execute({ message: 'again' }).catch((error: unknown) => error)
  await until(() => app.agents.active()[0]?.state === 'running' && contexts.has('again'), 'the run')
  await agent.cancel('first')
  t.match(await settled, { code: 'FAE_ERR_RUN_CANCELLED', message: /first/ })
  await Promise.all(cancels)
  const log = await app.notifier.history(threadId)
  t.same(brokenRules(log), [])
  t.match(log.at(-1), { data: { status: 'cancelled', reason: 'first' } })
  t.equal(cancels.length, 2)
  t.same(app.agents.active(), [])
})

t.test('B3: a cancel in the turn in which the agent returns: execute() says what the log says', async (t) => {
  const { app } = await startApp(t, options)
  for (let turns = 0; turns < 10; turns++) {
    const { threadId } = await app.threads.register({ userId: 'u' })
    const agent = await app.agents.createForUser('worker', { userId: 'u', threadId })
    let finish = (_value: unknown) => {}
    scripts.set('race', { open: openers.nothing!, end: () => new Promise((resolve) => { finish = resolve }) })
    contexts.delete('race')
    const settled = agent.execute({ message: 'race' }).then((value) => ({ status: 'success', value }), ({ code }: { code: string }) => ({ status: 'cancelled', code }))
    await until(() => contexts.has('race'), 'the run')
    await null
    finish('returned')
    for (let i = 0; i < turns; i++) await null
    agent.cancel()
    const { status } = await settled
    const log = await app.notifier.history(threadId)
    t.same(brokenRules(log), [])
    t.match(log.at(-1), { type: 'agent_completed', data: { status } }, `after ${turns} turns`)
  }
})

t.test('B3: what a full lane refuses was never open', async (t) => {
  const { app, url } = await startApp(t, { ...options, lane: { maxEvents: 10 } })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  const agent = await app.agents.createForUser('worker', { userId: 'u', threadId })
  scripts.set('flood', {
    open: openers.nothing!,
    end (ctx) {
      atWork.set(threadId, () => {})
      for (let i = 0; i < 50; i++) ctx.tools.wait({})
      return never()
    }
  })
  await t.rejects(agent.execute({ message: 'flood' }), { code: 'FAE_ERR_RUN_FAILED', cause: { code: 'FAE_ERR_RUN_OVERFLOW' } })
  await tab.frame('agent_completed')
  t.same(brokenRules(tab.events(threadId)), [])
  t.same(tab.events(threadId), await app.notifier.history(threadId))
})

t.test('B3: a reason without end is cut, not a run without end', async (t) => {
  const { app } = await startApp(t, { ...options, maxEventBytes: 8_192 })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const agent = await app.agents.createForUser('worker', { userId: 'u', threadId })
  await agent.cancel('x'.repeat(1_000_000))
  const log = await app.notifier.history(threadId)
  t.match(log.at(-1), { type: 'agent_completed', data: { status: 'cancelled', reason: /^x+/ } })
  t.same(brokenRules(log), [])
})

t.test('B3: no run begins while the app closes, and those who ask are told', async (t) => {
  const { app, url } = await startApp(t, { ...options, closeGraceMs: 10_000 })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  let finish = (_value: unknown) => {}
  scripts.set('last', { open: openers.nothing!, end: (ctx) => new Promise((resolve) => { finish = resolve; ctx.emit('note', 'at work') }) })
  tab.send({ type: 'subscribe', threadId })
  tab.send({ type: 'send', ref: '1', threadId, content: 'last' })
  await tab.frame('custom')
  const closed = app.close()
  await tab.frame('goaway')
  tab.send({ type: 'send', ref: '2', threadId, content: 'last' })
  t.match(await tab.frame('error'), { ref: '2', code: 'FAE_ERR_SERVER_CLOSING' })
  await t.rejects(app.agents.createForUser('worker', { userId: 'u', threadId }), { code: 'FAE_ERR_SERVER_CLOSING' })
  finish('in its grace')
  t.match(await tab.frame('agent_completed'), { data: { status: 'success', result: 'in its grace' } })
  await closed
  t.equal(await tab.closed(), 1012)
  t.same(brokenRules(tab.events(threadId)), [])
})

t.test('A4: nothing of all these runs is left in memory', async (t) => {
  for (const table of [scripts, contexts, atWork]) table.clear()
  t.ok(kept.length > 200, `${kept.length} objects were watched`)
  const alive = () => {
    gc()
    return kept.filter(({ ref }) => ref.deref() !== undefined)
  }
  for (const deadline = Date.now() + 10_000; alive().length > 0 && Date.now() < deadline;) await new Promise((resolve) => { setTimeout(resolve, 20) })
  t.same(alive().map(({ what }) => what), [])
})
