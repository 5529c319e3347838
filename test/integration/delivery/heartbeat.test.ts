import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { WebSocket } from 'ws'
import { createClient } from '../../../client/index.js'
import { SUBPROTOCOL } from '../../../schemas/index.js'
import { connect, type Receiver } from '../../support/connect.js'
import { until, untilEmpty } from '../../support/delivery.js'
import { startApp } from '../../support/start-app.js'
import { TcpProxy } from '../../support/tcp-proxy.js'

t.test('a peer that vanishes without a word is freed, and its client notices by itself (D1)', async (t) => {
  const { app, port } = await startApp(t, { heartbeat: { intervalMs: 100, timeoutMs: 100 } })
  const proxy = await TcpProxy.start(t, port)
  const { threadId } = await app.threads.register({ userId: 'u' })
  const client = createClient({ url: proxy.url, query: { userId: 'u' }, WebSocket, backoff: { initialMs: 1, maxMs: 5 } })
  t.teardown(() => client.close())
  const seqs: number[] = []
  client.thread(threadId).onAny((event) => { seqs.push(event.seq) })
  await until(() => client.thread(threadId).status === 'live')
  const { connections } = app.notifier.hub
  const [before] = connections.keys()
  const statuses: string[] = []
  client.onStatus((status) => { statuses.push(status) })
  proxy.stall('toClient')
  proxy.stall('toServer')
  await until(() => !connections.has(before!), 'the server to free it')
  await until(() => statuses.includes('offline'), 'the client to notice')
  await app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'missed' } })
  await until(() => seqs.length === 1, 'the client to be back')
  t.not([...connections.keys()][0], before)
  await client.close()
  await untilEmpty(app)
})

t.test('who answers no ping is freed, who answers stays', async (t) => {
  const { app, url } = await startApp(t, { heartbeat: { intervalMs: 60, timeoutMs: 60 } })
  const well = await connect(t, url, 'well')
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?userId=mute`, SUBPROTOCOL)
  // no listener for pings: only the close is waited for
  const [code] = await once(socket, 'close')
  t.equal(code, 4408)
  const pings = () => well.frames.filter(({ type }) => type === 'ping').length
  const then = pings()
  await well.until(() => pings() > then + 3)
  t.equal(app.notifier.hub.connections.size, 1)
  t.equal(well.closeCode, undefined)
})

t.test('a timeout longer than the interval is kept', async (t) => {
  const { app, url } = await startApp(t, { heartbeat: { intervalMs: 30, timeoutMs: 100_000 } })
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?userId=mute`, SUBPROTOCOL)
  t.teardown(() => { socket.terminate() })
  let pings = 0
  socket.on('message', (data) => { if (String(data) === '{"type":"ping"}') pings++ })
  await until(() => pings > 5, 'pings without an answer')
  t.equal(app.notifier.hub.connections.size, 1, 'still within its timeout')
})

t.test('a protocol ping is a sign of life too', async (t) => {
  const { app, url } = await startApp(t, { heartbeat: { intervalMs: 50, timeoutMs: 200 }, limits: { framesPerSecond: 10_000 } })
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?userId=u`, SUBPROTOCOL)
  const timer = setInterval(() => { if (socket.readyState === socket.OPEN) socket.ping() }, 5)
  t.teardown(() => {
    clearInterval(timer)
    socket.terminate()
  })
  let pings = 0
  socket.on('message', (data) => { if (String(data) === '{"type":"ping"}') pings++ })
  await until(() => pings > 8)
  t.equal(app.notifier.hub.connections.size, 1)
})

t.test('a stall of the server longer than the timeout kills nobody', async (t) => {
  const intervalMs = 150
  const timeoutMs = 150
  const child = fork(fileURLToPath(new URL('../../support/heartbeat-server.ts', import.meta.url)), [JSON.stringify({ heartbeat: { intervalMs, timeoutMs } })], { serialization: 'json' })
  t.teardown(() => { child.kill('SIGKILL') })
  const [{ port }] = await once(child, 'message') as [{ port: number }]
  const url = `http://127.0.0.1:${port}`
  const tabs = await Promise.all(Array.from({ length: 40 }, async (_, i) => connect(t, url, `u${i}`)))
  const pings = (tab: Receiver) => tab.frames.filter(({ type }) => type === 'ping').length
  for (let round = 0; round < 2; round++) {
    child.send({ block: 5 * timeoutMs })
    await once(child, 'message')
    const then = tabs.map(pings)
    // judged again in full: two rounds of pings
    await until(() => tabs.every((tab, i) => pings(tab) > then[i]! + 1 || tab.closeCode !== undefined))
    t.same(tabs.filter((tab) => tab.closeCode !== undefined).length, 0)
  }
})

t.test('pings pass during a replay of 10,000 events', async (t) => {
  const { app, url } = await startApp(t, { heartbeat: { intervalMs: 30, timeoutMs: 5_000 }, store: { memory: { retention: { maxBytes: 64 * 1024 * 1024 } } } })
  const { threadId } = await app.threads.register({ userId: 'u' })
  // more than the kernel takes in advance
  for (let i = 0; i < 100; i++) {
    await Promise.all(Array.from({ length: 100 }, async () => app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'x'.repeat(2_000) } })))
  }
  const proxy = await TcpProxy.start(t, Number(new URL(url).port))
  const tab = await connect(t, proxy.url, 'u')
  // Paced by the network: the replay lasts for several intervals however fast the machine is.
  let passed = 0
  proxy.onFrame = (text, link) => {
    if (!text.startsWith('{"id":') || ++passed % 1_000 > 0) return undefined
    setTimeout(() => { link.resume() }, 40)
    return 'stall'
  }
  tab.send({ type: 'subscribe', threadId })
  await tab.until(() => tab.events().length === 10_000, 'the replay', 30_000)
  t.same(tab.events().map(({ seq }) => seq), Array.from({ length: 10_000 }, (_, i) => i + 1))
  const first = tab.frames.findIndex((frame) => 'seq' in frame)
  const between = tab.frames.slice(first, tab.frames.findLastIndex((frame) => 'seq' in frame)).filter(({ type }) => type === 'ping').length
  t.ok(between > 0, `${between} pings between the events`)
  t.equal(tab.closeCode, undefined)
})
