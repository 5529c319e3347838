import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { createClient } from '../../client/index.js'
import { fakePage, setup, until } from './helpers.js'
import { Network } from './network.js'

/* Functions of the host's, and servers, that do what nobody should: nothing escapes from a handler, and the client goes on or ends. */

for (const transport of ['websocket', 'sse'] as const) {
  t.test(`${transport}: headers() that rejects with nothing at all is asked again`, async (t) => {
    const network = await Network.start(t)
    let asked = 0
    const { client } = network.client(t, {
      transport,
      headers: () => {
        asked++
        return asked > 2 ? Promise.resolve({}) : Promise.reject(asked === 1 ? undefined : null)
      }
    })
    await client.connect()
    t.ok(asked > 2)
  })

  t.test(`${transport}: a client that is closed by its own headers() stays closed`, async (t) => {
    const network = await Network.start(t)
    let isAsked = false
    const { client, statuses } = network.client(t, {
      transport,
      headers: () => {
        isAsked = true
        client.close().catch(() => {})
        return {}
      }
    })
    await t.rejects(client.connect(), { code: 'FAE_ERR_CLIENT_CLOSED' })
    await new Promise((resolve) => { setTimeout(resolve, 100) })
    t.ok(isAsked)
    t.equal(client.transport, undefined)
    t.same(statuses, ['connecting', 'closed'])
  })
}

t.test('frames that are no objects are reported or ignored', async (t) => {
  const { server, client } = await setup(t)
  const errors: string[] = []
  client.onError(({ code }) => { errors.push(code) })
  await client.connect()
  for (const text of ['null', '5', '"a"', '[]', 'nope']) server.peers[0]!.socket.send(text)
  await until(() => errors.length === 2)
  t.same(errors, ['FAE_ERR_FRAME_INVALID', 'FAE_ERR_FRAME_INVALID'])
  t.equal(client.status, 'live')
})

t.test('a reporter that throws keeps no thread from being asked for again', async (t) => {
  const thrown: unknown[] = []
  const onThrown = (error: unknown) => { thrown.push(error) }
  const others = process.rawListeners('uncaughtException') as Array<(error: unknown) => void>
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', onThrown)
  t.teardown(() => {
    process.off('uncaughtException', onThrown)
    for (const other of others) process.on('uncaughtException', other)
  })
  const { server, client } = await setup(t, { onHandlerError: () => { throw new Error('cannot report') } })
  let refusals = 0
  server.intercept = (peer, frame) => {
    if (frame.type !== 'subscribe' || refusals++ > 0) return false
    peer.say({ type: 'error', ref: frame.ref!, threadId: frame.threadId, code: 'FAE_ERR_STORE_UNAVAILABLE', message: 'gone' })
    return true
  }
  const thread = client.thread('t')
  thread.onAny(() => {})
  await until(() => thread.status === 'live')
  t.match(thrown, [{ message: 'cannot report' }], 'it is its owner\'s uncaught error')
})

t.test('a listener that ends the connection while it hears of it: what waits is sent on the next one', async (t) => {
  const page = fakePage(t)
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  t.teardown(() => { for (const socket of server.clients) socket.terminate(); server.close() })
  const sent: string[] = []
  let connections = 0
  server.on('connection', (socket) => {
    const heartbeatMs = connections++ === 0 ? 0 : 60_000
    socket.on('message', (data) => { sent.push((JSON.parse(String(data)) as { type: string }).type) })
    socket.send(JSON.stringify({ type: 'connected', connectionId: 'c', userId: 'u', inbox: 'i', heartbeatMs, maxPayload: 1_000, mode: 'realtime' }))
  })
  const client = createClient({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, WebSocket, backoff: { initialMs: 1, maxMs: 5 } })
  t.teardown(() => client.close())
  // woken up, it asks for a sign of life, for which it is too late
  client.onStatus((status) => { if (status === 'live' && connections === 1) page.dispatchEvent(new Event('pageshow')) })
  client.thread('t').send('hello').catch(() => {})
  await until(() => sent.includes('send'))
  t.ok(connections > 1)
})
