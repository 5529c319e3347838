import { createHash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Transform } from 'node:stream'
import Fastify, { type FastifyReply, type FastifyRequest } from 'fastify'
import { Type } from '../../index.js'
import type { AgentEvent } from '../../schemas/index.js'
import { startApp } from '../support/start-app.js'

/*
 * What Durable Streams writes, on top of threads: PUT makes a thread, POST appends custom events, DELETE removes it. Reading
 * is ours as it is: GET and HEAD go to the app's own door over HTTP, and its status, headers, waits and the frames of its
 * event streams come back as they are. Only the values are taken out of their events, because the conformance suite wants
 * back what it wrote; of streams that are not JSON they are text or bytes.
 */

const USER = 'writer'
const JSON_TYPE = 'application/json'

type Kind = 'json' | 'text' | 'bytes'

export async function startWriteAdapter (t: { teardown (fn: () => unknown): void }, { longPollMs }: { longPollMs: number }): Promise<string> {
  const { app, port } = await startApp(t, {
    longPollMs,
    events: { written: Type.Unknown() },
    maxEventBytes: 4 * 1024 * 1024,
    limits: { connectionsPerUser: 1_000 },
    authenticate: () => ({ userId: USER })
  })
  // Above all that the suite writes: who is refused before the whole body is read may find the connection gone, and no answer.
  const adapter = Fastify({ bodyLimit: 16 * 1024 * 1024, routerOptions: { maxParamLength: 1_000 } })
  t.teardown(() => adapter.close())
  adapter.removeAllContentTypeParsers()
  adapter.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) })
  adapter.addHook('onRequest', async (_request, reply) => { reply.header('x-content-type-options', 'nosniff') })

  const threadOf = ({ url }: FastifyRequest): string => createHash('sha256').update(url.replace(/\?.*$/s, '')).digest('hex')
  const typeOf = async (threadId: string): Promise<string | undefined> => (await app.threads.get(threadId))?.metadata?.contentType as string | undefined

  /** @returns the offset behind it, undefined when it is not what the stream holds */
  async function append (threadId: string, contentType: string, body: Buffer, { mayBeEmpty }: { mayBeEmpty: boolean }): Promise<boolean> {
    const values = valuesOf(kindOf(contentType), body)
    if (values === undefined || (values.length === 0 && !mayBeEmpty)) return false
    for (const value of values) await app.notifier.sendToThread(threadId, { type: 'custom', data: { name: 'written', value } })
    return true
  }

  async function headOf (threadId: string): Promise<string> {
    const { epoch, head } = (await app.threads.get(threadId))!
    return `${epoch}-${String(head).padStart(10, '0')}`
  }

  adapter.put('/v1/stream/*', async (request, reply) => {
    const threadId = threadOf(request)
    const contentType = request.headers['content-type'] ?? 'application/octet-stream'
    const known = await typeOf(threadId)
    if (known !== undefined && essence(known) !== essence(contentType)) return reply.code(409).send()
    if (known === undefined) {
      await app.threads.register({ userId: USER, threadId, metadata: { contentType } })
      const body = request.body as Buffer | undefined
      if (body !== undefined && body.length > 0 && !await append(threadId, contentType, body, { mayBeEmpty: true })) {
        await app.threads.delete(threadId)
        return reply.code(400).send()
      }
    }
    return reply.code(known === undefined ? 201 : 200).headers({
      'content-type': contentType,
      'stream-next-offset': await headOf(threadId),
      ...(known === undefined && { location: `http://${request.host}${request.url}` })
    }).send()
  })

  adapter.post('/v1/stream/*', async (request, reply) => {
    const threadId = threadOf(request)
    const known = await typeOf(threadId)
    const contentType = request.headers['content-type']
    const body = request.body as Buffer | undefined
    if (known === undefined) return reply.code(404).send()
    if (contentType === undefined || body === undefined || body.length === 0) return reply.code(400).send()
    if (essence(known) !== essence(contentType)) return reply.code(409).send()
    if (!await append(threadId, contentType, body, { mayBeEmpty: false })) return reply.code(400).send()
    return reply.code(204).header('stream-next-offset', await headOf(threadId)).send()
  })

  adapter.delete('/v1/stream/*', async (request, reply) => {
    return reply.code(await app.threads.delete(threadOf(request)) ? 204 : 404).send()
  })

  adapter.route({
    method: ['GET', 'HEAD'],
    url: '/v1/stream/*',
    handler: async (request, reply) => {
      const threadId = threadOf(request)
      const contentType = await typeOf(threadId) ?? JSON_TYPE
      const query = /\?.*$/s.exec(request.raw.url!)?.[0] ?? ''
      pass(request, reply, `http://127.0.0.1:${port}/threads/${threadId}/events${query}`, contentType)
      return reply
    }
  })

  await adapter.listen({ port: 0, host: '127.0.0.1' })
  return `http://127.0.0.1:${(adapter.server.address() as AddressInfo).port}`
}

/** Our own answer, with the values instead of the events around them. */
function pass (request: FastifyRequest, reply: FastifyReply, url: string, contentType: string): void {
  const { raw } = reply
  reply.hijack()
  const upstream = httpRequest(url, { method: request.method, headers: request.headers, agent: false }, (answer) => {
    const kind = kindOf(contentType)
    const isStream = answer.headers['content-type'] === 'text/event-stream'
    const isEvents = answer.statusCode === 200 && !isStream
    const { 'content-length': _length, connection: _connection, ...headers } = answer.headers
    raw.writeHead(answer.statusCode!, { ...headers, ...(isEvents && kind !== 'json' && { 'content-type': contentType }) })
    raw.flushHeaders()
    if (isStream) answer.pipe(new Peel(kind)).pipe(raw)
    else if (isEvents && request.method === 'GET') collect(answer).then((body) => { raw.end(peel(kind, body)) }, () => { raw.destroy() })
    else answer.pipe(raw)
  })
  upstream.on('error', () => { raw.destroy() })
  raw.on('close', () => { upstream.destroy() })
  upstream.end()
}

/** The data of an event stream, message by message; everything else as it comes. */
class Peel extends Transform {
  readonly #kind: Kind
  #rest = ''

  constructor (kind: Kind) {
    super()
    this.#kind = kind
  }

  override _transform (chunk: Buffer, _encoding: string, done: () => void): void {
    const messages = (this.#rest + chunk.toString('latin1')).split('\n\n')
    this.#rest = messages.pop()!
    for (const message of messages) {
      const data = /^data: (\[.*\])$/ms.exec(message)
      const text = data === null ? message : message.replace(data[0], () => `data: ${peel(this.#kind, Buffer.from(data[1]!, 'latin1').toString()).toString('latin1')}`)
      this.push(`${text}\n\n`, 'latin1')
    }
    done()
  }
}

function peel (kind: Kind, body: string): Buffer {
  const values = (JSON.parse(body) as AgentEvent[]).map((event) => event.type === 'custom' ? event.data.value : undefined)
  if (kind === 'json') return Buffer.from(JSON.stringify(values))
  return Buffer.concat(values.map((value) => Buffer.from(value as string, kind === 'text' ? 'utf8' : 'base64')))
}

function valuesOf (kind: Kind, body: Buffer): unknown[] | undefined {
  if (kind === 'text') return [body.toString()]
  if (kind === 'bytes') return [body.toString('base64')]
  try {
    const value: unknown = JSON.parse(body.toString())
    return Array.isArray(value) ? value : [value]
  } catch {
    return undefined
  }
}

function essence (contentType: string): string {
  return contentType.split(';')[0]!.trim().toLowerCase()
}

function kindOf (contentType: string): Kind {
  const type = essence(contentType)
  return type === JSON_TYPE ? 'json' : type.startsWith('text/') ? 'text' : 'bytes'
}

async function collect (stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
