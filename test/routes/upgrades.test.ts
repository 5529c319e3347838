import { once } from 'node:events'
import { connect as connectTcp, type AddressInfo, type Socket } from 'node:net'
import { Writable } from 'node:stream'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import t from 'tap'
import agentEvents from '../../index.js'
import { connect } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { gc } from '../support/gc.js'

const cases = [
  { what: 'nobody at our door', path: '/ours/ws', status: 401 },
  { what: 'nowhere', path: '/nowhere', status: 404 }
]

for (const { what, path, status } of cases) {
  t.test(`an upgrade that is refused leaves no socket behind: ${what}`, async (t) => {
    const { app, port, url } = await startApp(t, { prefix: '/ours' })
    const tab = await connect(t, `${url}/ours`, 'ada')
    const peer = connectTcp(port, '127.0.0.1')
    t.teardown(() => { peer.destroy() })
    peer.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`)
    const [answer] = await once(peer, 'data', { signal: AbortSignal.timeout(10_000) })
    t.match(String(answer), new RegExp(`^HTTP/1.1 ${status} `))
    // The peer stays where it is and says nothing more.
    await once(peer, 'close', { signal: AbortSignal.timeout(30_000) })
    await app.close()
    t.equal(await tab.closed(), 1012, 'who is really connected gets its code')
  })
}

t.test('what a peer does wrong is no error of the server: closed with its code, and not told as one', async (t) => {
  const lines: Array<{ level: number, msg: string }> = []
  const stream = new Writable({
    write (chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)))
      done()
    }
  })
  const { url } = await startApp(t, { limits: { maxPayload: 1_000 } }, { logger: { level: 'info', stream } })
  const large = await connect(t, url, 'ada')
  large.socket.send('x'.repeat(1_001))
  t.equal(await large.closed(), 1009)
  const broken = await connect(t, url, 'ada')
  // A continuation of nothing.
  ;(broken.socket as unknown as { _socket: Socket })._socket.write(Buffer.from([0x80, 0x80, 0, 0, 0, 0]))
  t.equal(await broken.closed(), 1002)
  const told = lines.filter(({ msg }) => msg === 'socket failed')
  t.same(told.map(({ level }) => level), [30, 30])
  t.same(lines.filter(({ level }) => level > 30), [])
})

t.test('a socket does not keep its request alive, and goes on without it', async (t) => {
  const requests: Array<WeakRef<object>> = []
  const { app, url } = await startApp(t, {
    authenticate: (request) => {
      requests.push(new WeakRef(request), new WeakRef(request.raw))
      return { userId: 'ada' }
    }
  })
  const { threadId } = await app.threads.register({ userId: 'ada' })
  const tab = await connect(t, url, 'ada')
  t.equal(requests.length, 2)
  for (const deadline = Date.now() + 20_000; requests.some((request) => request.deref() !== undefined) && Date.now() < deadline;) {
    await new Promise((resolve) => { setTimeout(resolve, 10) })
    gc()
  }
  t.ok(requests.every((request) => request.deref() === undefined))
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  await app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'still there?' } })
  await tab.frame('user_message')
})

t.test('through the app\'s own @fastify/websocket: its injected sockets work, and it goes on to hear errors', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(websocket)
  const heard: string[] = []
  app.websocketServer.on('connection', (socket) => { socket.on('error', ({ message }) => { heard.push(message) }) })
  await app.register(agentEvents, { prefix: '/', authenticate: () => ({ userId: 'ada' }) })
  await app.ready()
  const injected = await app.injectWS('/ws')
  const [frame] = await once(injected, 'message', { signal: AbortSignal.timeout(10_000) })
  t.match(JSON.parse(String(frame)), { type: 'connected', userId: 'ada' })
  injected.terminate()
  await app.listen({ port: 0, host: '127.0.0.1' })
  const tab = await connect(t, `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`, 'ada')
  // Two reserved bits that mean nothing here.
  ;(tab.socket as unknown as { _socket: Socket })._socket.write(Buffer.from([0xf1, 0x80, 0, 0, 0, 0]))
  await tab.closed()
  t.equal(heard.length, 1)
})
