import { once } from 'node:events'
import { spawn } from 'node:child_process'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { createClient, type ClientStatus, type WebSocketLike } from '../../client/index.js'
import { backoffMs } from '../../client/backoff.js'
import { formatCursor, type ClientFrame, type SubscribeFrame } from '../../schemas/index.js'
import { fakePage, seqsOf, setup, until, upTo } from './helpers.js'
import { EPOCH, type Peer } from './wire-server.js'
import { childEnv } from '../support/child-env.js'
import { freePort } from '../support/redis-server.js'

t.test('cut after every event in turn: in order, each once, from the last processed (D2)', async (t) => {
  const events = 12
  for (let cutAfter = 0; cutAfter <= events; cutAfter++) {
    await t.test(`after ${cutAfter}`, async (t) => {
      const { server, client, errors } = await setup(t)
      server.count('t', events)
      let isCut = false
      server.onWay = (event, peer) => {
        if (isCut || event.seq <= cutAfter) return event
        isCut = true
        peer.socket.terminate()
        return undefined
      }
      const seqs = seqsOf(client.thread('t'))
      await until(() => seqs.length === events)
      server.count('t')
      await until(() => seqs.length === events + 1)
      t.same(seqs, upTo(events + 1))
      t.same(errors, [])
    })
  }
})

t.test('cut while slow listeners are at work: what is in hand is not handed out again', async (t) => {
  const { server, client } = await setup(t)
  const seqs: number[] = []
  let release = () => {}
  client.thread('t').onAny(async (event) => {
    seqs.push(event.seq)
    if (event.seq === 3) await new Promise<void>((resolve) => { release = resolve })
  })
  server.count('t', 6)
  await until(() => seqs.length === 3)
  server.peers[0]!.socket.terminate()
  await until(() => server.peers[1]?.frames.length)
  t.equal((server.peers[1]!.frames[0] as SubscribeFrame).cursor, formatCursor(EPOCH, 2), 'resumed from what is processed, since the server takes it as that')
  server.count('t')
  await until(() => server.peers[1]!.subscriptions.get('t') === 7)
  release()
  await until(() => seqs.length === 7)
  t.same(seqs, upTo(7))
  await until(() => server.acks.at(-1)?.cursor === formatCursor(EPOCH, 7))
})

t.test('what was in hand at the cut is no longer in the log: the client finds out and resets', async (t) => {
  const { server, client } = await setup(t)
  const log: string[] = []
  let release = () => {}
  const thread = client.thread('t')
  thread.onAny(async (event) => {
    log.push(event.id)
    if (event.id === formatCursor(EPOCH, 3)) await new Promise<void>((resolve) => { release = resolve })
  })
  thread.onReset(() => { log.push('reset') })
  server.count('t', 4)
  await until(() => log.length === 3)
  // the log lost 3 and 4; the client's cursor, 2, is still good
  const history = server.log('t')
  history.events.splice(2)
  server.intercept = (peer, frame) => {
    if (frame.type !== 'subscribe' || frame.cursor !== formatCursor(EPOCH, 2)) return false
    peer.subscriptions.set('t', 2)
    peer.say({ type: 'subscribed', ref: frame.ref!, threadId: 't', cursor: frame.cursor, head: 4, recovered: true })
    history.epoch = 'k3xw9q00bbbb'
    server.count('t', 2)
    return true
  }
  server.peers[0]!.socket.terminate()
  await until(() => server.frames.filter((frame) => frame.type === 'subscribe').length === 3)
  release()
  await until(() => log.at(-1) === 'k3xw9q00bbbb-0000000004')
  t.same(log.slice(3), ['reset', formatCursor(EPOCH, 1), formatCursor(EPOCH, 2), 'k3xw9q00bbbb-0000000003', 'k3xw9q00bbbb-0000000004'])
})

t.test('connected, got nothing, dropped, three events, reconnected: all three', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const seqs = seqsOf(thread)
  await until(() => thread.status === 'live')
  server.peers[0]!.socket.terminate()
  await until(() => client.status === 'offline' || server.peers.length === 2)
  server.count('t', 3)
  await until(() => seqs.length === 3)
  t.same(seqs, [1, 2, 3])
})

t.test('the server is away for a while (E4)', async (t) => {
  const { server, client } = await setup(t, { transport: 'websocket' })
  const thread = client.thread('t')
  const seqs = seqsOf(thread)
  const statuses: ClientStatus[] = []
  client.onStatus((status) => { statuses.push(status) })
  server.count('t')
  await until(() => seqs.length === 1)
  let refusals = 5
  server.greet = (peer) => {
    if (refusals-- <= 0) return false
    peer.socket.close(1012)
    return true
  }
  server.peers[0]!.socket.close(1012)
  server.count('t')
  await until(() => seqs.length === 2)
  t.equal(server.peers.length, 7)
  t.same(statuses.slice(0, 4), ['live', 'offline', 'connecting', 'offline'])
  t.equal(client.status, 'live')
})

t.test('nobody there at all: tried again until somebody is', async (t) => {
  const port = await freePort()
  const client = createClient({ url: `http://127.0.0.1:${port}`, WebSocket, backoff: { initialMs: 1, maxMs: 5 } })
  t.teardown(() => client.close())
  let offline = 0
  client.onStatus((status) => { if (status === 'offline') offline++ })
  const connecting = client.connect()
  await until(() => offline >= 3)
  const server = new WebSocketServer({ host: '127.0.0.1', port })
  t.teardown(() => { for (const socket of server.clients) socket.terminate(); server.close() })
  server.on('connection', (socket) => { socket.send(JSON.stringify({ type: 'connected', connectionId: 'c', userId: 'u', inbox: 'i', heartbeatMs: 60_000, maxPayload: 1_000, mode: 'realtime' })) })
  t.match(await connecting, { connectionId: 'c', userId: 'u', inbox: 'i' })
})

t.test('the interval is over while the frame that tells it is read: the client comes back, and nothing is thrown', async (t) => {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  t.teardown(() => { for (const socket of server.clients) socket.terminate(); server.close() })
  let connections = 0
  server.on('connection', (socket) => {
    // at an interval of nothing it is over always; at any other, when the machine stands still just then
    socket.send(JSON.stringify({ type: 'connected', connectionId: 'c', userId: 'u', inbox: 'i', heartbeatMs: connections++ === 0 ? 0 : 60_000, maxPayload: 1_000, mode: 'realtime' }))
  })
  const client = createClient({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, WebSocket, backoff: { initialMs: 1, maxMs: 5 } })
  t.teardown(() => client.close())
  const statuses: ClientStatus[] = []
  client.onStatus((status) => { statuses.push(status) })
  await client.connect()
  await until(() => connections === 2 && client.status === 'live')
  t.same(statuses, ['connecting', 'live', 'offline', 'connecting', 'live'])
})

t.test('full jitter after the cap', (t) => {
  for (let attempt = 0; attempt < 40; attempt++) {
    const cap = Math.min(15_000, 250 * 2 ** attempt)
    const delays = Array.from({ length: 200 }, () => backoffMs(attempt))
    t.ok(delays.every((delay) => delay >= 0 && delay <= cap))
    t.ok(Math.max(...delays) > cap / 2 && Math.min(...delays) < cap / 2, 'over the whole range')
  }
  t.ok(backoffMs(50, { initialMs: 1, maxMs: 2 }) <= 2)
  t.end()
})

t.test('terminal codes: closed, with the error, and no further attempt', async (t) => {
  for (const [closeCode, code] of [[4403, 'FAE_ERR_FORBIDDEN'], [4400, 'FAE_ERR_CLIENT_CLOSED'], [1009, 'FAE_ERR_CLIENT_CLOSED']] as const) {
    await t.test(String(closeCode), async (t) => {
      const { server, client } = await setup(t)
      const thread = client.thread('t')
      const got: unknown[] = []
      client.onError((error) => { got.push(error) })
      const ofThread: unknown[] = []
      thread.onError((error) => { ofThread.push(error) })
      const iterator = thread[Symbol.asyncIterator]()
      const next = iterator.next()
      next.catch(() => {})
      await until(() => thread.status === 'live')
      server.intercept = (peer) => { peer.socket.close(closeCode, 'because'); return true }
      await t.rejects(thread.send('hi'), { code, closeCode })
      t.equal(client.status, 'closed')
      t.equal(thread.status, 'closed')
      t.match(client.error, { code, closeCode, message: /because/ })
      t.match(got, [{ code }])
      t.match(ofThread, [{ code }])
      await t.rejects(next, { code })
      await t.rejects(iterator.next(), { code })
      await t.rejects(thread[Symbol.asyncIterator]().next(), { code })
      await t.rejects(thread.send('hi'), { code })
      await t.rejects(client.connect(), { code })
      t.equal(server.peers.length, 1)
    })
  }
})

t.test('4401 is retried once', async (t) => {
  const { server, client, errors } = await setup(t)
  server.greet = (peer) => { peer.socket.close(4401, 'token expired'); return true }
  const thread = client.thread('t')
  thread.onAny(() => {})
  await until(() => client.status === 'closed')
  t.equal(server.peers.length, 2)
  t.match(errors, [{ code: 'FAE_ERR_UNAUTHENTICATED', closeCode: 4401 }], 'told once, though a thread was there')
})

t.test('4401 once: the second attempt works', async (t) => {
  const { server, client, errors } = await setup(t)
  server.greet = (peer) => {
    if (server.peers.length > 1) return false
    peer.socket.close(4401)
    return true
  }
  server.count('t')
  const seqs = seqsOf(client.thread('t'))
  await until(() => seqs.length === 1)
  t.same(errors, [])
})

t.test('4401 after a connection that was good: another chance', async (t) => {
  const { server, client } = await setup(t)
  server.heartbeatMs = 500
  client.thread('t').onAny(() => {})
  for (let connections = 1; connections <= 2; connections++) {
    await until(() => server.peers.length === connections && client.status === 'live')
    const peer = server.peers.at(-1)!
    const since = Date.now()
    await until(() => {
      peer.say({ type: 'ping' })
      return Date.now() - since > 600
    })
    peer.socket.close(4401)
  }
  await until(() => server.peers.length === 3)
})

t.test('heartbeat (D1)', async (t) => {
  t.test('a ping is answered', async (t) => {
    const { server, client } = await setup(t)
    await client.connect()
    server.peers[0]!.say({ type: 'ping' })
    await until(() => server.frames.some((frame) => frame.type === 'pong'))
  })

  t.test('a silent server is given up and replaced', async (t) => {
    const { server, client } = await setup(t)
    server.heartbeatMs = 25
    const seqs = seqsOf(client.thread('t'))
    server.count('t')
    await until(() => seqs.length === 1)
    server.heartbeatMs = 60_000
    const peer = server.peers.at(-1)!
    peer.isSilent = true
    await until(() => peer.closeCode === 1006, 'the socket is ended without a farewell')
    server.count('t')
    await until(() => seqs.length === 2)
    t.same(seqs, [1, 2])
  })

  t.test('whatever is heard counts as life', async (t) => {
    const { server, client } = await setup(t)
    server.heartbeatMs = 500
    await client.connect()
    const started = Date.now()
    await until(() => {
      server.peers[0]!.say({ type: 'ping' })
      return Date.now() - started > 1_300
    })
    t.equal(server.peers.length, 1)
  })

  t.test('a connection that does not open in time is given up', async (t) => {
    const { server, client } = await setup(t, { connectTimeoutMs: 500, transport: 'websocket' })
    server.greet = () => server.peers.length === 1
    await client.connect()
    t.equal(server.peers.length, 2)
    await until(() => server.peers[0]!.closeCode === 1006)
  })

  t.test('without terminate(), as in a browser, nobody listens to the dead socket any more', async (t) => {
    class BrowserLike {
      readonly #socket: WebSocket
      constructor (url: string, protocols: string) {
        this.#socket = new WebSocket(url, protocols)
        this.#socket.onmessage = (event) => { this.onmessage?.(event as never) }
        this.#socket.onclose = (event) => { this.onclose?.(event as never) }
        this.#socket.onerror = (event) => { this.onerror?.(event as never) }
      }

      get readyState () { return this.#socket.readyState }
      onmessage: WebSocketLike['onmessage'] = null
      onclose: WebSocketLike['onclose'] = null
      onerror: WebSocketLike['onerror'] = null
      send (data: string) { this.#socket.send(data) }
      close (code?: number) { this.#socket.close(code) }
    }
    const { server, client } = await setup(t, { WebSocket: BrowserLike })
    server.heartbeatMs = 25
    const seqs = seqsOf(client.thread('t'))
    await until(() => server.frames.length > 0)
    server.heartbeatMs = 60_000
    const peer = server.peers.at(-1)!
    peer.isSilent = true
    await until(() => peer.closeCode === 4408)
    server.count('t')
    await until(() => seqs.length === 1)
    peer.isSilent = false
    peer.say({ type: 'ping' })
    t.same(seqs, [1])
  })
})

t.test('goaway: comes back after the time it was told, with the same cursors', async (t) => {
  for (const isClosedByServer of [true, false]) {
    await t.test(isClosedByServer ? 'the server closes first' : 'the server has not closed yet', async (t) => {
      // a backoff that would not come back within the test
      const { server, client } = await setup(t, { backoff: { initialMs: 1e9, maxMs: 1e9 }, ackMs: 60_000 })
      const seqs = seqsOf(client.thread('t'))
      server.count('t')
      await until(() => seqs.length === 1)
      const [peer] = server.peers as [Peer]
      peer.say({ type: 'goaway', reconnectInMs: 30 })
      if (isClosedByServer) peer.socket.close(1012)
      await until(() => server.peers.length === 2)
      server.count('t')
      await until(() => seqs.length === 2)
      t.same(seqs, [1, 2])
      if (!isClosedByServer) {
        await until(() => peer.closeCode === 1000)
        t.match(peer.frames.at(-1), { type: 'ack', cursor: formatCursor(EPOCH, 1) })
      }
    })
  }
})

t.test('the page says that the network is gone: who does not answer is given up at once, who does is kept (D1)', async (t) => {
  const page = fakePage(t)
  const backoff = { initialMs: 1e9, maxMs: 1e9 }
  // the one that answers has its deadline first
  const [near, far] = [await setup(t, { backoff }), await setup(t, { backoff })]
  const seqs = seqsOf(near.client.thread('t'))
  seqsOf(far.client.thread('t'))
  await until(() => near.client.thread('t').status === 'live' && far.client.thread('t').status === 'live')
  far.server.peers[0]!.isSilent = true
  page.dispatchEvent(new Event('offline'))
  await until(() => far.client.status === 'offline')
  near.server.count('t')
  await until(() => seqs.length === 1)
  t.equal(near.client.status, 'live')
  t.equal(near.server.peers.length, 1)
  t.same(near.errors, [])

  page.dispatchEvent(new Event('offline'))
  t.equal(far.client.status, 'offline', 'nothing is tried where nothing can be')
  page.dispatchEvent(new Event('online'))
  await until(() => far.client.status === 'live')
})

t.test('at once when the page wakes up', async (t) => {
  const document = Object.assign(new EventTarget(), { visibilityState: 'hidden' })
  const page = fakePage(t, { document })

  const { server, client } = await setup(t, { backoff: { initialMs: 1e9, maxMs: 1e9 } })
  server.heartbeatMs = 60_000
  const thread = client.thread('t')
  const seqs = seqsOf(thread)
  for (const wake of [
    () => { page.dispatchEvent(new Event('online')) },
    () => { page.dispatchEvent(new Event('pageshow')) },
    () => {
      document.dispatchEvent(new Event('visibilitychange'))
      t.equal(client.status, 'offline', 'hidden is not awake')
      document.visibilityState = 'visible'
      document.dispatchEvent(new Event('visibilitychange'))
    }
  ]) {
    await until(() => client.status === 'live')
    const { length } = server.peers
    server.peers.at(-1)!.socket.terminate()
    await until(() => client.status === 'offline')
    wake()
    await until(() => server.peers.length === length + 1)
  }
  await until(() => thread.status === 'live')
  page.dispatchEvent(new Event('online'))
  server.count('t')
  await until(() => seqs.length === 1)
  t.equal(server.peers.length, 4, 'a connection that lives is left alone')

  await t.test('also while an attempt is under way that began without the network', async (t) => {
    server.greet = () => server.peers.length === 5
    server.peers.at(-1)!.socket.terminate()
    await until(() => client.status === 'offline')
    page.dispatchEvent(new Event('pageshow'))
    await until(() => server.peers.length === 5)
    page.dispatchEvent(new Event('pageshow'))
    t.equal(client.status, 'connecting', 'pages are shown in the middle of an attempt')
    page.dispatchEvent(new Event('online'))
    await until(() => client.status === 'live')
    t.equal(server.peers.length, 6)
  })

  await client.close()
  page.dispatchEvent(new Event('online'))
  t.equal(client.status, 'closed')
})

t.test('what failed while the page slept does not make it wait once it is awake', async (t) => {
  const page = fakePage(t)

  const backoff = { initialMs: 1, maxMs: 2 }
  const { server, client } = await setup(t, { backoff, transport: 'websocket', connectTimeoutMs: 1e9 })
  server.greet = ({ socket }) => {
    if (server.peers.length < 50) socket.close(1012)
    return server.peers.length <= 50
  }
  client.connect().catch(() => {})
  await until(() => server.peers.length === 50 && client.status === 'connecting')
  // as long as a timer can be
  backoff.maxMs = 2 ** 31 - 1
  page.dispatchEvent(new Event('pageshow'))
  server.peers.at(-1)!.socket.terminate()
  await until(() => client.connected)
})

t.test('mode: degraded is told, on connect and later (E3)', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  thread.onAny(() => {})
  await until(() => thread.status === 'live')
  server.peers[0]!.say({ type: 'status', mode: 'degraded', reason: 'store' })
  await until(() => client.status === 'degraded')
  t.equal(thread.status, 'degraded')
  server.peers[0]!.say({ type: 'status', mode: 'realtime', reason: 'back' })
  await until(() => thread.status === 'live')
  server.greet = (peer) => {
    peer.say({ type: 'connected', connectionId: 'x', userId: 'u', inbox: 'i', heartbeatMs: 60_000, maxPayload: 1_000, mode: 'degraded' })
    return true
  }
  server.peers[0]!.socket.terminate()
  await until(() => thread.status === 'degraded')
})

t.test('the address', async (t) => {
  t.test('the path is appended, queries are kept, headers and subprotocol sent', async (t) => {
    const { server, client } = await setup(t)
    const options = { WebSocket, headers: { authorization: 'Bearer x' }, query: { userId: 'a b' } }
    const other = createClient({ ...options, url: `${server.url}/agent-events/?tenant=1#top` })
    t.teardown(() => other.close())
    t.match(await other.connect(), { userId: 'u', inbox: 'inbox_1', connectionId: 'c1' })
    const { request, socket } = server.peers[0]!
    t.equal(request.url, '/agent-events/ws?tenant=1&userId=a+b')
    t.equal(request.headers.authorization, 'Bearer x')
    t.equal(socket.protocol, 'agent-events.v1')
    await client.connect()
    t.equal(server.peers[1]!.request.url, '/ws')
    t.equal(client.connected?.connectionId, 'c2')
  })

  t.test('in a page it may be relative', async (t) => {
    const { server } = await setup(t)
    Object.assign(globalThis, { location: { href: `${server.url}/app/index.html` } })
    t.teardown(() => { Reflect.deleteProperty(globalThis, 'location') })
    const client = createClient({ url: '/agent-events', WebSocket })
    t.teardown(() => client.close())
    await client.connect()
    t.equal(server.peers[0]!.request.url, '/agent-events/ws')
  })

  t.test('elsewhere it must not', async (t) => {
    t.throws(() => createClient({ url: '/agent-events', WebSocket }), { code: 'FAE_ERR_OPTION_INVALID', message: /absolute/ })
  })

  t.test('without a WebSocket the error says what to do', async (t) => {
    const original = Object.getOwnPropertyDescriptor(globalThis, 'WebSocket')
    Reflect.deleteProperty(globalThis, 'WebSocket')
    t.teardown(() => { if (original) Object.defineProperty(globalThis, 'WebSocket', original) })
    t.throws(() => createClient({ url: 'http://localhost' }), { code: 'FAE_ERR_OPTION_INVALID', message: /option 'WebSocket'.*ws/ })
    Object.assign(globalThis, { WebSocket })
    t.doesNotThrow(() => createClient({ url: 'http://localhost' }), 'a global one is found')
  })
})

t.test('close() of the client', async (t) => {
  t.test('acknowledges, says goodbye, ends what waits; twice is fine', async (t) => {
    const { server, client } = await setup(t, { ackMs: 60_000 })
    const thread = client.thread('t')
    const seqs = seqsOf(thread)
    server.count('t', 2)
    await until(() => seqs.length === 2)
    server.intercept = (_peer: Peer, frame: ClientFrame) => frame.type === 'send'
    const sent = thread.send('never answered')
    sent.catch(() => {})
    await Promise.all([client.close(), client.close()])
    await t.rejects(sent, { code: 'FAE_ERR_CLIENT_CLOSED' })
    await until(() => server.peers[0]!.closeCode === 1000)
    t.match(server.acks, [{ cursor: formatCursor(EPOCH, 2) }])
    t.equal(client.status, 'closed')
    t.equal(client.error, undefined)
    await t.rejects(client.connect(), { code: 'FAE_ERR_CLIENT_CLOSED' })
    t.same(await client.thread('t')[Symbol.asyncIterator]().next(), { done: true, value: undefined })
  })

  t.test('of one that never connected, or is still connecting', async (t) => {
    const { server, client } = await setup(t)
    await client.close()
    t.equal(server.peers.length, 0)
    const other = createClient({ url: server.url, WebSocket })
    other.thread('t').onAny(() => {})
    await other.close()
    t.equal(other.status, 'closed')
  })

  t.test('of a server that does not answer: within a second', async (t) => {
    const { server, client } = await setup(t)
    await client.connect()
    const peer = server.peers[0]!
    peer.socket.pause()
    await client.close()
    peer.socket.resume()
    await until(() => peer.closeCode !== undefined)
  })

  t.test('leaves nothing behind: the process ends', async (t) => {
    const { server } = await setup(t)
    server.count('t', 3)
    const script = `
      import { WebSocket } from 'ws'
      import { createClient } from ${JSON.stringify(new URL('../../client/index.ts', import.meta.url).href)}
      const client = createClient({ url: ${JSON.stringify(server.url)}, WebSocket })
      for (const id of ['t', 'u']) {
        client.thread(id).on('custom', async (event) => {
          if (event.seq !== 3) return
          await client.close()
          console.log('closed')
        })
      }`
    // without tap's own variables: what another loader compiles would spoil its coverage
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'], env: childEnv })
    t.teardown(() => child.kill())
    const closed = once(child.stdout, 'data')
    const exited = once(child, 'exit')
    t.equal(String((await closed)[0]).trim(), 'closed')
    t.same(await exited, [0, null])
  })
})
