import { FORBIDDEN, HEARTBEAT_LOST, NOT_AUTHENTICATED, isTerminal } from '../schemas/close-codes.js'
import type { AgentEvent as StoredEvent, CancelFrame, ClientFrame, ErrorFrame, SendFrame } from '../schemas/index.js'
import { backoffMs } from './backoff.js'
import { AgentEventsError, clientError } from './client-error.js'
import { Cursors } from './cursors.js'
import { deferred, type Deferred } from './deferred.js'
import { Door } from './door.js'
import { Listeners } from './listeners.js'
import { Socket, type SocketOptions } from './socket.js'
import { AgentThread, type Answer, type Link } from './thread.js'
import type { Ladder, Way } from './fallback.js'
import type { Incoming, Transport, TransportHandlers, TransportName } from './transport.js'
import type { AgentEvent, Client, ClientOptions, ClientStatus, Connected, Thread, WebSocketConstructor } from './types.js'
import { onWake } from './wake.js'

/** A connection that lasted so long, or one heartbeat, is a good one: the next attempt begins with the shortest delay. */
const STABLE_MS = 5_000
/** WebSockets in a row that ended before `connected`: then something on the way does not let them through. One that times out will do. */
const BLOCKED_AFTER = 2

interface Request { readonly text: string, readonly answer: Deferred<Answer> }

/** Keeps one connection for all its threads, for as long as it is allowed to. */
export class AgentEventsClient<T> implements Client<T>, Link, Ladder {
  readonly ackMs: number
  readonly maxQueuedEvents: number
  error: AgentEventsError | undefined
  readonly #options: ClientOptions
  readonly cursors: Cursors
  readonly #door: Door
  readonly #socketOptions: SocketOptions
  readonly #isAuto: boolean
  readonly #threads = new Map<string, AgentThread<T>>()
  readonly #requests = new Map<string, Request>()
  readonly #statuses: Listeners<[ClientStatus]>
  readonly #errors: Listeners<[AgentEventsError]>
  #status: ClientStatus = 'idle'
  #transport: Transport | undefined
  /** Without a WebSocket, by HTTP. */
  #isSteppedDown: boolean
  /** WebSockets in a row that ended before `connected`. */
  #unopened = 0
  /** A WebSocket on trial: it takes over as soon as it is connected. */
  #candidate: Socket | undefined
  #way: Way = {}
  /** When to connect again; or until when the fallback must be loaded. */
  #reconnectTimer: ReturnType<typeof setTimeout> | undefined
  #stableTimer: ReturnType<typeof setTimeout> | undefined
  #stopWaking: (() => void) | undefined
  #closing: Promise<void> | undefined
  #attempts = 0
  /** The server refused our credentials once; a second time in a row is final. */
  #refused = false
  #refs = 0

  constructor (options: ClientOptions) {
    const { ackMs = 250, maxQueuedEvents = 1_000, connectTimeoutMs = 10_000, transport = 'auto', headers, storage } = options
    this.ackMs = ackMs
    this.maxQueuedEvents = maxQueuedEvents
    this.#options = options
    const report = (error: unknown) => { this.report(error) }
    const door = this.#door = new Door(options, report)
    this.#isAuto = transport === 'auto'
    this.#isSteppedDown = transport === 'sse' || transport === 'polling'
    const WebSocket = options.WebSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket
    if (WebSocket === undefined && !this.#isSteppedDown) throw clientError('FAE_ERR_OPTION_INVALID', "No WebSocket: pass option 'WebSocket', from package 'ws' for instance")
    this.#socketOptions = {
      WebSocket: WebSocket!,
      connectTimeoutMs,
      async address (signal) {
        if (!headers) return { url: door.url('ws') }
        const { addressOf } = await import('./http.js')
        return addressOf(door, signal)
      }
    }
    this.cursors = new Cursors(storage, door.name, report)
    this.#statuses = new Listeners<[ClientStatus]>(report)
    this.#errors = new Listeners<[AgentEventsError]>(report)
  }

  get status (): ClientStatus { return this.#status }
  get connected (): Connected | undefined { return this.#transport?.connected }
  get transport (): TransportName | undefined { return this.connected && this.#transport!.name }

  async connect (): Promise<Connected> {
    this.wake()
    while (!this.connected) {
      if (this.#status === 'closed') throw this.#closedError()
      await new Promise<void>((resolve) => {
        const off = this.onStatus(() => { off(); resolve() })
      })
    }
    return this.connected
  }

  thread (id: string): Thread<T> {
    let thread = this.#threads.get(id)
    if (!thread) this.#threads.set(id, thread = new AgentThread<T>(id, this))
    return thread
  }

  onStatus (listener: (status: ClientStatus) => unknown): () => void { return this.#statuses.add(listener) }
  onError (listener: (error: AgentEventsError) => unknown): () => void { return this.#errors.add(listener) }

  close (): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  // ---------- called by the threads ----------

  backoffMs (attempt: number): number { return backoffMs(attempt, this.#options.backoff) }

  ref (): string { return String(++this.#refs) }

  wake (): void {
    if (this.#status !== 'idle') return
    this.#stopWaking = onWake((why) => {
      this.#attempts = 0
      this.#transport?.check(why)
      if (this.#status === 'offline' && why !== 'offline') this.#connect()
    })
    this.#connect()
  }

  send (frame: ClientFrame): void {
    if (this.connected) this.#transport!.send(JSON.stringify(frame))
  }

  async request (frame: SendFrame | CancelFrame): Promise<Answer> {
    if (this.#status === 'closed') throw this.#closedError()
    const request = { text: JSON.stringify(frame), answer: deferred<Answer>() }
    this.#requests.set(frame.ref!, request)
    this.#transmit(frame.ref!, request)
    return request.answer.promise
  }

  /** @returns what was asked, if it is not answered */
  drop (ref: string): Request | undefined {
    const request = this.#requests.get(ref)
    this.#requests.delete(ref)
    return request
  }

  works (): void { this.#attempts = 0 }

  forget (id: string): void { this.#threads.delete(id) }

  raise (error: AgentEventsError): void {
    if (this.#errors.size) this.#errors.call(error)
    else this.report(error)
  }

  report (error: unknown, event?: StoredEvent): void {
    const { onHandlerError = console.error } = this.#options
    // in a microtask: a reporter that throws is its owner's uncaught error and stops nothing here
    queueMicrotask(() => { onHandlerError(error, event as AgentEvent | undefined) })
  }

  // ---------- called by the fallback ----------

  /** Beside the connection that there is. */
  tryWebSocket (): void { this.#candidate ??= this.#openSocket() }

  // ---------- the connection ----------

  async #connect (): Promise<void> {
    this.#stopTimer()
    if (!this.#isSteppedDown) {
      this.#transport = this.#openSocket()
      return this.#become('connecting')
    }
    // reachable in neither way, it is the server that is away: the WebSocket first, when it is back
    this.#isSteppedDown = !this.#isAuto
    this.#unopened = 0
    // loading takes no longer than any other attempt
    this.#reconnectIn(this.#socketOptions.connectTimeoutMs)
    this.#become('connecting')
    const isLoading = () => this.#status === 'connecting' && !this.#transport
    try {
      // only where it is needed: most pages never load it
      const { Fallback } = await import('./fallback.js')
      if (!isLoading()) return
      this.#stopTimer()
      const fallback: Transport = this.#transport = new Fallback(this, this.#door, this.#way, this.#handlers(() => fallback))
    } catch (error) {
      if (!isLoading()) return
      this.#stopTimer()
      this.#lost(0, String(error))
    }
  }

  #openSocket (): Socket {
    const socket: Socket = new Socket(this.#socketOptions, this.#handlers(() => socket))
    return socket
  }

  #handlers (self: () => Transport): TransportHandlers {
    return {
      onFrame: (frame) => {
        if (self() === this.#candidate) {
          this.#candidate = undefined
          this.#transport?.close()
          this.#disconnected()
          this.#transport = self()
        }
        this.#receive(frame)
      },
      onLost: (code, reason) => {
        if (self() === this.#candidate) this.#candidate = undefined
        else this.#lost(code, reason)
      },
      onGarbage: ({ message }) => { this.raise(clientError('FAE_ERR_FRAME_INVALID', `Not a frame: ${message}`)) }
    }
  }

  #stopTimer (): void {
    clearTimeout(this.#reconnectTimer)
    this.#reconnectTimer = undefined
  }

  #reconnectIn (ms: number): void {
    this.#stopTimer()
    this.#reconnectTimer = setTimeout(() => {
      // only after a goaway is there still one
      const old = this.#transport
      if (old) {
        for (const thread of this.#threads.values()) thread.subscription.flush()
        old.close()
        this.#disconnected()
      }
      this.#connect()
    }, ms)
  }

  #disconnected (): void {
    clearTimeout(this.#stableTimer)
    this.#candidate?.close()
    this.#candidate = this.#transport = undefined
    for (const thread of this.#threads.values()) thread.subscription.lose()
  }

  #lost (code: number, reason: string): void {
    if (this.#status === 'connecting' && this.#isAuto) this.#isSteppedDown = ++this.#unopened >= BLOCKED_AFTER || code === HEARTBEAT_LOST
    this.#disconnected()
    const isSecondChance = code === NOT_AUTHENTICATED && !this.#refused
    if (isSecondChance) this.#refused = true
    else if (isTerminal(code)) return this.#fail(code, reason)
    // a goaway has said when
    if (!this.#reconnectTimer) this.#reconnectIn(this.backoffMs(this.#attempts++))
    this.#become('offline')
  }

  #fail (closeCode: number, reason: string): void {
    const code = closeCode === NOT_AUTHENTICATED ? 'FAE_ERR_UNAUTHENTICATED' : closeCode === FORBIDDEN ? 'FAE_ERR_FORBIDDEN' : 'FAE_ERR_CLIENT_CLOSED'
    const error = this.error = clientError(code, `Closed for good (${closeCode}): ${reason}`, { closeCode })
    this.#free(error)
    for (const thread of this.#threads.values()) thread.fail(error, true)
    this.raise(error)
  }

  async #close (): Promise<void> {
    for (const thread of [...this.#threads.values()]) thread.close()
    const transport = this.#transport
    if (transport) this.#disconnected()
    this.#free(this.#closedError())
    this.#statuses.clear()
    this.#errors.clear()
    await transport?.close()
  }

  #free (error: AgentEventsError): void {
    this.#stopTimer()
    this.#stopWaking?.()
    this.cursors.flush()
    this.#become('closed')
    for (const ref of this.#requests.keys()) this.drop(ref)!.answer.reject(error)
  }

  #become (status: ClientStatus): void {
    if (status === this.#status) return
    this.#status = status
    for (const thread of this.#threads.values()) thread.update()
    this.#statuses.call(status)
  }

  // ---------- what arrives ----------

  #receive (frame: Incoming): void {
    switch (frame.type) {
      case 'connected':
        this.#stableTimer = setTimeout(() => { this.#attempts = 0; this.#refused = false }, Math.min(STABLE_MS, frame.heartbeatMs))
        this.#unopened = 0
        this.#isSteppedDown = this.#transport!.name !== 'websocket'
        if (!this.#isSteppedDown) this.#way = {}
        this.#become(frame.mode === 'degraded' ? 'degraded' : 'live')
        for (const thread of this.#threads.values()) thread.subscription.begin()
        for (const [ref, request] of this.#requests) this.#transmit(ref, request)
        break
      case 'status': return this.#become(frame.mode === 'degraded' ? 'degraded' : 'live')
      case 'goaway': return this.#reconnectIn(frame.reconnectInMs)
      case 'accepted': return this.drop(frame.ref)?.answer.resolve(frame)
      case 'error': return this.#onError(frame)
      // of a thread, also what this version does not know; of no thread of ours: it was closed meanwhile
      default: this.#threads.get(frame.threadId)?.subscription.receive(frame)
    }
  }

  #onError (frame: ErrorFrame): void {
    const { ref, code, message, threadId } = frame
    if (this.#requests.has(ref!)) {
      // it goes away, and the next connection takes it
      if (code === 'FAE_ERR_SERVER_CLOSING') return
      return this.drop(ref!)!.answer.reject(new AgentEventsError(code, message, { threadId }))
    }
    for (const thread of this.#threads.values()) {
      if (thread.subscription.refuse(frame)) return
    }
    // an answer that nobody waits for any more is not news
    if (ref === undefined) this.raise(new AgentEventsError(code, message, { threadId }))
  }

  #transmit (ref: string, { text }: Request): void {
    const { connected } = this
    // later; a listener may have ended the connection that others hear of just now
    if (!connected) return
    // sent all the same, it would end this connection, and the next one again
    if (new Blob([text]).size > connected.maxPayload) {
      this.drop(ref)!.answer.reject(clientError('FAE_ERR_EVENT_TOO_LARGE', `The server takes at most ${connected.maxPayload} bytes`))
    } else {
      this.#transport!.send(text)
    }
  }

  #closedError (): AgentEventsError {
    return this.error ?? clientError('FAE_ERR_CLIENT_CLOSED', 'The client is closed')
  }
}
