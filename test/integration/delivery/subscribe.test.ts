import t from 'tap'
import { WebSocket } from 'ws'
import { createClient } from '../../../client/index.js'
import { FAE_ERR_STORE_UNAVAILABLE } from '../../../errors.js'
import { MemoryStore, type Page, type Retention, type Watcher } from '../../../plugins/store/index.js'
import { LogReader } from '../../../plugins/websocket-notifier/log-reader.js'
import { formatCursor, newEpoch, parseCursor } from '../../../schemas/index.js'
import { connect, get, type Receiver } from '../../support/connect.js'
import { turn, until, untilEmpty, wrapStore } from '../../support/delivery.js'
import { startApp } from '../../support/start-app.js'

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => first + index)
const seqsOf = (tab: Receiver, threadId?: string) => tab.events(threadId).map(({ seq }) => seq)

/** A memory store whose reads and look-ups can be held back, counted, changed. */
function controlled (retention: Partial<Retention> = {}) {
  const control = {
    reads: 0,
    /** Awaited before a read looks at the log, and after it has. */
    beforeRead: async (): Promise<void> => {},
    afterRead: async (page: Page): Promise<Page> => page,
    beforeGet: async (): Promise<void> => {},
    beforeWatch: async (): Promise<void> => {},
    watchers: new Set<Watcher>()
  }
  const { store, inner } = wrapStore({
    async read (this: MemoryStore, threadId: string, afterSeq: number, limit?: number) {
      control.reads++
      await control.beforeRead()
      return control.afterRead(await MemoryStore.prototype.read.call(this, threadId, afterSeq, limit))
    },
    async getThread (this: MemoryStore, threadId: string) {
      await control.beforeGet()
      return MemoryStore.prototype.getThread.call(this, threadId)
    },
    async watch (this: MemoryStore, threadId: string, watcher: Watcher) {
      await control.beforeWatch()
      const unwatch = await MemoryStore.prototype.watch.call(this, threadId, watcher)
      control.watchers.add(watcher)
      return () => {
        control.watchers.delete(watcher)
        unwatch()
      }
    }
  }, retention)
  return { control, store, inner }
}

/** A door that is shut until it is opened. */
function gate () {
  let open = (): void => {}
  let arrived = 0
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { pass: async () => { arrived++; await opened }, open: () => { open() }, arrived: () => arrived }
}

async function setup (t: { teardown (fn: () => unknown): void }, options: Parameters<typeof startApp>[1] = {}, retention: Partial<Retention> = {}) {
  const { control, store } = controlled(retention)
  const started = await startApp(t, { store, limits: { framesPerSecond: 10_000, connectionsPerUser: 1_000 }, ...options })
  const { threadId, epoch } = await started.app.threads.register({ userId: 'u' })
  const append = async (count = 1): Promise<void> => {
    await Promise.all(Array.from({ length: count }, async () => started.app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'x' } })))
  }
  return { ...started, control, threadId, append, cursor: (seq: number) => formatCursor(epoch, seq) }
}

t.test('an event between the read of the log and going live: once, in order', async (t) => {
  for (const when of ['before it reads', 'after it has read', 'both'] as const) {
    const { app, url, control, threadId, append } = await setup(t)
    await append(3)
    const [before, after] = [gate(), gate()]
    control.beforeRead = before.pass
    control.afterRead = async (page) => { await after.pass(); return page }
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId })
    await until(() => before.arrived() === 1)
    if (when !== 'after it has read') await append(2)
    before.open()
    await until(() => after.arrived() === 1)
    if (when !== 'before it reads') await append(2)
    after.open()
    const head = when === 'both' ? 7 : 5
    await tab.until(() => tab.events().length === head, when)
    await append()
    await tab.until(() => tab.events().length === head + 1)
    t.same(seqsOf(tab), upTo(head + 1), when)
    tab.close()
    await untilEmpty(app)
  }
})

t.test('an event between asking to watch and its answer', async (t) => {
  const { url, control, threadId, append } = await setup(t)
  const watching = gate()
  control.beforeWatch = watching.pass
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await until(() => watching.arrived() === 1)
  await append(2)
  watching.open()
  await tab.until(() => tab.events().length === 2)
  t.same(seqsOf(tab), [1, 2])
})

t.test('gone while the store takes its time: everything back to zero', async (t) => {
  for (const where of ['beforeGet', 'beforeWatch', 'beforeRead'] as const) {
    const { app, url, control, threadId, append } = await setup(t)
    const held = gate()
    const tab = await connect(t, url, 'u')
    control[where] = held.pass
    tab.send({ type: 'subscribe', threadId })
    await until(() => held.arrived() === 1, where)
    if (where !== 'beforeGet') {
      // what has no place yet can be looked at all the same
      t.equal([...app.notifier.hub.connections.values()][0]!.subscriptions.get(threadId)!.cursor, undefined)
    }
    tab.socket.terminate()
    await until(() => app.notifier.hub.connections.size === 0)
    held.open()
    await until(() => control.watchers.size === 0 && app.notifier.hub.feeds.size === 0, where)
    for (let i = 0; i < 5; i++) await turn()
    t.equal(control.watchers.size, 0, where)
    t.equal(app.notifier.hub.feeds.size, 0, where)
    await append()
    t.notOk(app.notifier.hub.feeds.isWatched(threadId))
  }
})

t.test('the debug endpoint while a subscription has no place yet', async (t) => {
  const { url, control, threadId } = await setup(t, { debug: true })
  const held = gate()
  control.beforeRead = held.pass
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await until(() => held.arrived() === 1)
  const { status, body } = await get(url, '/debug/websocket/connections', 'u')
  t.equal(status, 200)
  t.match(body.connections[0].threads[0], { threadId, state: 'starting' })
  held.open()
  await tab.frame('subscribed')
})

t.test('two resumed at once with one cursor: both complete, and they share what is read', async (t) => {
  const { url, control, threadId, append, cursor } = await setup(t)
  await append(2_500)
  const held = gate()
  control.beforeRead = held.pass
  const tabs = [await connect(t, url, 'u'), await connect(t, url, 'u')]
  for (const tab of tabs) tab.send({ type: 'subscribe', threadId, cursor: cursor(100) })
  await until(() => held.arrived() === 1)
  for (const tab of tabs) tab.send({ type: 'ack', threadId: 'nowhere', cursor: 'x' })
  for (const tab of tabs) await tab.frame('error')
  held.open()
  for (const tab of tabs) {
    await tab.until(() => tab.events().length === 2_400)
    t.same(seqsOf(tab), upTo(2_500, 101))
  }
  t.ok(control.reads < 6, `${control.reads} reads`)
})

t.test('500 resume at once: a few reads for all of them', async (t) => {
  const { app, url, control, threadId, append, cursor } = await setup(t)
  await append(400)
  const held = gate()
  control.beforeRead = held.pass
  const tabs: Receiver[] = []
  for (let i = 0; i < 500; i += 50) tabs.push(...await Promise.all(Array.from({ length: 50 }, async () => connect(t, url, 'u'))))
  for (const tab of tabs) tab.send({ type: 'subscribe', threadId, cursor: cursor(10) })
  await until(() => [...app.notifier.hub.connections.values()].filter(({ subscriptions }) => subscriptions.size === 1).length === 500)
  held.open()
  for (const tab of tabs) await tab.until(() => tab.events().length === 390, 'all of it', 30_000)
  t.ok(tabs.every((tab) => tab.events().every(({ seq }, i) => seq === 11 + i)), 'in order, each once')
  t.ok(control.reads <= 4, `${control.reads} reads`)
  for (const tab of tabs) tab.close()
  await untilEmpty(app)
})

t.test('twice on one socket: one subscription, both answered, nothing doubled', async (t) => {
  const { app, url, control, threadId, append, cursor } = await setup(t)
  await append(3)
  const held = gate()
  control.beforeRead = held.pass
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', ref: 'a', threadId })
  tab.send({ type: 'subscribe', ref: 'b', threadId })
  await until(() => held.arrived() === 1)
  tab.send({ type: 'subscribe', ref: 'c', threadId, cursor: cursor(2) })
  tab.send({ type: 'ack', threadId: 'nowhere', cursor: 'x' })
  await tab.frame('error')
  held.open()
  for (const ref of ['a', 'b', 'c']) t.match(await tab.frame('subscribed', (frame) => frame.ref === ref), { threadId, cursor: cursor(0), head: 3, recovered: true })
  await tab.until(() => tab.events().length === 3)
  tab.send({ type: 'subscribe', ref: 'd', threadId })
  t.match(await tab.frame('subscribed', ({ ref }) => ref === 'd'), { cursor: cursor(3), head: 3, recovered: true })
  await append()
  await tab.until(() => tab.events().length === 4)
  t.same(seqsOf(tab), upTo(4))
  t.equal(app.notifier.hub.feeds.get(threadId)!.readers.size, 1)
  tab.send({ type: 'unsubscribe', threadId })
  await tab.frame('unsubscribed')
  t.equal(app.notifier.hub.feeds.size, 0)
})

t.test('taken back before the store has said whose thread it is', async (t) => {
  const { app, url, control, threadId, append } = await setup(t)
  const held = gate()
  control.beforeGet = held.pass
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', ref: 'a', threadId })
  tab.send({ type: 'unsubscribe', ref: 'b', threadId })
  await tab.frame('unsubscribed', ({ ref }) => ref === 'b')
  held.open()
  await append()
  for (let i = 0; i < 5; i++) await turn()
  t.equal(app.notifier.hub.feeds.size, 0)
  // and asked for anew in the same breath: the last word counts
  for (const ref of ['c', 'd', 'e']) tab.send({ type: ref === 'd' ? 'unsubscribe' : 'subscribe', ref, threadId })
  await tab.frame('subscribed', ({ ref }) => ref === 'e')
  await tab.until(() => tab.events().length === 1)
  t.same(seqsOf(tab), [1])
})

for (const { what, error, told } of [
  { what: 'is away in the middle of a replay: outlasted', error: new FAE_ERR_STORE_UNAVAILABLE('out for a moment'), told: 0 },
  { what: 'fails in the middle of a replay: told, subscribed again', error: new Error('disk on fire'), told: 2 }
]) {
  t.test(`the store ${what}, complete`, async (t) => {
    const { url, control, threadId, append } = await setup(t)
    await append(2_500)
    let failures = 0
    control.beforeRead = async () => {
      if (control.reads === 2 || control.reads === 4) {
        failures++
        throw error
      }
    }
    const errors: unknown[] = []
    const client = createClient({ url, query: { userId: 'u' }, WebSocket, backoff: { initialMs: 1, maxMs: 5 }, ackMs: 1 })
    t.teardown(() => client.close())
    client.onError((error) => { errors.push(error) })
    const seqs: number[] = []
    client.thread(threadId).onAny(({ seq }) => { seqs.push(seq) })
    await until(() => seqs.length === 2_500, () => `all events; there are ${seqs.length}`)
    await append()
    await until(() => seqs.length === 2_501)
    t.same(seqs, upTo(2_501))
    t.equal(failures, 2)
    t.match(errors, Array(told).fill({ code: 'FAE_ERR_INTERNAL', threadId }), 'without what is inside')
    t.equal(errors.length, told)
  })
}

t.test('the store fails at the start: every ref gets its error, nothing stays', async (t) => {
  const { app, url, control, threadId } = await setup(t)
  const held = gate()
  control.beforeRead = async () => {
    await held.pass()
    throw new FAE_ERR_STORE_UNAVAILABLE('out')
  }
  const tab = await connect(t, url, 'u')
  for (const ref of ['a', 'b']) tab.send({ type: 'subscribe', ref, threadId })
  await until(() => held.arrived() === 1)
  held.open()
  for (const ref of ['a', 'b']) t.match(await tab.frame('error', (frame) => frame.ref === ref), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  t.equal(app.notifier.hub.feeds.size, 0)
  control.beforeRead = async () => {}
  tab.send({ type: 'subscribe', ref: 'c', threadId })
  await tab.frame('subscribed')
})

t.test('a busy thread at its limit, resumed from what is trimmed: told once, then whole', async (t) => {
  const { app, url, control, threadId, append, cursor } = await setup(t, {}, { maxEvents: 50 })
  await append(200)
  // Between any two reads of the log it moves on: whoever plans to begin with its first event comes too late.
  control.beforeRead = async () => append()
  const tabs = await Promise.all([cursor(10), cursor(190), undefined].map(async (from) => {
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId, ...(from !== undefined && { cursor: from }) })
    return tab
  }))
  for (const tab of tabs) await tab.frame('subscribed')
  control.beforeRead = async () => {}
  const { head } = (await app.threads.get(threadId))!
  for (const tab of tabs) {
    await tab.until(() => tab.events().at(-1)?.seq === head || tab.closeCode !== undefined, 'the head')
    const { seq } = parseCursor((await tab.frame('subscribed')).cursor)!
    t.same(seqsOf(tab), upTo(head, seq + 1))
    t.equal(tab.frames.filter(({ type }) => type === 'subscribed').length, 1)
  }
})

t.test('the same for whoever pulls: one reset, then everything', async (t) => {
  const { app, control, threadId, append, cursor } = await setup(t, {}, { maxEvents: 50 })
  await append(200)
  control.beforeRead = async () => append()
  const reader = app.notifier.hub.feeds.join(threadId, (feed) => new LogReader(feed, parseCursor(cursor(10))!))
  t.teardown(() => { app.notifier.hub.feeds.leave(reader.feed, reader) })
  const steps = [await reader.next(1_000), await reader.next(1_000)]
  control.beforeRead = async () => {}
  await append()
  steps.push(await reader.next(1_000))
  t.same(steps.map(({ type }) => type), ['reset', 'events', 'events'])
  const seqs = steps.flatMap((step) => step.type === 'events' ? step.entries.map(({ seq }) => seq) : [])
  t.same(seqs, upTo((await app.threads.get(threadId))!.head, seqs[0]))
  t.match(steps[0], { cursor: cursor(seqs[0]! - 1) })
})

t.test('another history of the log while live: told unasked, or not at all when nothing was lost', async (t) => {
  const { app, url, control, threadId, append, cursor } = await setup(t)
  await append(5)
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.until(() => tab.events().length === 5)
  // The store begins a new epoch with what follows: everybody who is live is in place.
  const first = parseCursor(cursor(1))!.epoch
  let epochs = [{ epoch: first, from: 1 }, { epoch: newEpoch(first), from: 6 }]
  control.afterRead = async (page) => ({ ...page, epochs })
  const gap = () => { for (const watcher of control.watchers) watcher.gap() }
  gap()
  await append()
  await tab.until(() => tab.events().length === 6)
  t.equal(tab.frames.filter(({ type }) => type === 'subscribed').length, 1)
  // A tail is lost: the next epoch begins at 4 already.
  epochs = [{ epoch: first, from: 1 }, { epoch: newEpoch(epochs[1]!.epoch), from: 4 }]
  gap()
  const lost = await tab.frame('subscribed', ({ recovered }) => !recovered)
  t.notOk('ref' in lost)
  await tab.until(() => tab.events().length === 12)
  t.same(seqsOf(tab), [...upTo(6), ...upTo(6)])
  // Twice more with nothing in between: as long as it gets somewhere, it is no reason to close.
  for (let i = 0; i < 2; i++) {
    epochs = [{ epoch: newEpoch(epochs.at(-1)!.epoch), from: 1 }]
    const before = tab.events().length
    gap()
    await tab.until(() => tab.events().length === before + 6)
  }
  t.equal(tab.closeCode, undefined)
  // A log that cannot give what it says it holds, of another history each time: hopeless.
  control.afterRead = async (page) => ({ ...page, entries: [], first: 3, epochs: [{ epoch: newEpoch(), from: 1 }] })
  gap()
  t.equal(await tab.closed(), 4413)
  await untilEmpty(app)
})

t.test('the log has lost its tail: told, and nobody reads on for what is not there', async (t) => {
  const { app, url, control, threadId, append, cursor } = await setup(t)
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  await append(6)
  await tab.until(() => tab.events().length === 6)
  const { epoch } = parseCursor(cursor(1))!
  control.afterRead = async (page) => ({ ...page, entries: page.entries.filter(({ seq }) => seq <= 3), head: 3, epochs: [{ epoch, from: 1 }, { epoch: newEpoch(epoch), from: 4 }] })
  // A read that never waits would take the turn of everybody else in this process.
  control.beforeRead = async () => { if (control.reads > 100) throw new Error('reads on and on') }
  for (const watcher of control.watchers) watcher.gap()
  await tab.frame('subscribed', ({ recovered }) => !recovered)
  await tab.until(() => tab.events().length === 9)
  t.same(seqsOf(tab).slice(6), [1, 2, 3])
  const [connection] = app.notifier.hub.connections.values()
  await until(() => connection!.subscriptions.get(threadId)?.state === 'live')
  t.ok(control.reads < 6, `${control.reads} reads`)
})
