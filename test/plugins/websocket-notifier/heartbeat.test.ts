import t from 'tap'
import Fastify from 'fastify'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { WebSocket, WebSocketServer } from 'ws'
import { Connection, type ConnectionOwner } from '../../../plugins/websocket-notifier/connection.js'
import { frameText } from '../../../plugins/websocket-notifier/frame.js'
import { Heartbeat, type HeartbeatOptions } from '../../../plugins/websocket-notifier/heartbeat.js'
import { Stats } from '../../../plugins/websocket-notifier/stats.js'

const PING = frameText('{"type":"ping"}')
const { log } = Fastify()
const owner: ConnectionOwner = {
  limits: { maxPayload: 65_536, framesPerSecond: 1_000, subscriptionsPerConnection: 1, connectionsPerUser: 1, highWaterMark: 65_536, stallTimeoutMs: 1_000, maxBadFrames: 1 },
  stats: new Stats(),
  schedule (connection) { setImmediate(() => { connection.flush() }) },
  congested () {},
  dropSubscription () {}
}

interface Peer { connection: Connection, client: WebSocket, pings: number }

/** A heartbeat over real sockets. A peer answers pings as long as `answers` says so. */
async function start (t: { teardown (fn: () => unknown): void }, options: HeartbeatOptions) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  const dead: Connection[] = []
  const heartbeat = new Heartbeat(options, (connection) => { connection.write(PING) }, (connection) => {
    dead.push(connection)
    heartbeat.remove(connection)
    connection.terminate()
  })
  t.teardown(() => {
    heartbeat.close()
    for (const client of server.clients) client.terminate()
    server.close()
  })
  await once(server, 'listening')
  const join = async (answers: () => boolean): Promise<Peer> => {
    const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const [socket] = await once(server, 'connection') as [WebSocket]
    await once(client, 'open')
    const connection = new Connection('c', socket, { userId: 'u1' }, owner, log)
    socket.on('message', () => { connection.heard(Date.now()) })
    const peer = { connection, client, pings: 0 }
    client.on('message', () => {
      peer.pings++
      if (answers()) client.send('{"type":"pong"}')
    })
    heartbeat.add(connection)
    return peer
  }
  const joinMany = async (count: number): Promise<Peer[]> => {
    const peers: Peer[] = []
    while (peers.length < count) peers.push(await join(() => true))
    return peers
  }
  return { heartbeat, dead, join, joinMany }
}

async function until (holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error('waited 10 s')
    await new Promise((resolve) => { setTimeout(resolve, 5) })
  }
}

t.test('everybody is pinged again and again; who answers lives', async (t) => {
  const { dead, joinMany } = await start(t, { intervalMs: 60, timeoutMs: 40 })
  const peers = await joinMany(5)
  await until(() => peers.every(({ pings }) => pings >= 5))
  t.same(dead, [])
  for (const { connection, client } of peers) {
    t.equal(client.readyState, client.OPEN)
    t.ok(connection.lastHeardAt >= connection.connectedAt)
  }
})

t.test('who is silent is given up, once, and nobody else', async (t) => {
  const { dead, join } = await start(t, { intervalMs: 60, timeoutMs: 40 })
  let isAnswering = true
  const lively = await join(() => true)
  const silent = await join(() => false)
  const later = await join(() => isAnswering)
  await until(() => dead.length === 1)
  t.equal(dead[0], silent.connection)
  t.ok(silent.pings >= 1, 'it had its chance')
  await until(() => later.pings >= 3)
  t.equal(dead.length, 1)
  isAnswering = false
  await until(() => dead.length === 2)
  t.equal(dead[1], later.connection)
  await until(() => silent.client.readyState === WebSocket.CLOSED && later.client.readyState === WebSocket.CLOSED)
  const { pings } = lively
  await until(() => lively.pings > pings + 2)
  t.equal(lively.client.readyState, WebSocket.OPEN)
})

t.test('who left is pinged no more; nobody left means no timer', async (t) => {
  const { heartbeat, join } = await start(t, { intervalMs: 20, timeoutMs: 20 })
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  const [leaving, staying] = [await join(() => true), await join(() => true)]
  await until(() => leaving.pings > 0 && staying.pings > 0)
  heartbeat.remove(leaving.connection)
  // What was under way may still arrive; then it is quiet.
  const { pings } = staying
  await until(() => staying.pings > pings + 2)
  const last = leaving.pings
  await until(() => staying.pings > pings + 6)
  t.equal(leaving.pings, last)
  heartbeat.remove(staying.connection)
  heartbeat.remove(staying.connection)
  t.equal(timers(), 0)
  heartbeat.add(leaving.connection)
  await until(() => leaving.pings > last + 2)
})

t.test('after a stall of this process nobody is judged before their answers were read', async (t) => {
  const { dead, joinMany } = await start(t, { intervalMs: 80, timeoutMs: 60 })
  const peers = await joinMany(10)
  await until(() => peers.every(({ pings }) => pings >= 1))
  for (let stall = 0; stall < 5; stall++) {
    const end = Date.now() + 300
    while (Date.now() < end); // the event loop stands still: pings are due, answers lie unread
    await until(() => peers.every(({ connection }) => connection.lastHeardAt >= end))
  }
  t.same(dead, [])
})

t.test('after a stall the silent are still found', async (t) => {
  const { dead, join } = await start(t, { intervalMs: 60, timeoutMs: 40 })
  const silent = await join(() => false)
  const end = Date.now() + 200
  while (Date.now() < end);
  await until(() => dead.length === 1)
  t.equal(dead[0], silent.connection)
})
