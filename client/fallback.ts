import type { AgentEvent, CancelFrame, ClientFrame, ConnectedFrame, MessageAccepted, SendFrame, SubscribeFrame } from '../schemas/index.js'
import type { Door } from './door.js'
import { EventStreamParser } from './event-stream.js'
import { askTicket, HttpError, request } from './http.js'
import type { Transport, TransportHandlers } from './transport.js'
import type { FetchResponse } from './types.js'
import type { Waking } from './wake.js'

/** The close code of a connection that is gone without anybody having said why. */
const ABNORMAL = 1006
/** The server says something on a stream at least so often, in milliseconds. */
const COMMENT_MS = 15_000
/** A request that is silent for longer is given up, in milliseconds; a long-poll is silent by nature. */
const SILENCE_MS = { sse: 40_000, 'long-poll': 90_000, none: 30_000 }
/** Over HTTP/1.1 a browser opens six connections to a host, and sending needs one too. Further threads are asked now and then. */
const LIVE_REQUESTS = 4
const NOW_AND_THEN_MS = 2_000
/** A stream that ends earlier is none; so many in a row, and something on the way does not like streams. */
const STREAM_MS = 3_000
const BLOCKED_AFTER = { ended: 3, failed: 2 }
/** The delays before something better is tried again are so many times those before a reconnect. */
const STEP_UP_FACTOR = 20

export interface Way {
  isStreamBlocked?: boolean
  /** Attempts so far to get back to something better. */
  webSockets?: number
  streams?: number
}

/** What a fallback needs of its client. */
export interface Ladder {
  backoffMs (attempt: number): number
  /** May be worth it now. */
  tryWebSocket (): void
}

/** The cursor of one thread, moved by one request after the other. */
class Reader {
  readonly threadId: string
  /** Of the subscribe that is not answered yet. */
  ref: string | undefined
  cursor: string | undefined
  isSubscribed = false
  /** The place was lost: what follows is everything retained. */
  isReset = false
  isUpToDate = false
  /** May have a request that stays open. */
  isLive = false
  isOver = false
  /** The request under way was aborted in order to make another one. */
  isRestarted = false
  isTimeout = false
  request = new AbortController()
  heardAt = 0
  /** Ended at once, one after the other. */
  short = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor ({ threadId, ref, cursor }: SubscribeFrame) {
    this.threadId = threadId
    this.ref = ref
    this.cursor = cursor
  }

  begin (): AbortSignal {
    this.request = new AbortController()
    this.isRestarted = this.isTimeout = false
    return this.request.signal
  }

  /** Something arrived; nothing more for so long, and the request is given up. */
  hear (silenceMs: number): void {
    this.heardAt = Date.now()
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.isTimeout = true
      this.request.abort()
    }, silenceMs)
  }

  rest (): void { clearTimeout(this.#timer) }

  restart (): void {
    this.isRestarted = true
    this.request.abort()
  }

  end (): void {
    this.isOver = true
    this.rest()
    this.request.abort()
  }
}

/**
 * The protocol of the WebSocket carried by HTTP: what is subscribed is read as server-sent events or by polling, what is
 * said is posted. Which of the two it is may change at any event, since a cursor is good for both.
 */
export class Fallback implements Transport {
  connected: ConnectedFrame | undefined
  readonly #ladder: Ladder
  readonly #door: Door
  readonly #way: Way
  readonly #isAuto: boolean
  readonly #isPolling: boolean
  readonly #connectTimeoutMs: number
  readonly #handlers: TransportHandlers
  readonly #readers = new Map<string, Reader>()
  readonly #life = new AbortController()
  #webSocketTimer: ReturnType<typeof setTimeout> | undefined
  #streamTimer: ReturnType<typeof setTimeout> | undefined
  /** A stream has arrived here: one that does not any more is a lost connection. */
  #hasStreamed = false
  #failures = 0

  /** @param way outlives this transport */
  constructor (ladder: Ladder, door: Door, way: Way, handlers: TransportHandlers) {
    this.#ladder = ladder
    this.#door = door
    this.#way = way
    const { transport = 'auto', connectTimeoutMs = 10_000 } = door.options
    this.#isAuto = transport === 'auto'
    this.#isPolling = transport === 'polling'
    this.#connectTimeoutMs = connectTimeoutMs
    this.#handlers = handlers
    this.#open()
  }

  get name (): 'sse' | 'polling' {
    return this.#isPolling || this.#way.isStreamBlocked === true ? 'polling' : 'sse'
  }

  send (text: string): void {
    const frame = JSON.parse(text) as ClientFrame
    switch (frame.type) {
      case 'subscribe': return this.#subscribe(frame)
      case 'unsubscribe': return this.#remove(frame.threadId)
      case 'send': {
        const { type, ref, threadId, ...message } = frame
        this.#post(frame, `threads/${encodeURIComponent(threadId)}/messages`, message)
        break
      }
      case 'cancel': this.#post(frame, `runs/${encodeURIComponent(frame.runId)}/cancel`, {})
    }
  }

  check (why?: Waking): void {
    if (why === 'online' && !this.connected) return this.#lose()
    for (const reader of this.#readers.values()) if (why === 'offline' || Date.now() - reader.heardAt > COMMENT_MS) reader.restart()
    // the page woke up, perhaps in another network
    if (this.#webSocketTimer !== undefined) this.#ladder.tryWebSocket()
  }

  async close (): Promise<void> {
    this.connected = undefined
    this.#life.abort()
    clearTimeout(this.#webSocketTimer)
    clearTimeout(this.#streamTimer)
    for (const reader of this.#readers.values()) reader.end()
    this.#readers.clear()
  }

  get #isOver (): boolean { return this.#life.signal.aborted }
  get #mode (): ConnectedFrame['mode'] { return this.name === 'polling' || this.#readers.size > LIVE_REQUESTS ? 'degraded' : 'realtime' }

  async #open (): Promise<void> {
    const timer = setTimeout(() => { this.#lose() }, this.#connectTimeoutMs)
    // beside it: whichever the network lets through first
    if (this.#isAuto) this.#tryWebSocketLater()
    try {
      // headers() may close the client, which must have this transport by then
      await 0
      const { userId, inbox } = await askTicket(this.#door, this.#life.signal)
      if (this.#isOver) return
      this.connected = { type: 'connected', connectionId: '', userId, inbox, heartbeatMs: COMMENT_MS, maxPayload: Infinity, mode: this.#mode }
      this.#handlers.onFrame(this.connected)
      if (this.#way.isStreamBlocked) this.#tryStreamLater()
    } catch (error) {
      this.#lose(error)
    } finally {
      clearTimeout(timer)
    }
  }

  #lose (error: unknown = 'No answer in time'): void {
    if (this.#isOver) return
    // says nothing about WebSockets
    if (!this.connected) this.#way.webSockets = 0
    this.close()
    this.#handlers.onLost((error as Partial<HttpError> | null)?.closeCode ?? ABNORMAL, String(error))
  }

  // ---------- what is said ----------

  async #post (frame: SendFrame | CancelFrame, path: string, body: object): Promise<void> {
    const ref = frame.ref!
    const timer = setTimeout(() => { this.#lose() }, SILENCE_MS.none)
    try {
      const response = await request(this.#door, path, { body, signal: this.#life.signal })
      const accepted = await response.json() as MessageAccepted
      if (!this.#isOver) this.#handlers.onFrame({ ...accepted, type: 'accepted', ref })
    } catch (error) {
      if (this.#isOver) return
      const refusal = refusalOf(error)
      // unanswered, the client says it again on the next connection, and it counts once
      if (refusal === undefined) return this.#lose(error)
      this.#handlers.onFrame({ type: 'error', ref, ...refusal, ...('threadId' in frame && { threadId: frame.threadId }) })
    } finally {
      clearTimeout(timer)
    }
  }

  // ---------- what is read ----------

  #subscribe (frame: SubscribeFrame): void {
    this.#readers.get(frame.threadId)?.end()
    const reader = new Reader(frame)
    this.#readers.set(frame.threadId, reader)
    this.#share()
    this.#follow(reader)
  }

  #remove (threadId: string): void {
    this.#readers.get(threadId)?.end()
    this.#readers.delete(threadId)
    this.#share()
  }

  /** The oldest readers are the live ones. */
  #share (): void {
    const { size } = this.#readers
    let rest = LIVE_REQUESTS
    for (const reader of this.#readers.values()) {
      const isLive = rest-- > 0
      if (isLive && !reader.isLive && reader.isUpToDate) reader.restart()
      reader.isLive = isLive
    }
    if (size === LIVE_REQUESTS || size === LIVE_REQUESTS + 1) this.#tellMode()
  }

  #tellMode (): void {
    if (this.connected) this.#handlers.onFrame({ type: 'status', mode: this.#mode, reason: this.name })
  }

  async #follow (reader: Reader): Promise<void> {
    while (!reader.isOver) {
      const startedAt = Date.now()
      const before = reader.cursor
      const isStream = reader.isLive && this.name === 'sse'
      const isWait = isStream || (reader.isLive && reader.isUpToDate)
      let delayMs = 0
      try {
        if (isStream) await this.#stream(reader)
        else await this.#poll(reader, isWait)
        if (isStream || isWait) delayMs = this.#shortDelay(reader, isStream, startedAt, before)
        else if (reader.isUpToDate && !reader.isLive) delayMs = NOW_AND_THEN_MS * (1 + Math.random())
      } catch (error) {
        reader.rest()
        if (reader.isOver) return
        if (!reader.isRestarted) delayMs = this.#onFailure(reader, error, isStream)
      }
      if (delayMs > 0 && !reader.isOver) await this.#sleep(reader, delayMs)
    }
  }

  /** Nothing is asked again at once that has just been answered without anything in it. */
  #shortDelay (reader: Reader, isStream: boolean, startedAt: number, before: string | undefined): number {
    const isShort = !reader.isRestarted && Date.now() - startedAt < (isStream ? STREAM_MS : STREAM_MS / 10) && (isStream || reader.cursor === before)
    if (!isShort) {
      reader.short = 0
      return 0
    }
    reader.short++
    if (isStream && reader.short >= BLOCKED_AFTER.ended && this.#isAuto) {
      reader.short = 0
      this.#stepDown()
    }
    return this.#ladder.backoffMs(reader.short)
  }

  /** @returns how long to wait, in milliseconds */
  #onFailure (reader: Reader, error: unknown, isStream: boolean): number {
    // what an abort throws has a code, too
    const { status, code } = error instanceof HttpError ? error : {}
    if (status === 410) {
      reader.cursor = undefined
      reader.isSubscribed = reader.isUpToDate = false
      reader.isReset = true
    } else if (code !== undefined && refusalOf(error)) {
      this.#refuse(reader, error as HttpError)
    } else if (status === 401 || !isStream || this.#hasStreamed || code !== undefined || !this.#isAuto) {
      this.#lose(error)
    } else if (reader.isTimeout || ++this.#failures >= BLOCKED_AFTER.failed) {
      this.#stepDown()
    } else {
      return this.#ladder.backoffMs(0)
    }
    return 0
  }

  #refuse (reader: Reader, { status, code, message }: HttpError): void {
    const { threadId, ref } = reader
    this.#remove(threadId)
    if (ref !== undefined || status >= 500) this.#handlers.onFrame({ type: 'error', code: code!, message, threadId, ...(ref !== undefined && { ref }) })
    if (ref === undefined) this.#handlers.onFrame({ type: 'unsubscribed', threadId, reason: status >= 500 ? 'error' : message })
  }

  async #stream (reader: Reader): Promise<void> {
    const response = await this.#read(reader, 'sse')
    let hasBegun = false
    try {
      let events: AgentEvent[] = []
      for await (const { type, data } of messagesOf(response, () => { if (hasBegun) reader.hear(SILENCE_MS.sse) })) {
        if (reader.isOver) return
        if (type === 'data') events.push(...JSON.parse(data) as AgentEvent[])
        if (type !== 'control') continue
        const { streamNextOffset, upToDate } = JSON.parse(data) as { streamNextOffset: string, upToDate?: boolean }
        this.#hasStreamed = hasBegun = true
        reader.hear(SILENCE_MS.sse)
        this.#take(reader, events, streamNextOffset, upToDate === true)
        events = []
      }
    } catch (error) {
      // what has begun ends in many ways; how it stands is what the next request shows
      if (!hasBegun) throw error
    }
    reader.rest()
    if (!hasBegun) throw new Error('The stream ended before it began')
  }

  async #poll (reader: Reader, isWait: boolean): Promise<void> {
    const response = await this.#read(reader, isWait ? 'long-poll' : undefined)
    const events = response.status === 204 ? [] : await response.json() as AgentEvent[]
    reader.rest()
    if (reader.isOver) return
    const next = response.headers.get('stream-next-offset') ?? events.at(-1)?.id ?? reader.cursor
    if (next === undefined) throw new Error('The answer has no position')
    this.#take(reader, events, next, events.length === 0 || response.headers.get('stream-up-to-date') !== null)
  }

  #read (reader: Reader, live: 'sse' | 'long-poll' | undefined): Promise<FetchResponse> {
    const signal = reader.begin()
    reader.hear(live === 'sse' ? this.#connectTimeoutMs : SILENCE_MS[live ?? 'none'])
    return request(this.#door, pathOf(reader.threadId), { method: 'GET', query: { offset: reader.cursor ?? '-1', ...(live && { live }) }, signal })
  }

  #take (reader: Reader, events: readonly AgentEvent[], next: string, isUpToDate: boolean): void {
    const { threadId, ref } = reader
    if (!reader.isSubscribed || (isUpToDate && !reader.isUpToDate)) {
      const cursor = reader.cursor ?? beforeFirst(events) ?? next
      const recovered = reader.isSubscribed || (!reader.isReset && (reader.cursor !== undefined || seqOf(cursor) === 0))
      reader.isSubscribed = true
      reader.isReset = false
      reader.ref = undefined
      reader.isUpToDate = isUpToDate
      this.#handlers.onFrame({ type: 'subscribed', ...(ref !== undefined && { ref }), threadId, cursor, head: isUpToDate ? seqOf(next) : Infinity, recovered })
    }
    for (const event of events) {
      if (reader.isOver) return
      this.#handlers.onFrame(event)
    }
    reader.cursor = next
  }

  #sleep (reader: Reader, ms: number): Promise<void> {
    const signal = reader.begin()
    return new Promise((resolve) => {
      const settle = () => { clearTimeout(timer); resolve() }
      const timer = setTimeout(settle, ms)
      signal.addEventListener('abort', settle)
    })
  }

  // ---------- between streams and polling ----------

  #stepDown (): void {
    if (this.#way.isStreamBlocked) return
    this.#way.isStreamBlocked = true
    this.#failures = 0
    this.#hasStreamed = false
    this.#tellMode()
    this.#tryStreamLater()
  }

  #tryWebSocketLater (): void {
    const attempts = this.#way.webSockets ?? 0
    this.#way.webSockets = attempts + 1
    this.#webSocketTimer = setTimeout(() => {
      this.#tryWebSocketLater()
      this.#ladder.tryWebSocket()
    }, this.#ladder.backoffMs(attempts) * STEP_UP_FACTOR)
  }

  #tryStreamLater (): void {
    const attempts = this.#way.streams ?? 0
    this.#way.streams = attempts + 1
    this.#streamTimer = setTimeout(() => { this.#tryStream() }, this.#ladder.backoffMs(attempts) * STEP_UP_FACTOR)
  }

  /** Beside the polling: streams are back when one arrives. */
  async #tryStream (): Promise<void> {
    const trial = new AbortController()
    const abort = () => { trial.abort() }
    const timer = setTimeout(abort, this.#connectTimeoutMs)
    this.#life.signal.addEventListener('abort', abort)
    try {
      const [threadId] = this.#readers.keys()
      if (threadId !== undefined) {
        const response = await request(this.#door, pathOf(threadId), { method: 'GET', query: { offset: 'now', live: 'sse' }, signal: trial.signal })
        for await (const { type } of messagesOf(response)) {
          if (type !== 'control') continue
          this.#way.isStreamBlocked = false
          break
        }
      }
    } catch {
      // polling goes on, and tells what is wrong
    }
    clearTimeout(timer)
    this.#life.signal.removeEventListener('abort', abort)
    abort()
    if (this.#isOver) return
    if (this.#way.isStreamBlocked) return this.#tryStreamLater()
    this.#tellMode()
    for (const reader of this.#readers.values()) reader.restart()
  }
}

function pathOf (threadId: string): string { return `threads/${encodeURIComponent(threadId)}/events` }

/** As in ./subscription.ts, which every page has loaded already. */
function seqOf (cursor: string): number { return Number(/\d+$/.exec(cursor)) }

/** The cursor before the first of these events. */
function beforeFirst ([first]: readonly AgentEvent[]): string | undefined {
  if (first === undefined) return undefined
  const digits = /\d+$/.exec(first.id)![0]
  return first.id.slice(0, -digits.length) + String(first.seq - 1).padStart(digits.length, '0')
}

/** What the server does not want, for the one who asked for it; undefined where the connection is to blame. */
function refusalOf (error: unknown): { code: string, message: string } | undefined {
  if (!(error instanceof HttpError)) return undefined
  const { status, code, message } = error
  if (status === 401 || status === 408 || code === 'FAE_ERR_SERVER_CLOSING') return undefined
  if (code !== undefined) return { code, message }
  // something on the way, which would say the same the next time
  return status < 500 && status !== 429 ? { code: status === 413 ? 'FAE_ERR_EVENT_TOO_LARGE' : 'FAE_ERR_BAD_REQUEST', message } : undefined
}

/** @throws whatever ends the stream, and when it is none */
async function * messagesOf ({ headers, body }: FetchResponse, onHeard = () => {}) {
  if (body === null || headers.get('content-type')?.startsWith('text/event-stream') !== true) throw new Error('Not a stream of events')
  const parser = new EventStreamParser()
  const reader = body.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    onHeard()
    yield * parser.push(value!)
  }
}
