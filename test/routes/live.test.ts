import { Agent } from 'node:http'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import { defineAgent, type AgentEventsOptions, type Store } from '../../index.js'
import type { AgentEvent } from '../../schemas/index.js'
import { connect, get } from '../support/connect.js'
import { logOf, ServerSockets, until as untilDeadline, wrapStore } from '../support/delivery.js'
import { EventStream, PlainEventSource } from '../support/event-stream.js'
import { startApp, type StartedApp } from '../support/start-app.js'
import { TcpProxy } from '../support/tcp-proxy.js'

const headers = { 'x-user-id': 'u' }
/** For busy machines: nothing here is about speed. */
const DEADLINE_MS = 60_000
const until = (condition: () => unknown, what: string | (() => string)): Promise<void> => untilDeadline(condition, what, DEADLINE_MS)
const ISO_CURSOR = /^[0-9a-z]{12}-\d{10}$/

interface Setup extends StartedApp {
  say: (content: string) => Promise<string>
  ids: string[]
  poll: (query: string, init?: RequestInit) => Promise<Response>
  sse: (query: string, options?: { lastEventId?: string, base?: string, agent?: Agent }) => EventStream
}

/** An app with a thread of `count` events; a long-poll waits for a minute, so that whatever answers sooner was not the clock. */
async function setup (t: Test, count = 0, options: Partial<AgentEventsOptions> = {}): Promise<Setup> {
  const started = await startApp(t, { longPollMs: 60_000, ...options })
  const { app, url } = started
  await app.threads.register({ userId: 'u', threadId: 't1' })
  const say = async (content: string) => (await app.notifier.sendToThread('t1', { type: 'user_message', data: { content } })).id
  const ids: string[] = []
  for (let i = 1; i <= count; i++) ids.push(await say(`${i}`))
  return {
    ...started,
    say,
    ids,
    poll: (query, init = {}) => fetch(`${url}/threads/t1/events?live=long-poll&${query}`, { headers, ...init }),
    sse: (query, { base = url, ...more } = {}) => new EventStream(t, `${base}/threads/t1/events?live=sse&${query}`, { headers, ...more })
  }
}

const seqs = (events: readonly AgentEvent[]): number[] => events.map(({ seq }) => seq)
const waiting = (app: FastifyInstance, count = 1): Promise<void> => until(() => app.notifier.hub.streams.size === count, () => `${count} readers, ${app.notifier.hub.streams.size} there`)
async function freed (app: FastifyInstance): Promise<void> {
  const { streams, feeds } = app.notifier.hub
  await until(() => streams.size === 0 && feeds.size === 0, () => `${streams.size} streams and ${feeds.size} feeds to be freed`)
}

// ---------- long-poll ----------

t.test('long-poll: what is there comes at once, with all headers', async (t) => {
  const { app, poll, ids } = await setup(t, 3)
  const answer = await poll(`offset=${ids[0]!}`)
  t.equal(answer.status, 200)
  t.same(seqs(await answer.json() as AgentEvent[]), [2, 3])
  t.match(answer.headers.get('content-type'), /^application\/json/)
  t.match(answer.headers.get('stream-cursor'), /^\d+$/)
  t.same(['stream-next-offset', 'stream-up-to-date', 'cache-control', 'x-content-type-options', 'cross-origin-resource-policy'].map((name) => answer.headers.get(name)),
    [ids[2], 'true', 'no-store', 'nosniff', 'cross-origin'])
  t.same(answer.headers.get('access-control-expose-headers')!.split(', '), ['Stream-Next-Offset', 'Stream-Cursor', 'Stream-Up-To-Date', 'ETag'])
  await freed(app)
})

t.test('long-poll: waits for what is to come', async (t) => {
  const { app, poll, say, ids } = await setup(t, 2)
  for (const offset of [ids[1]!, 'now']) {
    const answer = poll(`offset=${offset}`)
    await waiting(app)
    const id = await say('new')
    const response = await answer
    t.equal(response.status, 200)
    t.match(await response.json(), [{ id, data: { content: 'new' } }])
    t.equal(response.headers.get('stream-next-offset'), id)
    await freed(app)
    ids[1] = id
  }
})

t.test('long-poll: 204 after the wait, with all headers', async (t) => {
  const { app, poll, ids, say } = await setup(t, 2, { longPollMs: 30 })
  const answer = await poll(`offset=${ids[1]!}`)
  t.same([answer.status, await answer.text()], [204, ''])
  t.same([answer.headers.get('stream-next-offset'), answer.headers.get('stream-up-to-date'), answer.headers.get('cache-control')], [ids[1], 'true', 'no-store'])
  t.match(answer.headers.get('access-control-expose-headers'), /Stream-Next-Offset/)
  const cursor = answer.headers.get('stream-cursor')!
  t.match(cursor, /^\d+$/)
  const next = Number((await poll(`offset=${ids[1]!}&cursor=${cursor}`)).headers.get('stream-cursor'))
  t.ok(next > Number(cursor), 'a cache never answers a poller with its own last answer')
  const id = await say('3')
  t.match(await (await poll(`offset=${answer.headers.get('stream-next-offset')}`)).json(), [{ id }], 'from there on nothing is missed')
  await freed(app)
})

t.test('long-poll: on an empty thread', async (t) => {
  const { poll } = await setup(t, 0, { longPollMs: 30 })
  for (const offset of ['-1', 'now']) {
    const answer = await poll(`offset=${offset}`)
    t.equal(answer.status, 204)
    t.match(answer.headers.get('stream-next-offset'), /^[0-9a-z]{12}-0{10}$/)
  }
})

t.test('long-poll: the head moves between check and wait', async (t) => {
  // By each call that a long-poll makes on the store, before and after it.
  for (const call of ['read', 'watch'] as const) {
    for (const nth of call === 'read' ? [1, 2] : [1]) {
      for (const when of ['before', 'after']) {
        let calls = 0
        let said: Promise<string> | undefined
        const meanwhile = async (now: string): Promise<void> => {
          if (isArmed && now === when && calls === nth) said ??= say('meanwhile')
          await said
        }
        const { store, inner } = wrapStore({
          [call]: async (...args: unknown[]) => {
            if (isArmed) calls++
            await meanwhile('before')
            const answer = await (inner[call] as (...args: unknown[]) => Promise<unknown>)(...args)
            await meanwhile('after')
            return answer
          }
        } as Partial<Store>)
        let isArmed = false
        const { poll, say, ids } = await setup(t, 1, { store })
        isArmed = true
        const answer = await poll(`offset=${ids[0]!}`, { signal: AbortSignal.timeout(20_000) })
        t.equal(answer.status, 200, `${when} ${call} ${nth}`)
        t.match(await answer.json(), [{ id: await said, seq: 2, data: { content: 'meanwhile' } }])
      }
    }
  }
})

t.test('long-poll: the listener is freed when the client goes, also while the store is slow', async (t) => {
  const { app, url } = await setup(t, 1)
  const answer = new EventStream(t, `${url}/threads/t1/events?live=long-poll&offset=now`, { headers })
  await waiting(app)
  answer.abort()
  await freed(app)

  let open: (() => void) | undefined
  let reads = 0
  const gate = new Promise<void>((resolve) => { open = resolve })
  const { store, inner } = wrapStore({
    async read (threadId, afterSeq, limit) {
      // The reader's own, after the one that looks at the offset.
      if (++reads === 2) await gate
      return inner.read(threadId, afterSeq, limit)
    }
  })
  const slow = await setup(t, 1, { store })
  let isGone = false
  slow.app.server.once('connection', (socket: Socket) => { socket.once('close', () => { isGone = true }) })
  const early = new EventStream(t, `${slow.url}/threads/t1/events?live=long-poll&offset=now`, { headers })
  await until(() => reads === 2, 'the reader\'s read')
  early.abort()
  await until(() => isGone, 'the server to see it')
  open!()
  await freed(slow.app)
})

t.test('long-poll: a closing app answers at once', async (t) => {
  const { app, poll, ids } = await setup(t, 1)
  const answers = Array.from({ length: 20 }, () => poll(`offset=${ids[0]!}`))
  await waiting(app, 20)
  const [closed, ...statuses] = await Promise.all([app.close().then(() => 'closed'), ...answers.map(async (answer) => {
    const { status, headers } = await answer
    return [status, headers.get('stream-next-offset')]
  })])
  t.equal(closed, 'closed')
  for (const status of statuses) t.same(status, [204, ids[0]])
})

t.test('long-poll: ends with what it may read', async (t) => {
  let isFriend = true
  const { app, poll, url } = await setup(t, 1, { authorize: (user, _action, { ownerId }) => user.userId === ownerId || isFriend })
  const friend = fetch(`${url}/threads/t1/events?live=long-poll&offset=now`, { headers: { 'x-user-id': 'friend' } })
  const mine = poll('offset=now')
  await waiting(app, 2)
  isFriend = false
  await app.notifier.recheck('friend')
  t.match(await (await friend).json(), { statusCode: 404, code: 'FAE_ERR_THREAD_NOT_FOUND' }, 'revoked')
  t.equal(app.notifier.hub.streams.size, 1, 'and nobody else')
  await app.threads.delete('t1')
  const deleted = await mine
  t.equal(deleted.status, 404, 'deleted')
  await freed(app)
})

// ---------- event streams ----------

t.test('SSE: headers at once, on an empty thread too', async (t) => {
  const { sse } = await setup(t)
  for (const offset of ['-1', 'now']) {
    const stream = sse(`offset=${offset}`)
    t.equal(await stream.opened(), 200)
    t.match(stream.headers, {
      'content-type': 'text/event-stream',
      'x-accel-buffering': 'no',
      'cache-control': /no-cache/,
      'x-content-type-options': 'nosniff',
      'access-control-expose-headers': /Stream-Next-Offset/
    })
    t.notOk('content-length' in stream.headers)
    await stream.until(({ controls }) => controls.length === 1, 'the first control')
    t.match(stream.controls, [{ streamNextOffset: /-0{10}$/, streamCursor: /^\d+$/, upToDate: true }])
    t.same(stream.events, [])
  }
})

t.test('SSE: what is there, then what comes, each data followed by its control', async (t) => {
  const { app, sse, ids, say, url } = await setup(t, 3)
  const stream = sse('offset=-1')
  await stream.until(({ controls }) => controls.length === 1, 'what is there')
  const first = await say('4')
  await stream.until(({ events }) => events.length === 4, 'the fourth')
  const second = await say('5')
  await stream.until(({ controls }) => controls.length === 3, 'the fifth')
  t.same(stream.events, (await get(url, '/threads/t1/events', 'u')).body, 'the same events as by reading')
  t.same(stream.messages.map(({ type, lastEventId }) => [type, lastEventId]), [ids[2]!, first, second].flatMap((id) => [['data', id], ['control', id]]))
  t.same(stream.controls.map(({ streamNextOffset, upToDate }) => [streamNextOffset, upToDate]), [ids[2]!, first, second].map((id) => [id, true]))
  stream.abort()
  await freed(app)
})

t.test('SSE: a long log comes in pages', async (t) => {
  const { app, sse } = await setup(t, 2_300)
  const stream = sse('offset=-1')
  await stream.until(({ controls }) => controls.at(-1)?.upToDate === true, 'the end')
  t.same(seqs(stream.events), Array.from({ length: 2_300 }, (_, i) => i + 1))
  t.ok(stream.controls.length > 1)
  t.same(stream.controls.map(({ upToDate }) => upToDate === true), stream.controls.map((_, i) => i === stream.controls.length - 1), 'up to date is only the last')
  stream.abort()
  await freed(app)
})

t.test('SSE: comments while nothing happens', async (t) => {
  const { sse } = await setup(t, 1, { streamCommentMs: 10 })
  const stream = sse('offset=-1')
  await stream.until(({ comments }) => comments >= 3, 'three comments')
  t.equal(stream.messages.length, 2)
  t.match(stream.body, /\n\n:\n\n/)
  for (const option of ['longPollMs', 'streamCommentMs']) {
    for (const value of [0, -1, 1.5, '5', 2 ** 31]) await t.rejects(startApp(t, { [option]: value }), { code: 'FAE_ERR_OPTION_INVALID' }, `${option} ${value}`)
  }
})

t.test('SSE: Last-Event-ID beats the offset', async (t) => {
  const { sse, ids } = await setup(t, 5)
  for (const query of ['offset=-1', 'offset=now', `offset=${ids[0]!}`, 'offset=000000000000-0000000001', '']) {
    const stream = sse(query, { lastEventId: ids[2]! })
    await stream.until(({ events }) => events.length > 0, 'events')
    t.same(seqs(stream.events), [4, 5], query)
    stream.abort()
  }
})

t.test('SSE: a plain EventSource resumes by itself', async (t) => {
  const { app, port, say } = await setup(t, 3)
  const proxy = await TcpProxy.start(t, port, { plain: true })
  const source = new PlainEventSource(t, `${proxy.url}/threads/t1/events?live=sse&offset=-1`, headers)
  const late = new PlainEventSource(t, `${proxy.url}/threads/t1/events?live=sse&offset=now`, headers)
  await until(() => source.events.length === 3 && late.messages.length === 1, 'the beginning')
  for (let i = 4; i <= 30; i++) {
    if (i % 5 === 0) {
      await until(() => [source, late].every(({ streams }) => streams.at(-1)!.status === 200), 'both to be there')
      proxy.cut()
      await say(`${i}`)
    } else {
      await say(`${i}`)
    }
  }
  await until(() => source.events.length >= 30 && late.events.length >= 27, () => `all events: ${source.events.length} and ${late.events.length}`)
  t.same(seqs(source.events), Array.from({ length: 30 }, (_, i) => i + 1), 'every event once')
  t.same(seqs(late.events), Array.from({ length: 27 }, (_, i) => i + 4), 'also where the stream was quiet when it was cut')
  source.close()
  late.close()
  await freed(app)
})

t.test('SSE: a lost place is told inside the stream to whoever resumes', async (t) => {
  const { sse, ids } = await setup(t, 30, { store: { memory: { retention: { maxEvents: 10 } } } })
  const epoch = ids[0]!.split('-')[0]!
  const lost = { 'retention passed': ids[5]!, 'another epoch': '000000000000-0000000025', 'ahead of the head': `${epoch}-0000000031`, 'not one of ours': '17' }
  for (const [why, lastEventId] of Object.entries(lost)) {
    const stream = sse('offset=now', { lastEventId })
    t.equal(await stream.opened(), 200, why)
    await stream.until(({ events }) => events.length >= 10, 'what is retained')
    t.same(stream.messages[0]!.type, 'control')
    t.same(JSON.parse(stream.messages[0]!.data), { reset: true })
    t.same(seqs(stream.events), [21, 22, 23, 24, 25, 26, 27, 28, 29, 30])
    stream.abort()
    const refused = sse(`offset=${lastEventId}`)
    t.equal(await refused.opened(), why === 'not one of ours' ? 400 : 410, 'a first request gets the real answer')
  }
  const kept = sse('offset=-1', { lastEventId: ids[19]! })
  await kept.until(({ events }) => events.length >= 10, 'what is retained')
  t.equal(kept.messages[0]!.type, 'data', 'the place before the first retained one is not lost')
})

t.test('SSE: a place lost under way', async (t) => {
  const { app, port, say, sse, ids } = await setup(t, 5, { store: { memory: { retention: { maxEvents: 10, maxBytes: 64 * 1024 * 1024 } } }, maxEventBytes: 4 * 1024 * 1024 })
  const proxy = await TcpProxy.start(t, port, { plain: true })
  const first = sse('offset=-1', { base: proxy.url })
  const resumed = sse('offset=-1', { base: proxy.url, lastEventId: ids[0]! })
  await first.until(({ events }) => events.length === 5, 'the beginning')
  await resumed.until(({ events }) => events.length === 4, 'the beginning')
  proxy.stall('toClient')
  // More than both kernels keep: the readers wait, and the log goes on without them.
  for (let i = 6; i <= 40; i++) await say('x'.repeat(1024 * 1024))
  proxy.resume()
  await first.ended()
  t.same(seqs(first.events), Array.from({ length: first.events.length }, (_, i) => i + 1), 'no part is presented as the whole')
  t.ok(first.events.length < 40)
  t.notOk(first.controls.some(({ reset }) => reset), 'it comes back with its offset and gets a 410')
  t.equal(await sse(`offset=${first.events.at(-1)!.id}`).opened(), 410)
  await resumed.until(({ events }) => events.at(-1)?.seq === 40, 'the newest')
  const at = resumed.messages.findIndex(({ data }) => data === '{"reset":true}')
  t.ok(at > 0, 'a resumed one is told')
  const after = resumed.messages.slice(at).filter(({ type }) => type === 'data').flatMap(({ data }) => seqs(JSON.parse(data)))
  t.same(after, Array.from({ length: after.length }, (_, i) => 41 - after.length + i), 'and gets everything retained')
  t.ok(after.length >= 10)
  resumed.abort()
  await freed(app)
})

t.test('SSE: a busy thread at its limit is read from its first retained event', async (t) => {
  let isBusy = false
  const { store, inner } = wrapStore({
    async read (threadId, afterSeq, limit) {
      // While it is read, what was first is gone.
      const page = await inner.read(threadId, afterSeq, limit)
      if (isBusy) for (let i = 0; i < 3; i++) await say('more')
      return page
    }
  }, { maxEvents: 10 })
  const { say, sse, poll } = await setup(t, 20, { store })
  isBusy = true
  t.equal((await poll('offset=-1')).status, 200)
  const stream = sse('offset=-1')
  await stream.until(({ events }) => events.length >= 10, 'events')
  t.notOk(stream.controls.some(({ reset }) => reset))
  isBusy = false
  stream.abort()
})

t.test('SSE: the listener is freed when the client goes', async (t) => {
  const { app, sse } = await setup(t, 3)
  const { hub } = app.notifier
  const streams = Array.from({ length: 20 }, () => sse('offset=now'))
  for (const stream of streams) t.equal(await stream.opened(), 200)
  t.same([hub.streams.size, hub.feeds.size], [20, 1])
  for (const stream of streams) stream.abort()
  await freed(app)
  for (let i = 0; i < 50; i++) {
    const stream = sse('offset=-1')
    if (i % 2 === 0) await stream.opened()
    stream.abort()
  }
  await freed(app)
})

/** The server's ends of its sockets, and the most that ever waited in them. */
function watchBuffers (t: Test, app: FastifyInstance) {
  const sockets = new Set<Socket>()
  app.server.on('connection', (socket) => { sockets.add(socket) })
  const seen = { most: 0, now: () => Math.max(0, ...[...sockets].map(({ writableLength }) => writableLength)) }
  const look = setInterval(() => { seen.most = Math.max(seen.most, seen.now()) }, 1)
  t.teardown(() => { clearInterval(look) })
  return seen
}

async function fill (app: FastifyInstance, count: number): Promise<void> {
  const content = 'x'.repeat(100 * 1024)
  for (let i = 0; i < count; i++) await app.notifier.sendToThread('t1', { type: 'user_message', data: { content } })
}

const LARGE = { store: { memory: { retention: { maxBytes: 64 * 1024 * 1024 } } } } as const

t.test('SSE: a slow reader costs a page, and nobody else anything', async (t) => {
  const { app, port, sse } = await setup(t, 1, LARGE)
  const seen = watchBuffers(t, app)
  const proxy = await TcpProxy.start(t, port, { plain: true })
  const slow = sse('offset=-1', { base: proxy.url })
  const quick = sse('offset=-1')
  await slow.until(({ events }) => events.length === 1, 'the beginning')
  proxy.stall('toClient')
  for (let i = 0; i < 30; i++) {
    await fill(app, 10)
    await quick.until(({ events }) => events.length === 11 + i * 10, 'the quick one')
  }
  await quick.until(({ events }) => events.length === 301, 'the quick one')
  await until(() => seen.most > 0, 'the slow one to be behind')
  t.ok(seen.most < 1024 * 1024, `of 30 MB at most ${seen.most} bytes wait in the server`)
  proxy.resume()
  await slow.until(({ events }) => events.length === 301, 'the slow one')
  t.same(seqs(slow.events), Array.from({ length: 301 }, (_, i) => i + 1))
})

t.test('SSE: who takes nothing for stallTimeoutMs is cut off, who takes a little is not', async (t) => {
  const { app, port, sse } = await setup(t, 1, { ...LARGE, limits: { stallTimeoutMs: 3_000 } })
  const { hub } = app.notifier
  const stalled = await TcpProxy.start(t, port, { plain: true })
  const slow = await TcpProxy.start(t, port, { plain: true })
  const dead = sse('offset=-1', { base: stalled.url })
  const alive = sse('offset=-1', { base: slow.url })
  for (const stream of [dead, alive]) await stream.until(({ events }) => events.length === 1, 'the beginning')
  for (const proxy of [stalled, slow]) proxy.stall('toClient')
  await fill(app, 300)
  // A sip now and then.
  const sips = setInterval(() => {
    slow.resume()
    setImmediate(() => { slow.stall('toClient') })
  }, 20)
  t.teardown(() => { clearInterval(sips) })
  await until(() => hub.streams.size === 1, 'the dead one to be let go')
  clearInterval(sips)
  slow.resume()
  await alive.until(({ events }) => events.length === 301, 'the other one')
  t.same(seqs(alive.events), Array.from({ length: 301 }, (_, i) => i + 1))
  stalled.resume()
  await dead.ended()
  t.ok(dead.events.length < 301)
  const again = sse('offset=-1', { lastEventId: dead.lastEventId })
  await again.until(({ events }) => events.at(-1)?.seq === 301, 'the rest')
  t.same(seqs([...dead.events, ...again.events]), Array.from({ length: 301 }, (_, i) => i + 1), 'it comes back and misses nothing')
})

t.test('an answer of events, at once or after a wait: who takes nothing of it for stallTimeoutMs is cut off, who takes a little is not', async (t) => {
  const { app, port, say } = await setup(t, 0, { ...LARGE, maxEventBytes: 32 * 1024 * 1024, limits: { stallTimeoutMs: 2_000 } })
  // More than the system's own buffers take.
  await say('x'.repeat(24 * 1024 * 1024))
  const { hub } = app.notifier
  const sockets = new Set<Socket>()
  app.server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => { sockets.delete(socket) })
  })
  const seen = watchBuffers(t, app)
  const [stalled, slow] = [await TcpProxy.start(t, port, { plain: true }), await TcpProxy.start(t, port, { plain: true })]
  for (const proxy of [stalled, slow]) proxy.onRequest = () => 'stall'
  const read = (base: string, live: string) => fetch(`${base}/threads/t1/events?offset=-1${live}`, { headers }).then((response) => response.text())
  const LIVES = ['', '&live=long-poll']
  const dead = Promise.allSettled(LIVES.map((live) => read(stalled.url, live)))
  const alive = Promise.all(LIVES.map((live) => read(slow.url, live)))
  await until(() => sockets.size === 4 && seen.now() > 0, 'all to be behind')
  // A sip now and then.
  const sips = setInterval(() => {
    slow.resume()
    setImmediate(() => { slow.stall('toClient') })
  }, 20)
  t.teardown(() => { clearInterval(sips) })
  await until(() => sockets.size === 2, 'the dead ones to be let go')
  clearInterval(sips)
  stalled.resume()
  slow.onRequest = () => undefined
  slow.resume()
  t.same((await dead).map(({ status }) => status), ['rejected', 'rejected'], 'which they see')
  const lengths = (await alive).map((text) => (JSON.parse(text) as Array<{ data: { content: string } }>).map(({ data }) => data.content.length))
  t.same(lengths, [[24 * 1024 * 1024], [24 * 1024 * 1024]])
  t.equal(hub.streams.size, 0)
})

t.test('SSE: app.close() ends streams, those that take nothing too', async (t) => {
  // Nothing but the close ends the stalled one.
  const { app, port, sse } = await setup(t, 1, { ...LARGE, limits: { stallTimeoutMs: 3_600_000 } })
  const seen = watchBuffers(t, app)
  const proxy = await TcpProxy.start(t, port, { plain: true })
  const stalled = sse('offset=-1', { base: proxy.url })
  await stalled.until(({ events }) => events.length === 1, 'the beginning')
  proxy.stall('toClient')
  await fill(app, 300)
  await until(() => seen.now() > 0, 'the stalled one to be behind')
  const agent = new Agent({ keepAlive: true })
  t.teardown(() => { agent.destroy() })
  const streams = Array.from({ length: 10 }, () => sse('offset=now', { agent }))
  for (const stream of streams) await stream.until(({ controls }) => controls.length === 1, 'the beginning')
  let isClosed = false
  const closing = app.close().then(() => { isClosed = true })
  await until(() => isClosed, 'the close')
  await closing
  for (const stream of streams) await stream.ended()
  t.same([app.notifier.hub.streams.size, app.notifier.hub.feeds.size], [0, 0])
  proxy.resume()
  await stalled.ended()
  t.ok(stalled.events.length < 301, 'it was cut off')
})

t.test('app.close(): who reads a run sees its end', async (t) => {
  const endless = defineAgent({ name: 'endless', description: '', run: (_input, { signal }) => new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(signal.reason) }) }) })
  const { app, poll, sse } = await setup(t, 0, { agents: [endless], closeGraceMs: 0 })
  const stream = sse('offset=-1')
  const run = app.agents.run(endless, { userId: 'u', threadId: 't1', input: { message: 'x' } }).catch(() => {})
  await stream.until(({ events }) => events.length === 1, 'the beginning of the run')
  const answer = poll(`offset=${stream.events[0]!.id}`)
  await waiting(app, 2)
  await Promise.all([app.close(), run])
  await stream.ended()
  t.same(stream.events.map(({ type }) => type), ['agent_started', 'agent_completed'])
  t.same(await (await answer).json(), stream.events.slice(1))
})

t.test('SSE: what was sent before app.close() arrives, though it is taken late', async (t) => {
  const { app, sse, say } = await setup(t, 1)
  const sockets = new ServerSockets(app)
  const seen = watchBuffers(t, app)
  const stream = sse('offset=-1')
  await stream.until(({ events }) => events.length === 1, 'the beginning')
  const port = stream.request.socket!.localPort
  sockets.hold(port)
  await say('last')
  await until(() => seen.now() > 0, 'the last event to wait')
  const closing = app.close()
  await until(() => app.notifier.hub.streams.size === 0, 'the end of the stream')
  sockets.release(port)
  await closing
  await stream.ended()
  t.same(seqs(stream.events), [1, 2])
})

t.test('SSE: a deleted thread, a lost right and the end of the authentication end it', async (t) => {
  let isFriend = true
  const ends: Record<string, number> = { short: 200, over: 0 }
  let expiresAt = 0
  const { app, url, poll } = await setup(t, 1, {
    authenticate: async ({ headers: { 'x-user-id': userId, 'x-guest': guest } }) => {
      if (typeof guest === 'string') expiresAt = Date.now() + ends[guest]!
      return typeof userId === 'string' ? { userId, ...(guest !== undefined && { expiresAt }) } : null
    },
    authorize: (user, _action, { ownerId }) => user.userId === ownerId || isFriend
  })
  const as = (userId: string, guest?: 'short' | 'over') => new EventStream(t, `${url}/threads/t1/events?live=sse&offset=-1`, { headers: { 'x-user-id': userId, ...(guest !== undefined && { 'x-guest': guest }) } })
  const { hub } = app.notifier

  const [mine, friends] = [as('u'), as('friend')]
  for (const stream of [mine, friends]) await stream.until(({ events }) => events.length === 1, 'the beginning')
  isFriend = false
  await app.notifier.recheck('friend')
  await friends.ended()
  t.equal(await as('friend').opened(), 404, 'whoever comes back finds no thread')
  t.same([hub.streams.size, mine.hasEnded], [1, false], 'and nobody else is asked')

  const short = as('u', 'short')
  t.equal(await short.opened(), 200)
  await short.ended()
  t.ok(Date.now() >= expiresAt, 'not before its time')
  t.equal(await as('u', 'over').opened(), 401)
  const polled = await poll('offset=now', { headers: { 'x-user-id': 'u', 'x-guest': 'short' } })
  t.same([polled.status, Date.now() >= expiresAt], [204, true], 'a poll does not wait longer than that')
  t.equal(hub.streams.size, 1)

  await app.threads.delete('t1')
  await mine.ended()
  t.equal(await as('u').opened(), 404)
  await freed(app)
})

t.test('a right that is lost while a stream begins is lost', async (t) => {
  let isFriend = true
  let ask: (() => void) | undefined
  const { app, url } = await setup(t, 1, {
    authorize: async (user, _action, { ownerId }) => {
      if (user.userId === ownerId) return true
      const answer = isFriend
      // The answer is on its way for a while.
      if (answer) await new Promise<void>((resolve) => { ask = resolve })
      return answer
    }
  })
  const begin = async (open: () => void) => {
    isFriend = true
    ask = undefined
    open()
    await until(() => ask !== undefined, 'the question')
    isFriend = false
    await app.notifier.recheck('friend')
    ask!()
  }
  let answer: Promise<Response> | undefined
  for (const live of ['sse', 'long-poll']) {
    await begin(() => { answer = fetch(`${url}/threads/t1/events?offset=now&live=${live}`, { headers: { 'x-user-id': 'friend' } }) })
    t.equal((await answer!).status, 404, live)
  }
  const tab = await connect(t, url, 'friend')
  await begin(() => { tab.send({ type: 'subscribe', ref: '1', threadId: 't1' }) })
  t.match(await tab.frame('error'), { ref: '1', code: 'FAE_ERR_THREAD_NOT_FOUND' })
  await freed(app)
})

t.test('streams and polls count as connections of their user', async (t) => {
  const { app, poll, sse, url } = await setup(t, 1, { limits: { connectionsPerUser: 3 } })
  const tab = await connect(t, url, 'u')
  const stream = sse('offset=now')
  await stream.opened()
  const waitingPoll = poll('offset=now')
  await waiting(app, 2)
  for (const live of ['sse', 'long-poll']) {
    const refused = await fetch(`${url}/threads/t1/events?offset=now&live=${live}`, { headers })
    t.match(await refused.json(), { statusCode: 429, code: 'FAE_ERR_CONNECTION_LIMIT' }, live)
  }
  t.equal((await get(url, '/threads/t1/events', 'u')).status, 200, 'reading what is there needs none')
  tab.close()
  await until(() => app.notifier.hub.connections.size === 0, 'the socket to be gone')
  const third = sse('offset=now')
  t.equal(await third.opened(), 200)
  await app.threads.delete('t1')
  await waitingPoll
  await freed(app)
})

// ---------- reading without waiting ----------

t.test('HEAD: where the log ends', async (t) => {
  const { app, ids, say, url } = await setup(t, 2)
  const ask = (path: string, user = 'u') => fetch(url + path, { method: 'HEAD', headers: { 'x-user-id': user } })
  for (const query of ['', '?offset=-1', `?offset=${ids[0]!}`, '?offset=now&live=sse', '?offset=now&live=long-poll', '?live=sse']) {
    const answer = await ask(`/threads/t1/events${query}`)
    t.same([answer.status, answer.headers.get('stream-next-offset'), await answer.text()], [200, ids[1], ''], query)
    t.match(answer.headers.get('content-type'), /^application\/json/)
    t.equal(answer.headers.get('cache-control'), 'no-store')
  }
  t.equal(app.notifier.hub.streams.size, 0)
  const id = await say('3')
  t.equal((await ask('/threads/t1/events')).headers.get('stream-next-offset'), id)
  for (const [path, user, status] of [['/threads/none/events', 'u', 404], ['/threads/t1/events', 'thief', 404], ['/threads/t1/events?live=x', 'u', 400]] as const) t.equal((await ask(path, user)).status, status)
})

t.test('ETag: 304 while nothing has changed', async (t) => {
  const { say, url, ids } = await setup(t, 3)
  const ask = (query: string, etag = '') => fetch(`${url}/threads/t1/events${query}`, { headers: { ...headers, ...(etag !== '' && { 'if-none-match': etag }) } })
  for (const query of ['', '?offset=-1', '?offset=now', `?offset=${ids[0]!}`]) {
    const first = await ask(query)
    const etag = first.headers.get('etag')!
    t.match(etag, /^"[^"]+"$/, query)
    for (const sent of [etag, `W/${etag}`, `"x", ${etag}`, `"x",W/${etag}`]) {
      const again = await ask(query, sent)
      t.same([again.status, await again.text()], [304, ''], sent)
      t.same(['etag', 'stream-next-offset', 'stream-up-to-date'].map((name) => again.headers.get(name)), [etag, ids.at(-1), 'true'])
    }
    for (const sent of ['"x"', etag.slice(1, -1), `${etag}x`, ',']) t.equal((await ask(query, sent)).status, 200, sent)
    ids.push(await say('more'))
    const changed = await ask(query, etag)
    t.equal(changed.status, 200)
    t.not(changed.headers.get('etag'), etag)
  }
})

t.test('410 and 400, live or not', async (t) => {
  const { app, ids, url } = await setup(t, 30, { store: { memory: { retention: { maxEvents: 10 } } } })
  const epoch = ids[0]!.split('-')[0]!
  const ask = async (query: string) => {
    const answer = await fetch(`${url}/threads/t1/events?${query}`, { headers })
    return { status: answer.status, body: await answer.json(), exposed: answer.headers.get('access-control-expose-headers') }
  }
  for (const live of ['', '&live=long-poll', '&live=sse']) {
    for (const offset of [ids[5]!, '000000000000-0000000025', `${epoch}-0000000031`]) {
      t.match(await ask(`offset=${offset}${live}`), { status: 410, body: { statusCode: 410, code: 'FAE_ERR_CURSOR_GONE', error: 'Gone' }, exposed: /Stream-Next-Offset/ }, offset + live)
    }
    for (const offset of ['x', '0,1', '0%201', '..%2F1', '%00', '-2', 'NOW', `${ids[29]!}%0A`]) {
      t.match(await ask(`offset=${offset}${live}`), { status: 400, body: { code: 'FAE_ERR_CURSOR_INVALID' } }, offset + live)
    }
    for (const query of ['offset=', 'offset=-1&offset=now', `offset=${'x'.repeat(65)}`, 'offset[]=x&offset=']) {
      t.match(await ask(query + live), { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST', message: /^querystring is invalid at 'offset'/ } }, query + live)
    }
  }
  for (const query of ['offset=-1&live=', 'offset=-1&live=yes', 'offset=-1&live=sse&live=sse', `offset=-1&live=sse&cursor=${'1'.repeat(65)}`, 'live=sse', 'live=long-poll']) {
    t.match(await ask(query), { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST' } }, query)
  }
  const resumed = await fetch(`${url}/threads/t1/events?live=long-poll`, { headers: { ...headers, 'last-event-id': ids[29]! } })
  t.equal(resumed.status, 400, 'only event streams know Last-Event-ID')
  t.equal((await ask('offset=-1&unknown=1')).status, 200)
  await freed(app)
})

// ---------- one cursor, four ways ----------

t.test('E1: WebSocket, SSE, polling, history and WebSocket again with one cursor during a live run: every event once', async (t) => {
  const talker = defineAgent({
    name: 'talker',
    description: 'Says many things',
    async run (_input, ctx) {
      for (let i = 0; i < 400; i++) {
        await ctx.think(`${i}`)
        if (i % 3 === 0) await new Promise((resolve) => { setImmediate(resolve) })
        if (i % 40 === 39) await go(i)
      }
    }
  })
  /** The run waits here until the reader has come so far: so each way of reading sees a part of it happen. */
  const gate = { allowed: 79, open: () => {} }
  const go = async (i: number): Promise<void> => { while (i > gate.allowed) await new Promise<void>((resolve) => { gate.open = resolve }) }
  const allow = (i: number): void => {
    gate.allowed = i
    gate.open()
  }
  const { app, url, poll, sse } = await setup(t, 0, { agents: [talker] })
  const run = app.agents.run(talker, { userId: 'u', threadId: 't1', input: { message: 'x' } })
  const got: AgentEvent[] = []
  let cursor = '-1'
  const take = (events: readonly AgentEvent[]): void => {
    got.push(...events)
    cursor = events.at(-1)?.id ?? cursor
  }

  const overSocket = async (enough: (events: AgentEvent[]) => boolean): Promise<void> => {
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId: 't1', ...(cursor !== '-1' && { cursor }) })
    t.match(await tab.frame('subscribed'), { recovered: true })
    await tab.until(() => enough(tab.events()))
    take(tab.events())
    tab.close()
  }

  await overSocket((events) => events.length >= 60)
  const second = sse(`offset=${cursor}`)
  allow(159)
  await second.until(({ events }) => events.length >= 60, 'sixty events')
  take(second.events)
  second.abort()
  allow(239)
  for (const end = got.length + 60; got.length < end;) {
    const answer = await poll(`offset=${cursor}`)
    t.equal(answer.status, 200)
    take(await answer.json() as AgentEvent[])
    t.equal(answer.headers.get('stream-next-offset'), cursor)
  }
  allow(319)
  const more = sse(`offset=${cursor}`)
  await more.until(({ events }) => events.length > 20, 'something more')
  more.abort()
  take(await app.notifier.history('t1', { after: cursor, limit: 20 }))
  take((await get(url, `/threads/t1/events?offset=${cursor}`, 'u')).body)
  allow(400)
  await overSocket((events) => events.at(-1)?.type === 'agent_completed')
  await run
  t.same(got, await logOf(app, 't1'), 'every event once, in order, the same by every way')
  t.equal(got.length, 402)
  t.ok(got.every(({ id }) => ISO_CURSOR.test(id)))
  await freed(app)
})
