import t from 'tap'
import { PAGE_BYTES } from '../../../plugins/store/index.js'
import { connect, type Receiver } from '../../support/connect.js'
import { portOf, ServerSockets, turn, until, untilEmpty } from '../../support/delivery.js'
import { startApp, type StartedApp } from '../../support/start-app.js'
import { TcpProxy } from '../../support/tcp-proxy.js'

const MARK = 128 * 1024
const EVENT_BYTES = 32 * 1024
/** More than the kernel's buffers of both connections through the proxy take. */
const EVENTS = 1_200
const wide = { memory: { retention: { maxBytes: 256 * 1024 * 1024 } } }

interface Test { teardown (fn: () => unknown): void }

/** A slow tab behind a proxy and a fast one that comes directly, on one thread. */
async function setup (t: Test, options: Parameters<typeof startApp>[1] = {}) {
  const started = await startApp(t, { store: wide, ...options, limits: { highWaterMark: MARK, ...options.limits } })
  const proxy = await TcpProxy.start(t, started.port)
  const { threadId, epoch } = await started.app.threads.register({ userId: 'u' })
  const slow = await connect(t, proxy.url, 'u')
  const fast = await connect(t, started.url, 'u')
  for (const tab of [slow, fast]) {
    tab.send({ type: 'subscribe', threadId })
    await tab.frame('subscribed')
  }
  const { connections } = started.app.notifier.hub
  const connection = (tab: Receiver) => {
    const connected = tab.frames[0]!
    return connected.type === 'connected' ? connections.get(connected.connectionId) : undefined
  }
  return { ...started, proxy, threadId, epoch, slow, fast, connection }
}

async function append ({ app, threadId }: Pick<StartedApp, 'app'> & { threadId: string }, count: number, bytes = EVENT_BYTES, each: () => void = () => {}): Promise<void> {
  const content = 'x'.repeat(bytes)
  for (let i = 0; i < count; i++) {
    await app.notifier.sendToThread(threadId, { type: 'user_message', data: { content } })
    if (i % 4 === 0) await turn()
    each()
  }
}

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, index) => first + index)

t.test('a reader that stops: bounded memory, nobody else waits, everything when it reads again', async (t) => {
  const it = await setup(t)
  const { slow, fast, proxy, threadId } = it
  proxy.stall('toClient')
  let most = 0
  await append(it, EVENTS, EVENT_BYTES, () => { most = Math.max(most, it.connection(slow)!.bufferedBytes) })
  await fast.until(() => fast.events().length === EVENTS, 'the other tab')
  t.same(fast.events().map(({ seq }) => seq), upTo(EVENTS))
  t.equal(it.connection(slow)!.subscriptions.get(threadId)!.state, 'stalled')
  t.ok(slow.events().length < EVENTS)
  t.ok(most >= MARK, `the mark was reached: ${most}`)
  t.ok(most <= MARK + PAGE_BYTES + 2 * EVENT_BYTES, `and not passed by more than a page: ${most}`)
  proxy.resume()
  await slow.until(() => slow.events().length === EVENTS, 'the rest')
  t.same(slow.events().map(({ seq }) => seq), upTo(EVENTS))
  t.equal(slow.frames.filter((frame) => frame.type === 'subscribed').length, 1, 'it never lost its place')
  await until(() => it.connection(slow)!.subscriptions.get(threadId)!.state === 'live')
})

t.test('many threads on one socket share its bound', async (t) => {
  const threads = 40
  const { app, url } = await startApp(t, { store: wide, limits: { highWaterMark: MARK, framesPerSecond: 1_000 } })
  const sockets = new ServerSockets(app)
  const tab = await connect(t, url, 'u')
  const ids = await Promise.all(Array.from({ length: threads }, async () => (await app.threads.register({ userId: 'u' })).threadId))
  for (const threadId of ids) await append({ app, threadId }, 30)
  sockets.hold(portOf(tab))
  for (const threadId of ids) tab.send({ type: 'subscribe', threadId })
  const [connection] = app.notifier.hub.connections.values()
  await until(() => [...connection!.subscriptions.values()].filter(({ state }) => state === 'stalled').length === threads)
  t.ok(connection!.bufferedBytes <= MARK + PAGE_BYTES + 2 * EVENT_BYTES, `${connection!.bufferedBytes} bytes for ${threads} threads`)
  sockets.releaseAll()
  await tab.until(() => tab.events().length === threads * 30, 'all of all threads')
  for (const threadId of ids) t.same(tab.events(threadId).map(({ seq }) => seq), upTo(30))
})

t.test('a high-water mark below what a socket can tell of drains all the same', async (t) => {
  const it = await setup(t, { limits: { highWaterMark: 1 } })
  const sockets = new ServerSockets(it.app)
  const tab = await connect(t, it.url, 'u')
  sockets.hold(portOf(tab))
  tab.send({ type: 'subscribe', threadId: it.threadId })
  await until(() => it.connection(tab)!.subscriptions.size === 1)
  await append(it, 50, 1_000)
  sockets.releaseAll()
  for (const each of [tab, it.fast, it.slow]) await each.until(() => each.events().length === 50)
})

t.test('no progress at all: closed with 4413, and freed (slow consumer)', async (t) => {
  const it = await setup(t, { limits: { stallTimeoutMs: 300 } })
  const { slow, fast, proxy, app } = it
  proxy.stall('toClient')
  const isClosed = () => it.connection(slow)?.isOpen !== true
  // The code is waited for only so long.
  await append(it, EVENTS, EVENT_BYTES, () => { if (isClosed()) proxy.resume() })
  await until(isClosed, 'the close')
  t.ok(fast.socket.readyState === fast.socket.OPEN, 'the other tab stays')
  proxy.resume()
  t.equal(await slow.closed(), 4413)
  await until(() => app.notifier.hub.connections.size === 1)
  const seqs = slow.events().map(({ seq }) => seq)
  t.same(seqs, upTo(seqs.length), 'what it got before is in order')
})

t.test('pings and answers that queue up are no progress', async (t) => {
  const it = await setup(t, { limits: { stallTimeoutMs: 400 }, heartbeat: { intervalMs: 50, timeoutMs: 5_000 } })
  const { slow, proxy } = it
  proxy.stall('toClient')
  const isClosed = () => it.connection(slow)?.isOpen !== true
  await append(it, EVENTS, EVENT_BYTES, () => { if (isClosed()) proxy.resume() })
  const timer = setInterval(() => { slow.send({ type: 'unsubscribe', threadId: 'another' }) }, 50)
  t.teardown(() => { clearInterval(timer) })
  await until(isClosed, 'the close')
  proxy.resume()
  t.equal(await slow.closed(), 4413)
})

t.test('a reader that is slow but reads is not taken for dead, though it gets each ping late', async (t) => {
  const it = await setup(t, { limits: { highWaterMark: 64 * 1024 * 1024 }, heartbeat: { intervalMs: 1_000, timeoutMs: 1_000 } })
  const { slow, proxy } = it
  let passed = 0
  proxy.onFrame = (text, link) => {
    if (!text.startsWith('{"id":') || ++passed % 20 > 0) return undefined
    setTimeout(() => { link.resume() }, 60)
    return 'stall'
  }
  await append(it, EVENTS)
  await slow.until(() => slow.events().length === EVENTS, 'everything, at its own pace', 30_000)
  t.equal(slow.closeCode, undefined)
})

t.test('who asks and asks without reading the answers does not fill the memory', async (t) => {
  const it = await setup(t, { limits: { framesPerSecond: 100_000 } })
  const sockets = new ServerSockets(it.app)
  const tab = await connect(t, it.url, 'u')
  sockets.hold(portOf(tab))
  const connection = it.connection(tab)!
  let most = 0
  const long = 'x'.repeat(50_000)
  for (let i = 0; i < 200 && connection.isOpen; i++) {
    tab.send({ type: 'unsubscribe', threadId: long })
    await turn()
    most = Math.max(most, connection.bufferedBytes)
  }
  await until(() => !connection.isOpen)
  t.ok(most <= MARK + 60_000, `${most} bytes of answers`)
  sockets.releaseAll()
  t.equal(await tab.closed(), 4413)
})

t.test('trimmed past while stalled: told unasked, then everything retained', async (t) => {
  const { app, url } = await startApp(t, { store: { memory: { retention: { maxEvents: 20 } } }, limits: { highWaterMark: 16 * 1024 } })
  const sockets = new ServerSockets(app)
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId, ref: 'a' })
  await tab.frame('subscribed')
  let head = 0
  for (let round = 1; round <= 3; round++) {
    sockets.hold(portOf(tab))
    await append({ app, threadId }, 60, 2_000)
    head += 60
    sockets.release(portOf(tab))
    await tab.until(() => tab.events().at(-1)?.seq === head, `the head of round ${round}`)
    const frames = tab.frames.filter((frame) => frame.type === 'subscribed')
    t.equal(frames.length, 1 + round)
    t.match(frames.at(-1), { recovered: false, head: Number, threadId })
    t.notOk('ref' in frames.at(-1)!, 'nobody asked')
    const at = tab.frames.indexOf(frames.at(-1)!)
    const after = tab.frames.slice(at).filter((frame) => 'seq' in frame).map((frame) => 'seq' in frame ? frame.seq : 0)
    t.same(after, upTo(head, head - 19), 'everything retained')
  }
  t.equal(tab.closeCode, undefined, 'it moved in between: no reason to close')
  tab.close()
  await untilEmpty(app)
})
