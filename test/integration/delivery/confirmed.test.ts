import t from 'tap'
import { formatCursor } from '../../../schemas/index.js'
import { connect, get, type Receiver } from '../../support/connect.js'
import { turn, until, untilEmpty } from '../../support/delivery.js'
import { startApp } from '../../support/start-app.js'

const message = { type: 'user_message', data: { content: 'x' } } as const

async function setup (t: { teardown (fn: () => unknown): void }, options: Parameters<typeof startApp>[1] = {}) {
  const started = await startApp(t, { debug: true, ...options })
  const { threadId, epoch } = await started.app.threads.register({ userId: 'u' })
  const append = async (count: number): Promise<string> => {
    let id = ''
    for (let i = 0; i < count; i++) ({ id } = await started.app.notifier.sendToThread(threadId, message))
    return id
  }
  const subscribe = async (cursor?: string): Promise<Receiver> => {
    const tab = await connect(t, started.url, 'u')
    tab.send({ type: 'subscribe', threadId, ...(cursor !== undefined && { cursor }) })
    await tab.frame('subscribed')
    return tab
  }
  return { ...started, threadId, cursor: (seq: number) => formatCursor(epoch, seq), append, subscribe }
}

/** Has settled already? */
async function settled (promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false
  promise.finally(() => { isSettled = true }).catch(() => {})
  for (let i = 0; i < 5; i++) await turn()
  return isSettled
}

t.test('true as soon as one connection has processed it (C5)', async (t) => {
  const { app, threadId, cursor, append, subscribe } = await setup(t)
  const [first, second] = [await subscribe(), await subscribe()]
  const id = await append(3)
  t.equal(id, cursor(3))
  for (const tab of [first, second]) await tab.until(() => tab.events().length === 3)
  const confirmed = app.notifier.confirmed(threadId, id)
  first.send({ type: 'ack', threadId, cursor: cursor(2) })
  t.notOk(await settled(confirmed), 'not by an earlier one')
  second.send({ type: 'ack', threadId, cursor: id })
  t.equal(await confirmed, true)
  t.equal(await app.notifier.confirmed(threadId, id), true, 'and at once when it was so before')
  t.equal(await app.notifier.confirmed(threadId, cursor(1), { timeoutMs: 1 }), true, 'cumulative')
  // Acks are the connection's: with it goes what it has said.
  second.close()
  await until(() => app.notifier.hub.connections.size === 1)
  t.equal(await app.notifier.confirmed(threadId, id, { timeoutMs: 20 }), false)
  t.equal(await app.notifier.confirmed(threadId, cursor(2), { timeoutMs: 20 }), true)
})

t.test('a cursor to resume from is an acknowledgement', async (t) => {
  const { app, threadId, cursor, append, subscribe } = await setup(t)
  await append(3)
  const confirmed = app.notifier.confirmed(threadId, cursor(3))
  t.notOk(await settled(confirmed))
  await subscribe(cursor(3))
  t.equal(await confirmed, true)
})

t.test('false at the timeout, false when the app closes, an error for what cannot be', async (t) => {
  const { app, threadId, cursor, append, subscribe } = await setup(t)
  await subscribe()
  await append(1)
  t.equal(await app.notifier.confirmed(threadId, cursor(1), { timeoutMs: 20 }), false)
  t.equal(await app.notifier.confirmed(threadId, cursor(7), { timeoutMs: 20 }), false, 'beyond the head')
  t.equal(await app.notifier.confirmed(threadId, formatCursor('000000000000', 1), { timeoutMs: 20 }), false, 'another history')
  await t.rejects(app.notifier.confirmed(threadId, 'x'), { code: 'FAE_ERR_CURSOR_INVALID' })
  await t.rejects(app.notifier.confirmed('nowhere', cursor(1)), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
  const last = app.notifier.confirmed(threadId, cursor(1), { timeoutMs: 60_000 })
  t.notOk(await settled(last))
  await app.close()
  t.equal(await last, false)
})

t.test('what was gone before a client could be shown it was processed by nobody', async (t) => {
  const { app, threadId, cursor, append, subscribe } = await setup(t, { store: { memory: { retention: { maxEvents: 5 } } } })
  await append(20)
  const tab = await subscribe()
  await tab.until(() => tab.events().length === 5)
  t.equal(await app.notifier.confirmed(threadId, cursor(3), { timeoutMs: 20 }), false)
  t.equal(await app.notifier.confirmed(threadId, cursor(15), { timeoutMs: 20 }), false)
  tab.send({ type: 'ack', threadId, cursor: cursor(20) })
  t.equal(await app.notifier.confirmed(threadId, cursor(16)), true)
  t.equal(await app.notifier.confirmed(threadId, cursor(3), { timeoutMs: 20 }), false)
})

t.test("another user's acknowledgement confirms nothing", async (t) => {
  const { app, url, threadId, cursor, append } = await setup(t)
  await append(1)
  const other = await connect(t, url, 'other')
  other.send({ type: 'subscribe', threadId, cursor: cursor(1) })
  t.match(await other.frame('error'), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
  other.send({ type: 'ack', threadId, cursor: cursor(1) })
  await other.frame('error', ({ code }) => code === 'FAE_ERR_NOT_SUBSCRIBED')
  t.equal(await app.notifier.confirmed(threadId, cursor(1), { timeoutMs: 20 }), false)
})

t.test('acks that regress, double, lie: answered, harmless, and the debug endpoint shows the lag', async (t) => {
  const { app, url, threadId, cursor, append, subscribe } = await setup(t)
  const tab = await subscribe()
  await append(10)
  await tab.until(() => tab.events().length === 10)
  const lag = async () => (await get(url, '/debug/websocket/connections', 'u')).body.connections[0].threads[0]
  const acked = async (seq: number) => {
    const [connection] = app.notifier.hub.connections.values()
    await until(() => connection!.subscriptions.get(threadId)!.acked === seq)
  }
  t.match(await lag(), { threadId, state: 'live', cursor: cursor(10), acked: 0, behind: 0, unacknowledged: 10 })
  tab.send({ type: 'ack', threadId, cursor: cursor(6) })
  await acked(6)
  tab.send({ type: 'ack', threadId, cursor: cursor(2) })
  tab.send({ type: 'ack', threadId, cursor: cursor(6) })
  tab.send({ type: 'ack', threadId, cursor: cursor(0) })
  const bad: Array<[cursor: string, code: string]> = [
    [cursor(11), 'FAE_ERR_ACK_AHEAD'],
    [formatCursor('zzzzzzzzzzzz', 7), 'FAE_ERR_CURSOR_INVALID'],
    ['7', 'FAE_ERR_CURSOR_INVALID']
  ]
  for (const [wrong, code] of bad) {
    tab.send({ type: 'ack', threadId, cursor: wrong })
    t.match(await tab.frame('error', (frame) => frame.code === code), { threadId, code })
  }
  t.match(await lag(), { acked: 6, unacknowledged: 4 })
  tab.send({ type: 'ack', threadId, cursor: cursor(8) })
  await acked(8)
  t.match(await lag(), { acked: 8, unacknowledged: 2, behind: 0 })
  t.equal(tab.closeCode, undefined)
  await append(1)
  await tab.until(() => tab.events().length === 11)
  tab.close()
  await untilEmpty(app)
})
