import { Socket } from 'node:net'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { FAE_ERR_BAD_REQUEST, FAE_ERR_CURSOR_GONE, FAE_ERR_CURSOR_INVALID, FAE_ERR_THREAD_NOT_FOUND } from '../errors.js'
import { cursorAt, isInPlace } from '../plugins/websocket-notifier/feed.js'
import { takenBytes } from '../plugins/websocket-notifier/connection.js'
import type { LogReader, Step } from '../plugins/websocket-notifier/log-reader.js'
import type { Page, Store } from '../plugins/store/index.js'
import { EventsQuery, ThreadParams, parseCursor, type Position } from '../schemas/index.js'
import { isExpired, userOf } from './scope.js'

/*
 * The read half of the Durable Streams protocol, version 1: catch-up, long-poll and server-sent events over one log. The
 * offset is the cursor that the WebSocket uses too, so that a client may change between them at any event.
 */

export interface EventRoutesOptions {
  /** How long a long-poll waits for something new. */
  longPollMs: number
  /** A comment at least so often, so that no proxy takes an idle stream for a dead one. */
  commentMs: number
}

/** How long a peer may take for the rest of what has ended. */
const END_GRACE_MS = 2_000
const PROGRESS_EVERY_MS = 1_000
/** Stream-Cursor counts intervals of this length: caches may serve many pollers one answer within one. */
const INTERVAL_MS = 20_000
const JSON_TYPE = 'application/json'
/** What a page may read of an answer from another origin. */
const EXPOSED = 'Stream-Next-Offset, Stream-Cursor, Stream-Up-To-Date, ETag'

interface Asked { page: Page, position: Position }

export const eventRoutes: FastifyPluginAsyncTypebox<EventRoutesOptions> = async (app, { longPollMs, commentMs }) => {
  const { hub } = app.notifier
  let isClosing = false
  /** Answers to live reads that are under way. */
  const open = new Set<FastifyReply['raw']>()
  // After the runs have ended: every reader gets their last events. Left to itself, the server would cut off at once what a
  // peer has not taken yet, or wait for one that never takes it.
  app.addHook('preClose', async () => {
    isClosing = true
    for (const reader of hub.streams.keys()) reader.finish()
    const cut = setTimeout(() => { for (const raw of open) raw.destroy() }, END_GRACE_MS)
    while (open.size > 0) await Promise.all([...open].map((raw) => new Promise((resolve) => { raw.once('close', resolve) })))
    clearTimeout(cut)
  })

  app.addHook('onRequest', async (_request, reply) => {
    reply.headers({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'cross-origin-resource-policy': 'cross-origin',
      // Beside what the host's CORS exposes.
      'access-control-expose-headers': [reply.getHeader('access-control-expose-headers') ?? [], EXPOSED].flat().join(', ')
    })
  })

  app.route({
    method: ['GET', 'HEAD'],
    url: '/threads/:threadId/events',
    schema: { params: ThreadParams, querystring: EventsQuery },
    handler: async (request, reply) => {
      const { threadId } = request.params
      const { offset, live, cursor } = request.query
      const user = userOf(request)
      const { store } = app.threads
      const asOf = await hub.mayRead(user, threadId)
      if (request.method === 'HEAD') return head(reply, await store.read(threadId, Number.MAX_SAFE_INTEGER))
      if (live === undefined) return catchUp(request, reply, await locate(store, threadId, offset))
      const lastEventId = live === 'sse' ? lastEventIdOf(request) : undefined
      if (offset === undefined && lastEventId === undefined) throw new FAE_ERR_BAD_REQUEST("A live read needs an offset: a cursor, '-1' for the start or 'now'")
      // An EventSource that reconnects gives up for ever on a 410: its lost place is told inside the stream, so any position will do.
      const position = lastEventId === undefined ? await startOf(store, threadId, offset!) : parseCursor(lastEventId) ?? { epoch: '', seq: 0 }
      const reader = hub.join(user, threadId, position, asOf)
      if (isClosing) reader.finish()
      watchClose(reply.raw, reader)
      try {
        return live === 'sse'
          ? await stream(request, reply, reader, nextInterval(cursor), lastEventId !== undefined)
          : await longPoll(request, reply, reader, nextInterval(cursor))
      } finally {
        hub.leave(reader)
      }
    }
  })

  /** Nobody waits for an answer that is closed. */
  function watchClose (raw: FastifyReply['raw'], reader: LogReader): void {
    if (raw.destroyed) {
      reader.cancel()
      return
    }
    open.add(raw)
    raw.once('close', () => {
      open.delete(raw)
      reader.cancel()
    })
  }

  async function longPoll (request: FastifyRequest, reply: FastifyReply, reader: LogReader, interval: string): Promise<FastifyReply> {
    const waitMs = untilExpiry(request, longPollMs)
    let step = await reader.next(waitMs)
    // The first answers at once: with nothing new, this is the wait.
    if (step.type === 'events' && step.entries.length === 0) step = await reader.next(waitMs)
    if (step.type === 'deleted') throw new FAE_ERR_THREAD_NOT_FOUND(reader.feed.threadId)
    if (step.type === 'reset') throw new FAE_ERR_CURSOR_GONE()
    const isUpToDate = step.type === 'timeout' || step.upToDate
    reply.headers({ 'stream-next-offset': step.cursor, 'stream-cursor': interval, ...(isUpToDate && { 'stream-up-to-date': 'true' }) })
    // A connection that is kept would hold the close open.
    if (isClosing) reply.raw.shouldKeepAlive = false
    if (step.type === 'timeout' || step.entries.length === 0) return reply.code(204).send()
    return sendEvents(reply, step.entries)
  }

  /** @param tellsReset whether a lost place is told; else the stream ends, and whoever comes back for it gets a 410 */
  async function stream (request: FastifyRequest, reply: FastifyReply, reader: LogReader, interval: string, tellsReset: boolean): Promise<FastifyReply> {
    const { raw } = reply
    const { socket } = raw
    const comment = setInterval(() => { if (!raw.writableNeedDrain) raw.write(':\n\n') }, commentMs).unref()
    reply.hijack()
    // Kept for another request, its connection would hold app.close() open.
    raw.shouldKeepAlive = false
    raw.writeHead(200, { ...definedHeaders(reply), 'content-type': 'text/event-stream', 'cache-control': 'no-cache, no-store', 'x-accel-buffering': 'no' })
    raw.flushHeaders()
    try {
      for (;;) {
        const step = await reader.next(untilExpiry(request, commentMs))
        if (raw.destroyed || isExpired(userOf(request))) break
        if (step.type === 'deleted' || (step.type === 'reset' && !tellsReset) || (step.type === 'timeout' && isClosing)) break
        const text = sseText(step, interval)
        if (text !== '' && !raw.write(text)) await drained(raw, hub.limits.stallTimeoutMs)
      }
    } catch (error) {
      request.log.info({ err: error, threadId: reader.feed.threadId }, 'event stream ended')
    } finally {
      clearInterval(comment)
      // As would a peer that takes nothing.
      const grace = setTimeout(() => { socket?.destroy() }, END_GRACE_MS).unref()
      socket?.once('close', () => { clearTimeout(grace) })
      raw.end()
    }
    return reply
  }
}

function catchUp (request: FastifyRequest, reply: FastifyReply, { page, position }: Asked): FastifyReply {
  const last = page.entries.at(-1)?.seq ?? position.seq
  const etag = `"${cursorAt(page.epochs, position.seq)}:${cursorAt(page.epochs, last)}"`
  reply.headers({ etag, 'stream-next-offset': cursorAt(page.epochs, last), ...(last >= page.head && { 'stream-up-to-date': 'true' }) })
  if (names(request.headers['if-none-match'], etag)) return reply.code(304).send()
  return sendEvents(reply, page.entries)
}

function head (reply: FastifyReply, { epochs, head }: Page): FastifyReply {
  return reply.headers({ 'content-type': JSON_TYPE, 'stream-next-offset': cursorAt(epochs, head) }).send()
}

/** The stored bytes as they are: nothing is parsed to be serialised again. */
function sendEvents (reply: FastifyReply, entries: Page['entries']): FastifyReply {
  const { raw, request, server: { notifier: { hub } } } = reply
  // Who takes nothing of an answer is cut off, as on a stream: what waits for them is memory. inject() has no socket of its own.
  if (request.socket instanceof Socket) raw.setTimeout(hub.limits.stallTimeoutMs, () => { raw.destroy() })
  return reply.header('content-type', JSON_TYPE).serializer((body: string) => body).send(`[${entries.map(({ json }) => json).join(',')}]`)
}

/** @throws FAE_ERR_CURSOR_INVALID, FAE_ERR_CURSOR_GONE where retention passed or the offset is of another log */
async function locate (store: Store, threadId: string, offset = '-1'): Promise<Asked> {
  if (offset === '-1') {
    const page = await store.read(threadId, 0)
    return { page, position: positionAt(page, page.first - 1) }
  }
  if (offset === 'now') {
    const page = await store.read(threadId, Number.MAX_SAFE_INTEGER)
    return { page, position: positionAt(page, page.head) }
  }
  const position = parseCursor(offset)
  if (position === undefined) throw new FAE_ERR_CURSOR_INVALID()
  const page = await store.read(threadId, position.seq)
  if (!isInPlace(page, position)) throw new FAE_ERR_CURSOR_GONE()
  return { page, position }
}

/** Where a live read begins; undefined is with the first retained event, whichever that is by then. */
async function startOf (store: Store, threadId: string, offset: string): Promise<Position | undefined> {
  return offset === '-1' ? undefined : (await locate(store, threadId, offset)).position
}

function positionAt ({ epochs }: Page, seq: number): Position {
  return parseCursor(cursorAt(epochs, seq))!
}

function sseText (step: Step, interval: string): string {
  if (step.type === 'timeout' || step.type === 'deleted') return ''
  if (step.type === 'reset') return 'event: control\ndata: {"reset":true}\n\n'
  // In front of the control too: a stream that was quiet from its beginning is resumed as well.
  const control = JSON.stringify({ streamNextOffset: step.cursor, streamCursor: interval, ...(step.upToDate && { upToDate: true }) })
  // Events are JSON: no line of theirs can end an SSE field.
  const data = step.entries.length === 0 ? '' : `event: data\nid: ${step.cursor}\ndata: [${step.entries.map(({ json }) => json).join(',')}]\n\n`
  return `${data}id: ${step.cursor}\nevent: control\ndata:${control}\n\n`
}

/** Always beyond the one that was sent, so that no cache answers a poller with its own last answer. */
function nextInterval (sent: string | undefined): string {
  const now = Math.floor(Date.now() / INTERVAL_MS)
  const last = /^\d{1,15}$/.test(sent ?? '') ? Number(sent) : 0
  return String(last >= now ? last + 1 + Math.floor(Math.random() * 10) : now)
}

function definedHeaders (reply: FastifyReply): Record<string, string | string[] | number> {
  return Object.fromEntries(Object.entries(reply.getHeaders()).filter((entry): entry is [string, string | string[] | number] => entry[1] !== undefined))
}

/** Resolves when the peer has taken what was written. One that takes nothing for so long is cut off: it comes back and resumes. */
async function drained (raw: FastifyReply['raw'], stallTimeoutMs: number): Promise<void> {
  let taken = takenBytes(raw.socket)
  let takenAt = Date.now()
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const now = takenBytes(raw.socket)
      if (now !== taken) [taken, takenAt] = [now, Date.now()]
      else if (Date.now() - takenAt >= stallTimeoutMs) raw.destroy()
    }, Math.min(PROGRESS_EVERY_MS, stallTimeoutMs / 4))
    const settle = (): void => {
      clearInterval(timer)
      for (const name of ['drain', 'close']) raw.off(name, settle)
      resolve()
    }
    for (const name of ['drain', 'close']) raw.once(name, settle)
    if (raw.destroyed) settle()
  })
}

/** The wait, but no longer than the authentication lasts. */
function untilExpiry (request: FastifyRequest, waitMs: number): number {
  const { expiresAt } = userOf(request)
  return Math.max(0, Math.min(waitMs, (expiresAt ?? Infinity) - Date.now()))
}

/** What a reconnecting EventSource sends; an empty one says nothing. */
function lastEventIdOf ({ headers }: FastifyRequest): string | undefined {
  const { 'last-event-id': id } = headers
  return typeof id === 'string' && id !== '' ? id : undefined
}

/** Whether If-None-Match names this ETag; on the way it may have become a weak one, or one of a list. */
function names (ifNoneMatch: string | undefined, etag: string): boolean {
  return ifNoneMatch?.split(',').some((one) => one.trim().replace(/^W\//, '') === etag) === true
}
