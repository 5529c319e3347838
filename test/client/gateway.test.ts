import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { WebSocket } from 'ws'
import { createClient, type AgentEventsError, type ClientOptions } from '../../client/index.js'
import { formatCursor } from '../../schemas/index.js'
import { hasten, seqsOf, until, upTo } from './helpers.js'
import { Log, Network } from './network.js'
import { EPOCH } from './wire-server.js'

interface Test { teardown (fn: () => unknown): unknown }
type Door = 'tickets' | 'messages' | 'sse' | 'long-poll' | 'catch-up'

/** One thread read over HTTP, with something in front of it that answers instead, as gateways do. */
class Gateway {
  head = 0
  readonly asked: Door[] = []
  /** True means that it has answered. */
  instead: (door: Door, response: ServerResponse, request: IncomingMessage) => boolean = () => false
  readonly #server = createServer((request, response) => { this.#answer(request, response) })
  readonly #open = new Set<ServerResponse>()

  static async start (t: Test): Promise<Gateway> {
    const gateway = new Gateway()
    gateway.#server.listen(0, '127.0.0.1')
    await once(gateway.#server, 'listening')
    t.teardown(() => {
      gateway.#server.close()
      gateway.#server.closeAllConnections()
    })
    return gateway
  }

  client (t: Test, options: Partial<ClientOptions> = {}) {
    const errors: unknown[] = []
    const url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
    const client = createClient({ url, WebSocket, backoff: { initialMs: 1, maxMs: 4 }, onHandlerError: (error) => { errors.push(error) }, ...options })
    t.teardown(() => client.close())
    return { client, errors }
  }

  count (door: Door): number { return this.asked.filter((one) => one === door).length }

  append (): void {
    this.head++
    for (const response of this.#open) this.#say(response, this.head - 1)
  }

  refuse (response: ServerResponse, status: number, code?: string): true {
    if (code === undefined) response.writeHead(status, { 'content-type': 'text/html' }).end('<h1>no</h1>')
    else response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ statusCode: status, code, message: code }))
    return true
  }

  #answer (request: IncomingMessage, response: ServerResponse): unknown {
    const { pathname, searchParams } = new URL(request.url!, 'http://x')
    const door = /tickets|messages/.exec(pathname)?.[0] as Door ?? searchParams.get('live') ?? 'catch-up'
    if (pathname === '/ws') return this.refuse(response, 426)
    this.asked.push(door)
    if (this.instead(door, response, request)) return
    if (door === 'tickets') return response.writeHead(201).end('{"ticket":"x","userId":"u","inbox":"i"}')
    if (door === 'messages') return response.writeHead(202).end(JSON.stringify({ threadId: 't', runId: 'run_1', cursor: formatCursor(EPOCH, this.head) }))
    const offset = searchParams.get('offset')!
    const after = offset === 'now' ? this.head : Math.max(0, Number(offset.split('-').at(-1)) * Number(offset !== '-1'))
    if (door === 'sse') {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      this.#open.add(response)
      response.on('close', () => { this.#open.delete(response) })
      return this.#say(response, after)
    }
    response.writeHead(200, { 'stream-next-offset': formatCursor(EPOCH, this.head), 'stream-up-to-date': 'true' }).end(JSON.stringify(this.#after(after)))
  }

  #say (response: ServerResponse, after: number): void {
    const events = this.#after(after)
    const data = events.length === 0 ? '' : `event: data\ndata: ${JSON.stringify(events)}\n\n`
    response.write(`:\n\n${data}event: control\r\ndata:${JSON.stringify({ streamNextOffset: formatCursor(EPOCH, this.head), upToDate: true })}\r\n\r\n`)
  }

  #after (after: number) {
    return upTo(this.head, after + 1).map((seq) => ({ v: 1, id: formatCursor(EPOCH, seq), seq, type: 'custom', threadId: 't', timestamp: '2026-01-01T12:00:00.000Z', data: { name: 'n', value: seq } }))
  }
}

t.test('streams that are ended at once, again and again, are none: polling', async (t) => {
  const gateway = await Gateway.start(t)
  gateway.instead = (door, response) => {
    if (door === 'sse') setImmediate(() => { response.end() })
    return false
  }
  const { client, errors } = gateway.client(t)
  const seqs = seqsOf(client.thread('t'))
  gateway.append()
  await until(() => client.transport === 'polling')
  gateway.append()
  await until(() => seqs.length === 2)
  t.same(seqs, [1, 2])
  t.ok(gateway.count('sse') >= 3)
  t.same(errors, [])
})

t.test('an answer that is no stream', async (t) => {
  const gateway = await Gateway.start(t)
  gateway.instead = (door, response) => door === 'sse' && Boolean(response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>hello</h1>'))
  const { client } = gateway.client(t)
  const seqs = seqsOf(client.thread('t'))
  gateway.append()
  await until(() => client.status === 'degraded' && seqs.length === 1)
})

t.test('headers stripped on the way: the events themselves tell the position', async (t) => {
  const gateway = await Gateway.start(t)
  const { client } = gateway.client(t, {
    transport: 'polling',
    fetch: async (url, options) => {
      const response = await fetch(url, options)
      return new Response(response.body, { status: response.status })
    }
  })
  const seqs = seqsOf(client.thread('t'))
  for (let seq = 1; seq <= 3; seq++) {
    gateway.append()
    await until(() => seqs.length === seq)
  }
  t.same(seqs, [1, 2, 3])
  await until(() => client.thread('t').status === 'degraded')
})

t.test('a long-poll that is answered at once, with nothing: asked again, with growing delays', async (t) => {
  const gateway = await Gateway.start(t)
  const { client } = gateway.client(t, { transport: 'polling', backoff: { initialMs: 1, maxMs: 50 } })
  const seqs = seqsOf(client.thread('t'))
  await until(() => gateway.count('long-poll') >= 10)
  gateway.append()
  await until(() => seqs.length === 1)
  t.equal(gateway.count('tickets'), 1)
})

for (const transport of ['sse', 'polling'] as const) {
  t.test(`a store that is away, ${transport}`, async (t) => {
    const gateway = await Gateway.start(t)
    const { client, errors } = gateway.client(t, { transport })
    const thread = client.thread('t')
    const codes: string[] = []
    thread.onError(({ code }) => { codes.push(code) })
    let refusals = 2
    gateway.instead = (door, response) => door !== 'tickets' && refusals-- > 0 && gateway.refuse(response, 503, 'FAE_ERR_STORE_UNAVAILABLE')
    const seqs = seqsOf(thread)
    gateway.append()
    await until(() => seqs.length === 1)
    t.same(codes, Array(2).fill('FAE_ERR_STORE_UNAVAILABLE'))
    t.equal(gateway.count('tickets'), 1, 'the connection lives')

    refusals = 2
    gateway.instead = (door, response) => {
      if (refusals-- <= 0) return false
      return gateway.refuse(response, 503, 'FAE_ERR_STORE_UNAVAILABLE')
    }
    if (transport === 'polling') {
      gateway.append()
      await until(() => seqs.length === 2)
      t.equal(codes.length, 4)
    }
    t.same(errors, [])
  })
}

t.test('what is sent', async (t) => {
  t.test('a gateway that fails is no answer: sent again', async (t) => {
    const gateway = await Gateway.start(t)
    const bodies: string[] = []
    let failures = 2
    gateway.instead = (door, response, request) => {
      if (door !== 'messages') return false
      request.on('data', (chunk) => { bodies.push(String(chunk)) })
      return failures-- > 0 && gateway.refuse(response, failures === 0 ? 502 : 503, failures === 0 ? undefined : 'FAE_ERR_SERVER_CLOSING')
    }
    const { client } = gateway.client(t, { transport: 'sse' })
    t.equal((await client.thread('t').send('hi')).runId, 'run_1')
    await until(() => bodies.length === 3)
    t.equal(new Set(bodies).size, 1)
    t.match(JSON.parse(bodies[0]!), { content: 'hi', clientMessageId: /./ })
  })

  t.test('no answer at all is none either: sent again', async (t) => {
    const gateway = await Gateway.start(t)
    gateway.instead = (door) => door === 'messages' && gateway.count('messages') === 1
    const { client } = gateway.client(t, { transport: 'sse' })
    await client.connect()
    hasten(t, 30_000)
    t.equal((await client.thread('t').send('hi')).runId, 'run_1')
    t.equal(gateway.count('messages'), 2)
  })

  t.test('one that does not want it is', async (t) => {
    const gateway = await Gateway.start(t)
    const { client } = gateway.client(t, { transport: 'sse' })
    for (const [status, code] of [[413, 'FAE_ERR_EVENT_TOO_LARGE'], [403, 'FAE_ERR_BAD_REQUEST']] as const) {
      gateway.instead = (door, response) => door === 'messages' && gateway.refuse(response, status)
      await t.rejects(client.thread('t').send('hi'), { code, message: `The server answered ${status}` })
    }
  })
})

t.test('403 of our server is final', async (t) => {
  const gateway = await Gateway.start(t)
  gateway.instead = (door, response) => gateway.refuse(response, 403, 'FAE_ERR_FORBIDDEN')
  const { client } = gateway.client(t)
  await t.rejects(client.connect(), { code: 'FAE_ERR_FORBIDDEN', closeCode: 4403 })
})

t.test('a server that does not answer is given up in time', async (t) => {
  const gateway = await Gateway.start(t)
  gateway.instead = () => gateway.count('tickets') < 3
  const { client } = gateway.client(t, { transport: 'polling', connectTimeoutMs: 300 })
  t.match(await client.connect(), { userId: 'u' })
})

t.test('when the page wakes up', async (t) => {
  const page = new EventTarget()
  Object.assign(globalThis, { addEventListener: page.addEventListener.bind(page), removeEventListener: page.removeEventListener.bind(page) })
  t.teardown(() => { for (const name of ['addEventListener', 'removeEventListener']) Reflect.deleteProperty(globalThis, name) })
  const wake = () => { page.dispatchEvent(new Event('online')) }

  t.test('a WebSocket is tried at once', async (t) => {
    const network = await Network.start(t)
    network.webSocket = 'cut'
    const { client } = network.client(t, { backoff: { initialMs: 50, maxMs: 1e6 } })
    const log = new Log(client.thread(await network.thread()))
    await until(() => client.transport === 'sse' && log.thread.status === 'live')
    network.webSocket = undefined
    wake()
    wake()
    await until(() => client.transport === 'websocket')
    t.same(await (await log.thread.send('ping')).result(), { answer: 'PING' })
    t.same(log.ids, await log.equals(network.server))
  })

  t.test('what was asked without a network is asked again at once', async (t) => {
    const gateway = await Gateway.start(t)
    gateway.instead = (door) => door === 'tickets' && gateway.count('tickets') === 1
    const { client } = gateway.client(t, { transport: 'sse', connectTimeoutMs: 1e9, backoff: { initialMs: 1e9, maxMs: 1e9 } })
    client.connect().catch(() => {})
    await until(() => gateway.count('tickets') === 1)
    wake()
    await until(() => client.connected)
    wake()
    t.equal(client.status, 'live', 'a connection that lives is left alone')
  })

  t.test('a request that has been silent while the page slept is made anew, another is left alone', async (t) => {
    const gateway = await Gateway.start(t)
    const { client } = gateway.client(t, { transport: 'sse' })
    const seqs = seqsOf(client.thread('t'))
    gateway.append()
    await until(() => seqs.length === 1)
    wake()
    gateway.append()
    await until(() => seqs.length === 2)
    t.equal(gateway.count('sse'), 1)
    const { now } = Date
    t.teardown(() => { Date.now = now })
    Date.now = () => now() + 20_000
    wake()
    await until(() => gateway.count('sse') === 2)
    Date.now = now
    gateway.append()
    await until(() => seqs.length === 3)
    t.same(seqs, [1, 2, 3])
    t.equal(client.status, 'live')
  })
})

t.test('a thread that the server does not know any more ends with its error, on every transport', async (t) => {
  for (const transport of ['sse', 'polling'] as const) {
    const gateway = await Gateway.start(t)
    const { client } = gateway.client(t, { transport })
    const thread = client.thread('t')
    const errors: AgentEventsError[] = []
    thread.onError((error) => { errors.push(error) })
    const seqs = seqsOf(thread)
    gateway.append()
    await until(() => seqs.length === 1)
    gateway.instead = (door, response) => door !== 'tickets' && gateway.refuse(response, 404, 'FAE_ERR_THREAD_NOT_FOUND')
    if (transport === 'sse') {
      // the stream that is open ends, as when the thread is deleted
      thread.close()
      t.equal(thread.status, 'closed')
      const again = client.thread('t')
      again.onError((error) => { errors.push(error) })
      again.onAny(() => {})
    }
    await until(() => errors.length === 1)
    t.match(errors, [{ code: 'FAE_ERR_THREAD_NOT_FOUND', threadId: 't' }])
  }
})
