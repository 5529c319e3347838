import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import { Type, defineAgent, defineTool, type AgentContext, type AgentEventsOptions, type AnyAgent } from '../../index.js'
import type { AgentEvent, EventOf } from '../../schemas/index.js'
import { connect } from '../support/connect.js'
import { brokenRules, eventsOf } from '../support/run-rules.js'
import { SharedStore, type StoreView } from '../support/shared-store.js'
import { startApp } from '../support/start-app.js'

/*
 * Runs whose process is gone, on a store that several nodes share. The nodes are apps of this process; a dead one is cut
 * off from the store, and may come back to find that its run is somebody else's.
 */

interface Node { app: FastifyInstance, url: string, view: StoreView }

async function startNode (t: Test, store: SharedStore, options: Partial<AgentEventsOptions> = {}): Promise<Node> {
  const view = store.view()
  const { app, url } = await startApp(t, { store: view, closeGraceMs: 0, events: { note: Type.Any() }, ...options })
  // Before it closes: a node that is cut off waits for the store as long as it may.
  t.teardown(() => { rejoin(view) })
  return { app, url, view }
}

function rejoin (view: StoreView): void {
  view.beforeAppend = undefined
  view.isCut = false
}

async function until (holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const deadline = Date.now() + 10_000; !await holds();) {
    if (Date.now() > deadline) throw new Error(`waited 10 s for ${what}`)
    await new Promise((resolve) => { setTimeout(resolve, 2) })
  }
}

async function logOf ({ app }: Node, threadId: string): Promise<AgentEvent[]> {
  return app.notifier.history(threadId, { limit: 1_000 })
}

function ends (events: readonly AgentEvent[]): Array<EventOf<'agent_completed'>> {
  return events.filter((event): event is EventOf<'agent_completed'> => event.type === 'agent_completed')
}

const wait = defineTool({ name: 'wait', description: '', execute: () => new Promise<void>(() => {}) })

/** An agent that does what is asked for here, and how often it was started. */
function worker (run: (ctx: AgentContext<readonly [typeof wait]>) => unknown = () => 'done'): { agent: AnyAgent, started: string[] } {
  const started: string[] = []
  const agent = defineAgent({
    name: 'worker',
    description: '',
    tools: [wait],
    async run (_input, ctx) {
      started.push(ctx.run.runId)
      return run(ctx)
    }
  })
  return { agent, started }
}

/** A run with everything open, whose node cannot reach the store any more. */
async function dyingRun (t: Test, store: SharedStore): Promise<{ node: Node, threadId: string, runId: string, ctx: AgentContext, settled: Promise<unknown> }> {
  let ctx: AgentContext | undefined
  const { agent } = worker((own) => {
    ctx = own
    own.tools.wait({})
    own.think((async function * () { yield 'hm'; await new Promise(() => {}) })())
    own.say((async function * () { yield 'so'; await new Promise(() => {}) })())
    return new Promise(() => {})
  })
  const node = await startNode(t, store, { agents: [agent] })
  const { threadId } = await node.app.threads.register({ userId: 'u' })
  const instance = await node.app.agents.createForUser(agent, { userId: 'u', threadId })
  const settled = instance.execute({ message: '' } as never).catch((error: unknown) => error)
  await until(async () => Object.keys((await store.memory.getRun(instance.runId))!.open).length === 3, 'three open items')
  node.view.isCut = true
  return { node, threadId, runId: instance.runId, ctx: ctx!, settled }
}

t.test('a run that its process left behind ends as lost, with everything open closed, at a receiver of another node', async (t) => {
  const store = new SharedStore()
  const { node: dead, threadId, runId, ctx, settled } = await dyingRun(t, store)
  const alive = await startNode(t, store, { agents: [worker().agent] })
  const tab = await connect(t, alive.url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('assistant_message')
  await store.orphan(runId, [alive.view])
  const end = await tab.frame('agent_completed')
  t.match(end.data, { status: 'lost', error: { code: 'FAE_ERR_RUN_LOST', retryable: true }, counts: { events: 8, tools: 1 } })
  t.same(brokenRules(tab.events(threadId)), [])
  t.same(await logOf(alive, threadId), tab.events(threadId))
  t.match(tab.events(threadId).find(({ type }) => type === 'tool_completed'), { data: { status: 'error', error: { code: 'FAE_ERR_RUN_LOST' } } })

  dead.view.isCut = false
  t.notOk(ctx.signal.aborted, 'the old owner does not know yet')
  await t.rejects(ctx.emit('note', 'I am still here'), { code: /FAE_ERR_RUN_(ENDED|STALE)/ })
  t.ok(ctx.signal.aborted, 'now it does')
  t.match(await settled, { code: 'FAE_ERR_RUN_FAILED' })
  t.same(dead.app.agents.active(), [])
  t.same(await logOf(alive, threadId), tab.events(threadId), 'nothing followed')
})

t.test('what the old owner has in flight is refused, and its agent is aborted', async (t) => {
  const store = new SharedStore()
  const { node: dead, threadId, runId, ctx, settled } = await dyingRun(t, store)
  const alive = await startNode(t, store)
  // The lane calls again until the store answers.
  const emitted = ctx.emit('note', 'in flight')
  ctx.say('and this')
  await store.orphan(runId, [alive.view])
  await until(async () => ends(await logOf(alive, threadId)).length === 1, 'lost')
  dead.view.isCut = false
  await t.rejects(emitted, { code: /FAE_ERR_RUN_(ENDED|STALE)/ })
  t.match(await settled, { code: 'FAE_ERR_RUN_FAILED' })
  t.ok(ctx.signal.aborted)
  const log = await logOf(alive, threadId)
  t.same(brokenRules(log), [])
  t.same(ends(log).map(({ data }) => data.status), ['lost'])
})

t.test('an owner that was only slow and ends its run itself is not told lost', async (t) => {
  const store = new SharedStore()
  let finish = (_value: unknown) => {}
  const { agent } = worker(() => new Promise((resolve) => { finish = resolve }))
  const slow = await startNode(t, store, { agents: [agent] })
  const other = await startNode(t, store, { agents: [worker().agent] })
  const { threadId } = await slow.app.threads.register({ userId: 'u' })
  const instance = await slow.app.agents.createForUser(agent, { userId: 'u', threadId })
  const result = instance.execute({ message: '' } as never)
  const record = await store.memory.getRun(instance.runId)
  await until(() => slow.app.agents.active()[0]?.state === 'running', 'running')
  finish('in time')
  t.equal(await result, 'in time')
  other.view.onOrphanListener!(record!)
  await until(() => other.view.appends.length > 0, 'the attempt')
  const log = await logOf(slow, threadId)
  t.same(ends(log).map(({ data }) => data.status), ['success'])
  t.same(brokenRules(log), [])
})

t.test('two nodes race for a lost run: one ends it', async (t) => {
  const store = new SharedStore()
  const { threadId, runId } = await dyingRun(t, store)
  const nodes = [await startNode(t, store), await startNode(t, store)]
  // Also told twice, as a store does while nobody has taken the run.
  await Promise.all([store.orphan(runId, nodes.map(({ view }) => view)), store.orphan(runId, nodes.map(({ view }) => view).reverse())])
  await until(async () => ends(await logOf(nodes[0]!, threadId)).length > 0, 'lost')
  await until(() => nodes.every(({ app }) => app.agents.active().length === 0), 'nothing left')
  const log = await logOf(nodes[0]!, threadId)
  t.same(brokenRules(log), [])
  t.equal(ends(log).length, 1)
})

/** A message whose node died between storing it and starting its run. */
async function unbegunRun (t: Test, store: SharedStore, agent: AnyAgent): Promise<{ threadId: string, runId: string, dead: Node }> {
  const dead = await startNode(t, store, { agents: [agent] })
  const { threadId } = await dead.app.threads.register({ userId: 'u' })
  dead.view.beforeAppend = (options) => {
    if (options.run !== undefined) dead.view.isCut = true
    return undefined
  }
  const { runId } = await dead.app.agents.send({ user: { userId: 'u' }, threadId, content: 'hello' })
  t.match(await store.memory.getRun(runId), { state: 'running', firstSeq: 0 })
  return { threadId, runId, dead }
}

t.test('a run that never began begins once, on one of the nodes that hear of it', async (t) => {
  const store = new SharedStore()
  const theirs = worker()
  const { threadId, runId, dead } = await unbegunRun(t, store, theirs.agent)
  const workers = [worker(() => 'one'), worker(() => 'two')]
  const nodes = [await startNode(t, store, { agents: [workers[0]!.agent] }), await startNode(t, store, { agents: [workers[1]!.agent] })]
  const tab = await connect(t, nodes[1]!.url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await Promise.all([store.orphan(runId, nodes.map(({ view }) => view)), store.orphan(runId, nodes.map(({ view }) => view))])
  t.match((await tab.frame('agent_completed')).data, { status: 'success', result: /one|two/ })
  rejoin(dead.view)
  await until(() => [dead, ...nodes].every(({ app }) => app.agents.active().length === 0), 'nothing left')
  const log = await logOf(nodes[0]!, threadId)
  t.same(log.map(({ type }) => type), ['user_message', 'agent_started', 'agent_completed'])
  t.same(brokenRules(log), [])
  t.same([...theirs.started, ...workers[0]!.started, ...workers[1]!.started], [runId], 'started once')
  t.same(tab.events(threadId), log)
})

t.test('a node that takes over again what it has taken over does nothing twice', async (t) => {
  const store = new SharedStore()
  const { threadId, runId } = await unbegunRun(t, store, worker().agent)
  let finish = (_value: unknown) => {}
  const mine = worker(() => new Promise((resolve) => { finish = resolve }))
  const node = await startNode(t, store, { agents: [mine.agent] })
  const stale = (await store.memory.getRun(runId))!
  await store.orphan(runId)
  await until(() => mine.started.length === 1, 'started')
  node.view.onOrphanListener!(stale)
  t.equal(await node.view.handler!({ type: 'start', runId }), undefined, 'it has begun')
  t.equal(node.app.agents.active().length, 1)
  await node.app.agents.cancel(runId)
  finish('too late')
  const log = await logOf(node, threadId)
  t.same(ends(log).map(({ data }) => data.status), ['cancelled'])
  t.same(brokenRules(log), [])
})

t.test('a run whose agent no node knows ends as error after a time, and the thread goes on', async (t) => {
  const store = new SharedStore()
  const { threadId, runId } = await unbegunRun(t, store, worker().agent)
  const next = defineAgent({ name: 'next', description: '', run: () => 'next' })
  const node = await startNode(t, store, { agents: [next], unknownAgentMs: 50 })
  const waiting = await node.app.agents.send({ user: { userId: 'u' }, threadId, content: 'and then?' })
  // As often as a store may tell of it.
  for (let i = 0; i < 10; i++) await store.orphan(runId, [node.view])
  await until(async () => ends(await logOf(node, threadId)).length === 2, 'both ends')
  const log = await logOf(node, threadId)
  t.same(brokenRules(log), [])
  t.match(eventsOf(log, runId).at(-1), { data: { status: 'error', error: { code: 'FAE_ERR_AGENT_NOT_FOUND', message: /next/ } } })
  t.match(eventsOf(log, waiting.runId).at(-1), { data: { status: 'success', result: 'next' } })
  t.ok(node.view.asked.filter(({ type }) => type === 'start').length <= 2, 'one wait, however often it was told')
})

t.test('a run whose agent is registered in time begins', async (t) => {
  const store = new SharedStore()
  const { threadId, runId } = await unbegunRun(t, store, worker().agent)
  const node = await startNode(t, store, { agents: [defineAgent({ name: 'other', description: '', run () {} })], unknownAgentMs: 100_000 })
  const { agent, started } = worker(() => 'at last')
  await store.orphan(runId, [node.view])
  await until(() => node.view.asked.some(({ type }) => type === 'start'), 'the question')
  node.app.agents.register(agent)
  await until(async () => ends(await logOf(node, threadId)).length === 1, 'its end')
  const log = await logOf(node, threadId)
  t.match(ends(log)[0], { runId, data: { status: 'success', result: 'at last' } })
  t.same(started, [runId])
  t.same(brokenRules(log), [])
  t.equal((await store.memory.getRun(runId))!.fence, 2, 'it took the run over: its old owner may not write')
})

t.test('a node that knows the agent takes the run from one that does not', async (t) => {
  const store = new SharedStore()
  const { threadId, runId } = await unbegunRun(t, store, worker().agent)
  const mine = worker(() => 'known here')
  const ignorant = await startNode(t, store, { agents: [defineAgent({ name: 'other', description: '', run () {} })], unknownAgentMs: 100_000 })
  const knowing = await startNode(t, store, { agents: [mine.agent] })
  await store.orphan(runId, [ignorant.view])
  await until(async () => ends(await logOf(knowing, threadId)).length === 1, 'its end')
  t.same(mine.started, [runId])
  t.match(ends(await logOf(knowing, threadId))[0]!.data, { result: 'known here' })
  t.equal(knowing.view.appends.length > 0 && ignorant.view.appends.length === 0, true)
})

t.test('a run that waits for its agent can be cancelled', async (t) => {
  const store = new SharedStore()
  const { threadId, runId } = await unbegunRun(t, store, worker().agent)
  const node = await startNode(t, store, { agents: [defineAgent({ name: 'other', description: '', run () {} })], unknownAgentMs: 100_000 })
  await store.orphan(runId, [node.view])
  await until(() => node.view.asked.length > 0, 'the question')
  t.equal(await node.app.agents.cancel(runId), true)
  const log = await logOf(node, threadId)
  t.match(ends(log)[0]!.data, { status: 'cancelled' })
  t.same(brokenRules(log), [])
  node.app.agents.register(worker().agent)
  t.equal(await node.app.agents.cancel(runId), false, 'ended already')
})

t.test('a node that closes leaves what it has not begun to the others', async (t) => {
  const store = new SharedStore()
  const { threadId, runId } = await unbegunRun(t, store, worker().agent)
  const leaving = await startNode(t, store, { agents: [defineAgent({ name: 'other', description: '', run () {} })], unknownAgentMs: 100_000 })
  await store.orphan(runId, [leaving.view])
  await until(() => leaving.view.asked.length > 0, 'the question')
  await leaving.app.close()
  const mine = worker(() => 'taken')
  const node = await startNode(t, store, { agents: [mine.agent] })
  await store.orphan(runId, [node.view])
  await until(async () => ends(await logOf(node, threadId)).length === 1, 'its end')
  t.match(ends(await logOf(node, threadId))[0]!.data, { status: 'success', result: 'taken' })
})

t.test('cancel reaches a run of another node; of a dead one it says that nobody answers', async (t) => {
  const store = new SharedStore()
  const { agent } = worker(() => new Promise(() => {}))
  const owner = await startNode(t, store, { agents: [agent] })
  const other = await startNode(t, store, { agents: [worker().agent] })
  const { threadId } = await owner.app.threads.register({ userId: 'u' })
  const first = await owner.app.agents.createForUser(agent, { userId: 'u', threadId })
  const settled = first.execute({ message: '' } as never).catch((error: unknown) => error)
  t.equal(await other.app.agents.cancel(first.runId, { reason: 'from afar' }), true)
  t.match(await settled, { code: 'FAE_ERR_RUN_CANCELLED' })
  t.match(ends(await logOf(other, threadId))[0]!.data, { status: 'cancelled', reason: 'from afar' })

  const second = await owner.app.agents.createForUser(agent, { userId: 'u', threadId })
  owner.view.isCut = true
  await t.rejects(other.app.agents.cancel(second.runId), { code: 'FAE_ERR_RUN_UNREACHABLE' })
  owner.view.isCut = false
  await second.cancel()
  t.same(brokenRules(await logOf(other, threadId)), [])
})

t.test('deleting a thread ends its runs on every node', async (t) => {
  const store = new SharedStore()
  const { agent } = worker(() => new Promise(() => {}))
  const owner = await startNode(t, store, { agents: [agent] })
  const other = await startNode(t, store, { agents: [worker().agent] })
  const { threadId } = await owner.app.threads.register({ userId: 'u' })
  const tab = await connect(t, other.url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  const instance = await owner.app.agents.createForUser(agent, { userId: 'u', threadId })
  const settled = instance.execute({ message: '' } as never).catch((error: unknown) => error)
  t.equal(await other.app.threads.delete(threadId), true)
  t.match(await settled, { code: 'FAE_ERR_RUN_CANCELLED' })
  await tab.frame('unsubscribed', ({ reason }) => reason === 'deleted')
  t.same(brokenRules(tab.events(threadId)), [])
  t.equal(ends(tab.events(threadId)).length, 1)
  t.same(owner.app.agents.active(), [])
})

t.test('a reply that is lost on the way does not double anything', async (t) => {
  const store = new SharedStore()
  const { agent } = worker(async (ctx) => {
    for (let i = 0; i < 20; i++) await ctx.emit('note', i)
    return 'done'
  })
  const node = await startNode(t, store, { agents: [agent] })
  const { FAE_ERR_STORE_UNAVAILABLE } = await import('../../errors.js')
  let calls = 0
  node.view.beforeReply = async (options) => {
    if (options.run !== undefined && ++calls % 3 === 0) throw new FAE_ERR_STORE_UNAVAILABLE('reply lost')
  }
  const { threadId } = await node.app.threads.register({ userId: 'u' })
  t.equal(await node.app.agents.run(agent, { userId: 'u', threadId, input: { message: '' } } as never), 'done')
  const log = await logOf(node, threadId)
  t.same(brokenRules(log), [])
  t.same(log.flatMap((event) => event.type === 'custom' ? [event.data.value] : []), Array.from({ length: 20 }, (_, i) => i))
})

t.test('the app closes within its bounds also when the store does not answer', async (t) => {
  const store = new SharedStore()
  const { node, threadId, runId } = await dyingRun(t, store)
  await node.app.close()
  t.ok(node.view.isCut)
  const other = await startNode(t, store)
  await store.orphan(runId, [other.view])
  await until(async () => ends(await logOf(other, threadId)).length === 1, 'lost')
  t.same(brokenRules(await logOf(other, threadId)), [])
  // Lets go of the calls that are tried again.
  node.view.isCut = false
  await until(() => node.app.agents.active().length === 0, 'the dead node to let go')
})
