import t from 'tap'
import { FAE_ERR_STORE_UNAVAILABLE } from '../../../errors.js'
import { MemoryStore } from '../../../plugins/store/memory-store.js'
import type { Appended, AppendOptions } from '../../../plugins/store/store.js'
import { Lane, type LaneLimits } from '../../../plugins/websocket-notifier/lane.js'

type Fault = 'refused' | 'reply lost'

/** A memory store whose answers can be held back, refused or lost on the way. */
class FaultyStore extends MemoryStore {
  readonly calls: Array<{ n: number, events: number }> = []
  /** What goes wrong with the next calls, in order. */
  readonly faults: Fault[] = []
  #gate: Promise<void> | undefined
  #open: (() => void) | undefined

  hold (): void { this.#gate = new Promise((resolve) => { this.#open = resolve }) }

  release (): void {
    this.#gate = undefined
    this.#open?.()
  }

  override async append (threadId: string, bodies: readonly string[], options: AppendOptions = {}): Promise<Appended> {
    if (options.run === undefined) return super.append(threadId, bodies, options)
    this.calls.push({ n: options.run.n, events: bodies.length })
    await this.#gate
    const fault = this.faults.shift()
    if (fault === 'refused') throw new FAE_ERR_STORE_UNAVAILABLE('refused')
    const appended = await super.append(threadId, bodies, options)
    if (fault === 'reply lost') throw new FAE_ERR_STORE_UNAVAILABLE('the reply was lost')
    return appended
  }
}

const info = { userId: 'u1', agent: 'triage', agentId: 'a', messageId: 'm', trigger: 'api', startedAt: 0 } as const

async function openLane (t: { teardown (fn: () => unknown): void }, limits: Partial<LaneLimits> = {}) {
  const store = new FaultyStore()
  t.teardown(() => store.close())
  await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
  await store.append('t1', [body('started')], { start: { runId: 'r1', started: true, mode: 'now', maxRuns: 10, info } })
  const failures: Array<Error & { code?: string }> = []
  const lane = new Lane(store, { threadId: 't1', runId: 'r1', fence: 1, n: 1, agent: 'triage' }, { maxEvents: 1_000, maxBytes: 1024 * 1024, ...limits }, (error) => failures.push(error))
  return { store, lane, failures }
}

function body (value: unknown): string {
  return JSON.stringify({ v: 1, value })
}

async function stored (store: MemoryStore): Promise<unknown[]> {
  const values: unknown[] = []
  for (let seq = 1; ;) {
    const { entries } = await store.read('t1', seq)
    if (entries.length === 0) return values
    for (const { json } of entries) values.push((JSON.parse(json) as { value: unknown }).value)
    seq = entries.at(-1)!.seq
  }
}

/** Later than everything that waits for nothing outside. */
function nextTick (): Promise<void> {
  return new Promise((resolve) => { process.nextTick(resolve) })
}

/** What was said until now is on its way to the store: what follows is another append. */
async function sent (lane: Lane, value: unknown = 0): Promise<void> {
  lane.append({ body: body(value) })
  await nextTick()
}

/** Whether a promise has settled by now. */
async function isSettled (promise: Promise<unknown> | undefined): Promise<boolean> {
  let settled = false
  const settle = (): void => { settled = true }
  Promise.resolve(promise).then(settle, settle)
  await new Promise((resolve) => { setImmediate(resolve) })
  return settled
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

t.test('an append resolves with its position, once it is stored', async (t) => {
  const { store, lane } = await openLane(t)
  store.hold()
  const first = lane.append({ body: body(1) })
  t.notOk(await isSettled(first))
  store.release()
  const { epoch } = (await store.getThread('t1'))!
  t.same(await first, { seq: 2, id: `${epoch}-0000000002` })
  t.equal((await lane.append({ body: body(2) })).seq, 3)
  t.same(await stored(store), [1, 2])
})

t.test('the order is the order of the calls, awaited or not', async (t) => {
  const { store, lane } = await openLane(t, { maxEvents: 10_000 })
  const positions: Array<Promise<{ seq: number }>> = []
  for (const i of upTo(3_000)) {
    if (i % 3 === 0) positions.push(lane.append({ body: body(i) }))
    else if (i % 3 === 1) lane.take({ body: body(i) })
    else if (i % 300 === 2) await lane.append({ body: body(i) })
    else lane.append({ body: body(i) })
  }
  await lane.whenEmpty()
  t.same(await stored(store), upTo(3_000))
  t.same((await Promise.all(positions)).map(({ seq }) => seq), upTo(1_000).map((i) => 3 * i + 2))
})

t.test('what is said in one go is one append, and its positions are in the order of the calls', async (t) => {
  const { store, lane } = await openLane(t)
  const first = lane.append({ body: body(0) })
  lane.take({ body: body(1) })
  await Promise.resolve()
  const third = lane.append({ body: body(2) })
  t.same([(await first).seq, (await third).seq], [2, 4])
  t.same(store.calls, [{ n: 2, events: 3 }])
  t.same(await stored(store), [0, 1, 2])
  t.equal(lane.taken, 3)
})

t.test('one append is in flight; the next takes along what gathered meanwhile, within bounds', async (t) => {
  const { store, lane } = await openLane(t, { maxEvents: 10_000, maxBytes: 8 * 1024 * 1024 })
  store.hold()
  await sent(lane)
  for (const i of upTo(1_201).slice(1)) lane.append({ body: body(i) })
  t.same(store.calls, [{ n: 2, events: 1 }])
  store.release()
  await lane.whenEmpty()
  t.same(store.calls, [{ n: 2, events: 1 }, { n: 3, events: 500 }, { n: 4, events: 500 }, { n: 5, events: 200 }])
  store.calls.length = 0
  store.hold()
  await sent(lane, 'x'.repeat(300_000))
  for (let i = 1; i < 6; i++) lane.append({ body: body('x'.repeat(300_000)) })
  store.release()
  await lane.whenEmpty()
  t.same(store.calls.map(({ events }) => events), [1, 2, 2, 1], 'bytes are bounded too')
})

t.test('text is taken at once while there is room; half full, it waits for room', async (t) => {
  const { store, lane, failures } = await openLane(t, { maxEvents: 10 })
  store.hold()
  for (let i = 0; i < 5; i++) t.ok(await isSettled(lane.take({ body: body(i) })), 'one in flight, four waiting')
  const waiting = [lane.take({ body: body(5) }), lane.take({ body: body(6) })]
  for (const taken of waiting) t.notOk(await isSettled(taken))
  store.release()
  await Promise.all(waiting)
  await lane.whenEmpty()
  t.same(await stored(store), upTo(7))
  t.same(failures, [])
})

t.test('half full counts bytes as well', async (t) => {
  const { store, lane } = await openLane(t, { maxBytes: 2_000 })
  store.hold()
  t.ok(await isSettled(lane.take({ body: body(0) })))
  const taken = lane.take({ body: body('x'.repeat(1_000)) })
  t.notOk(await isSettled(taken))
  store.release()
  await taken
})

t.test('a lane that runs over says so and takes no more, but the end has room', async (t) => {
  for (const limits of [{ maxEvents: 5 }, { maxBytes: 200 }]) {
    const { store, lane, failures } = await openLane(t, limits)
    store.hold()
    lane.append({ body: body(0), opens: ['tool:1', 'a'] })
    await nextTick()
    const accepted = [lane.append({ body: body('x'.repeat(20)) }), lane.append({ body: body('x'.repeat(20)) })]
    let refused = 0
    for (let i = 0; i < 10; i++) await Promise.race([lane.append({ body: body('x'.repeat(50)) }), Promise.resolve()]).catch(() => {})
    await t.rejects(lane.append({ body: body('x'.repeat(50)) }), { code: 'FAE_ERR_RUN_OVERFLOW', message: /Agent 'triage' emits faster.*awaiting is the backpressure/ })
    t.throws(() => lane.take({ body: body('x'.repeat(50)) }), { code: 'FAE_ERR_RUN_OVERFLOW' }, 'text too: what was not taken is not silently gone')
    for (const { code } of failures) if (code === 'FAE_ERR_RUN_OVERFLOW') refused++
    t.equal(refused, failures.length)
    t.ok(refused >= 2, 'the run learns of each')
    const closing = lane.append({ body: body('closed'), closes: 'tool:1' })
    const finished = lane.finish([{ body: body('end 1') }, { body: body('end 2'), ends: 'error' }])
    store.release()
    await Promise.all([...accepted, closing])
    await finished
    t.same((await stored(store)).slice(-3), ['closed', 'end 1', 'end 2'])
    t.match(await store.getRun('r1'), { state: 'error', open: {} })
  }
})

t.test('who asks is told that an item was taken, and not when it was not', async (t) => {
  const { store, lane } = await openLane(t, { maxEvents: 1 })
  const taken: string[] = []
  store.hold()
  lane.append({ body: body(0), opens: ['a', '1'], taken: () => taken.push('in flight') })
  await nextTick()
  lane.append({ body: body(1), opens: ['b', '1'], taken: () => taken.push('waiting') })
  await t.rejects(lane.append({ body: body(2), opens: ['c', '1'], taken: () => taken.push('over the bound') }), { code: 'FAE_ERR_RUN_OVERFLOW' })
  t.same(taken, ['in flight', 'waiting'], 'at once, so that the end closes what was opened and nothing else')
  store.release()
  await lane.whenEmpty()
  t.same((await store.getRun('r1'))!.open, { a: '1', b: '1' })
})

t.test('a rejection that nobody awaits does not end the process', async (t) => {
  const { store, lane } = await openLane(t, { maxEvents: 1 })
  const unhandled: unknown[] = []
  const listener = (error: unknown): void => { unhandled.push(error) }
  process.on('unhandledRejection', listener)
  t.teardown(() => { process.off('unhandledRejection', listener) })
  store.hold()
  for (let i = 0; i < 5; i++) {
    lane.append({ body: body(i) })
  }
  store.release()
  await lane.whenEmpty()
  await lane.finish([{ body: body('end'), ends: 'success' }])
  lane.append({ body: body('late') })
  await new Promise((resolve) => { setTimeout(resolve, 20) })
  t.same(unhandled, [])
})

t.test('nothing follows the end', async (t) => {
  const { store, lane, failures } = await openLane(t)
  store.hold()
  lane.append({ body: body(1) })
  const finished = lane.finish([{ body: body(2), ends: 'success' }])
  await t.rejects(lane.append({ body: body(3) }), { code: 'FAE_ERR_RUN_ENDED' })
  t.throws(() => lane.take({ body: body(3) }), { code: 'FAE_ERR_RUN_ENDED' })
  store.release()
  t.match(await finished, { last: { seq: 3 } })
  await t.rejects(lane.append({ body: body(3) }), { code: 'FAE_ERR_RUN_ENDED' })
  t.same(await stored(store), [1, 2])
  t.same(failures, [])
})

t.test('the end hands out the run that waits', async (t) => {
  const { store, lane } = await openLane(t)
  await store.append('t1', [body('message')], { start: { runId: 'r2', started: false, mode: 'enqueue', maxRuns: 10, info } })
  store.faults.push('reply lost')
  t.match(await lane.finish([{ body: body('end'), ends: 'success' }]), { next: { runId: 'r2', state: 'running' } }, 'also when the reply that named it was lost')
  t.same(store.calls.map(({ n }) => n), [2, 2])
})

t.test('what opens and closes is in the record, whatever shares a call', async (t) => {
  const { store, lane } = await openLane(t)
  store.hold()
  lane.append({ body: body(0) })
  lane.append({ body: body(1), opens: ['a', '1'] })
  lane.append({ body: body(2), closes: 'a' })
  lane.append({ body: body(3), opens: ['b', '1'] })
  lane.append({ body: body(4), closes: 'b' })
  lane.append({ body: body(5), opens: ['b', '2'] })
  lane.append({ body: body(6), opens: ['c', '1'] })
  store.release()
  await lane.whenEmpty()
  t.same((await store.getRun('r1'))!.open, { b: '2', c: '1' })
  store.hold()
  lane.append({ body: body(7) })
  lane.append({ body: body(8), closes: 'b' })
  lane.append({ body: body(9), opens: ['b', '3'] })
  lane.append({ body: body(10), closes: 'b' })
  lane.append({ body: body(11), closes: 'c' })
  lane.append({ body: body(12), opens: ['c', '2'] })
  store.release()
  await lane.whenEmpty()
  t.same((await store.getRun('r1'))!.open, { c: '2' })
})

t.test('a run is begun and taken over in its first call', async (t) => {
  const { store } = await openLane(t)
  await store.append('t1', [body('message')], { start: { runId: 'r2', started: false, mode: 'now', maxRuns: 10, info } })
  const lane = new Lane(store, { threadId: 't1', runId: 'r2', fence: 2, n: 1, agent: 'triage' }, { maxEvents: 10, maxBytes: 1_000 }, (error) => t.fail(error.message))
  const { seq } = await lane.append({ body: body('agent_started'), starts: true, takesOver: true })
  await lane.append({ body: body('more') })
  t.match(await store.getRun('r2'), { fence: 2, n: 3, firstSeq: seq, lastSeq: seq + 1 })
})

t.test('while the store is away the same call is made again, and nothing overtakes it', async (t) => {
  for (const fault of ['refused', 'reply lost'] as const) {
    const { store, lane, failures } = await openLane(t)
    store.faults.push(fault, fault, fault)
    const first = lane.append({ body: body(0) })
    await nextTick()
    const rest = upTo(20).slice(1).map((i) => lane.append({ body: body(i) }))
    const empty = lane.whenEmpty()
    t.notOk(await isSettled(empty))
    t.equal((await first).seq, 2)
    t.same((await Promise.all(rest)).map(({ seq }) => seq), upTo(20).slice(1).map((i) => i + 2))
    await empty
    t.same(store.calls, [{ n: 2, events: 1 }, { n: 2, events: 1 }, { n: 2, events: 1 }, { n: 2, events: 1 }, { n: 3, events: 19 }])
    t.same(await stored(store), upTo(20), 'once each')
    t.same(failures, [])
  }
})

t.test('a run that lost its place refuses everything that waits, once and for all', async (t) => {
  const { store, lane, failures } = await openLane(t, { maxEvents: 10 })
  await store.append('t1', [body('taken over')], { run: { runId: 'r1', fence: 2, n: 2, takesOver: true } })
  store.hold()
  const refused = [lane.append({ body: body(0) }), lane.append({ body: body(1) }), lane.append({ body: body(2) })]
  lane.take({ body: body(3) })
  lane.take({ body: body(4) })
  const room = lane.take({ body: body(5) })
  const empty = lane.whenEmpty()
  const finished = lane.finish([{ body: body('close') }, { body: body('end'), ends: 'success' }])
  store.release()
  for (const append of refused) await t.rejects(append, { code: 'FAE_ERR_RUN_STALE' })
  await t.rejects(finished, { code: 'FAE_ERR_RUN_STALE' })
  await room
  await t.rejects(empty, { code: 'FAE_ERR_RUN_STALE' }, 'who waits until all is stored hears that it is not')
  t.match(failures, [{ code: 'FAE_ERR_RUN_STALE' }])
  await t.rejects(lane.append({ body: body(6) }), { code: 'FAE_ERR_RUN_STALE' })
  t.throws(() => lane.take({ body: body(6) }), { code: 'FAE_ERR_RUN_STALE' })
  await t.rejects(lane.finish([{ body: body('end'), ends: 'success' }]), { code: 'FAE_ERR_RUN_STALE' })
  await t.rejects(lane.whenEmpty(), { code: 'FAE_ERR_RUN_STALE' })
  t.same(await stored(store), ['taken over'])
})

t.test('one event alone has room, however large it may be', async (t) => {
  const { store, lane, failures } = await openLane(t, { maxBytes: 100 })
  const large = 'x'.repeat(1_000)
  t.match(await lane.append({ body: body(large) }), { seq: 2 })
  t.same(await stored(store), [large])
  t.same(failures, [])
})

t.test('what is said before the end has room when the run ends', async (t) => {
  const { store, lane, failures } = await openLane(t, { maxEvents: 2 })
  store.hold()
  lane.liftLimits()
  for (const i of upTo(20)) t.ok(lane.take({ body: body(i) }) === undefined)
  const finished = lane.finish([{ body: body('end'), ends: 'success' }])
  store.release()
  await finished
  t.same(await stored(store), [...upTo(20), 'end'])
  t.same(failures, [])
})

t.test('a thread that is deleted under a run fails it', async (t) => {
  const { store, lane, failures } = await openLane(t)
  await store.deleteThread('t1')
  await t.rejects(lane.append({ body: body(0) }), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
  t.match(failures, [{ code: 'FAE_ERR_THREAD_NOT_FOUND' }])
})
