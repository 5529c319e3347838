import type { FastifyBaseLogger } from 'fastify'
import type { Duplex } from 'node:stream'
import type { WebSocket } from '@fastify/websocket'
import { FAE_ERR_INTERNAL } from '../../errors.js'
import { closeCodes, type CloseCodeName, type ServerFrame } from '../../schemas/index.js'
import type { User } from '../thread-registry/user.js'
import { frameText } from './frame.js'
import type { Stats } from './stats.js'
import type { Subscription } from './subscription.js'

export interface ConnectionLimits {
  /** Bytes of one client frame. @default 64 KiB */
  readonly maxPayload: number
  /** Frames a client may send per second on average; four times as many at once. @default 50 */
  readonly framesPerSecond: number
  /** @default 100 */
  readonly subscriptionsPerConnection: number
  /** @default 50 */
  readonly connectionsPerUser: number
  /** Bytes waiting in a socket above which it is fed from the log instead. @default 512 KiB */
  readonly highWaterMark: number
  /** A socket over the mark that takes nothing for so long is closed with 4413. @default 30_000 */
  readonly stallTimeoutMs: number
  /** Frames that were not understood before 4400. @default 20 */
  readonly maxBadFrames: number
}

/** How long a peer may take to answer our close frame before the socket is ended. */
const CLOSE_GRACE_MS = 2_000
/** Most connections never have any of it: idle ones are many. */
const NONE: readonly never[] = []
const MAX_TIMER_MS = 2 ** 31 - 1
/** The longest error message a frame carries. */
const MESSAGE_CHARS = 1_000

/** What a connection needs of its hub. */
export interface ConnectionOwner {
  readonly limits: ConnectionLimits
  readonly stats: Stats
  /** Calls flush() at the end of this tick. */
  schedule (connection: Connection): void
  /** The socket is over its mark: it is watched for progress until it drains. */
  congested (connection: Connection): void
  dropSubscription (connection: Connection, threadId: string): void
}

/** One socket of one user. Writes of one tick leave in one system call. */
export class Connection {
  readonly id: string
  readonly log: FastifyBaseLogger
  readonly subscriptions = new Map<string, Subscription>()
  readonly connectedAt = Date.now()
  /** Events sent. */
  delivered = 0
  /** Any inbound frame counts as life. */
  lastHeardAt = Date.now()
  /** When the first ping went out that nothing has answered since; 0 if there is none. */
  pingedAt = 0
  lastAck: { threadId: string, cursor: string, at: number } | undefined
  badFrames = 0
  /** Subscribes that wait to hear whose thread it is: an unsubscribe that follows at once takes them back. */
  asking: ReadonlyArray<{ readonly threadId: string, isTakenBack: boolean }> = NONE
  readonly #socket: WebSocket
  readonly #raw: Duplex
  readonly #owner: ConnectionOwner
  readonly #highWaterMark: number
  /** What waits for the end of this tick: mostly one piece. */
  #out: Buffer | undefined
  /** The same array always, as a lane's queue is. */
  readonly #more: Buffer[] = []
  #outBytes = 0
  /** Bytes of answers since the socket was last empty. */
  #answerBytes = 0
  #stalled: readonly Subscription[] = NONE
  #progress = 0
  #progressAt = 0
  #takenAtPing = 0
  #user: User
  #expiry: NodeJS.Timeout | undefined
  #closing: NodeJS.Timeout | undefined
  #tokens: number
  #tokensAt = Date.now()

  constructor (id: string, socket: WebSocket, user: User, owner: ConnectionOwner, log: FastifyBaseLogger) {
    this.id = id
    this.#user = user
    this.#expireWith(user)
    this.log = log
    this.#socket = socket
    // ws has no public way to write frames that are shared by many sockets; this is what its own sender writes to.
    this.#raw = (socket as unknown as { _socket: Duplex })._socket
    this.#owner = owner
    // Below its own mark a socket does not tell when it has drained.
    this.#highWaterMark = Math.max(owner.limits.highWaterMark, this.#raw.writableHighWaterMark)
    this.#tokens = owner.limits.framesPerSecond * 4
    this.#raw.on('drain', () => { this.#drained() })
  }

  get user (): User { return this.#user }
  get stats (): Stats { return this.#owner.stats }
  get bufferedBytes (): number { return this.#raw.writableLength + this.#outBytes }
  get congested (): boolean { return this.bufferedBytes >= this.#highWaterMark }
  get isOpen (): boolean { return this.#socket.readyState === this.#socket.OPEN }

  /** The same user, with a later end of the authentication. */
  refresh (user: User): void {
    // It may have gone while the token was looked at.
    if (!this.isOpen) return
    this.#user = user
    this.#expireWith(user)
  }

  send (frame: ServerFrame): void {
    const answer = frameText(JSON.stringify(frame))
    if (this.bufferedBytes === 0) this.#answerBytes = 0
    this.#answerBytes += answer.length
    // Events wait in the log, answers can only wait here: who asks on without reading would fill our memory.
    if (this.#answerBytes > this.#highWaterMark) this.close('slowConsumer')
    else this.write(answer)
  }

  sendError (error: Error & { code?: string, statusCode?: number }, context: { ref?: string | undefined, threadId?: string | undefined } = {}): void {
    const { code, message } = publicError(error)
    this.send({
      type: 'error',
      ...(context.ref !== undefined && { ref: context.ref }),
      code,
      message,
      ...(context.threadId !== undefined && { threadId: context.threadId })
    })
  }

  /** Queues whole frames for the end of this tick. */
  write (frames: Buffer): void {
    if (!this.isOpen) return
    this.#outBytes += frames.length
    if (this.#out !== undefined) {
      this.#more.push(frames)
      return
    }
    this.#out = frames
    this.#owner.schedule(this)
  }

  flush (): void {
    const out = this.#out
    if (out === undefined) return
    const more = this.#more.length === 0 ? NONE : this.#more.splice(0)
    this.#forgetOut()
    if (!this.isOpen) return
    if (more.length === 0) {
      this.#raw.write(out)
    } else {
      this.#raw.cork()
      this.#raw.write(out)
      for (const frames of more) this.#raw.write(frames)
      this.#raw.uncork()
    }
    // It drained before this was written, and has too little to tell of it once more.
    if (this.#stalled.length > 0 && !this.#raw.writableNeedDrain) this.#drained()
  }

  whenDrained (subscription: Subscription): void {
    if (this.#stalled.length === 0) {
      this.#progress = this.#takenBytes()
      this.#progressAt = Date.now()
      this.#owner.congested(this)
    }
    this.#stalled = [...this.#stalled, subscription]
  }

  /** @returns false once it has drained; closes the socket when it takes nothing for stallTimeoutMs */
  checkProgress (now: number): boolean {
    if (this.#stalled.length === 0 || !this.isOpen) return false
    const progress = this.#takenBytes()
    if (progress !== this.#progress) {
      this.#progress = progress
      this.#progressAt = now
    } else if (now - this.#progressAt >= this.#owner.limits.stallTimeoutMs) {
      this.close('slowConsumer')
      return false
    }
    return true
  }

  /** A sign of life. */
  heard (now: number): void {
    this.lastHeardAt = now
    this.pingedAt = 0
  }

  /** A ping goes out, or is repeated. */
  pinged (now: number): void {
    if (this.pingedAt > 0) return
    this.pingedAt = now
    this.#takenAtPing = this.#takenBytes()
  }

  /**
   * Whether it has answered nothing for so long since it was pinged. A peer that takes bytes off a full socket is alive:
   * our ping may still wait behind them.
   */
  isSilent (now: number, forMs: number): boolean {
    if (this.pingedAt === 0 || now - this.pingedAt < forMs) return false
    if (this.#raw.writableLength === 0 || this.#takenBytes() === this.#takenAtPing) return true
    this.heard(now)
    return false
  }

  /** One frame of the budget; false when it is used up. */
  spend (now: number): boolean {
    const { framesPerSecond } = this.#owner.limits
    this.#tokens = Math.min(framesPerSecond * 4, this.#tokens + (now - this.#tokensAt) * framesPerSecond / 1_000)
    this.#tokensAt = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }

  /** Answers to what we send cost a tenth: a tab with many busy threads acknowledges a lot. */
  refund (): void {
    this.#tokens += 0.9
  }

  unsubscribe (threadId: string, reason: string, ref?: string): void {
    for (const asking of this.asking) if (asking.threadId === threadId) asking.isTakenBack = true
    this.#owner.dropSubscription(this, threadId)
    this.send({ type: 'unsubscribed', ...(ref !== undefined && { ref }), threadId, reason })
  }

  failSubscription (subscription: Subscription, error: Error & { code?: string }): void {
    const { threadId } = subscription
    if (subscription.state === 'closed') return
    this.log.warn({ err: error, threadId, connectionId: this.id }, 'subscription failed')
    this.#owner.dropSubscription(this, threadId)
    this.sendError(error, { threadId })
    this.send({ type: 'unsubscribed', threadId, reason: 'error' })
  }

  /** Says why and leaves; a peer that does not answer is cut off after a grace. Idempotent. */
  close (name: CloseCodeName): void {
    if (this.#closing !== undefined || !this.isOpen) return
    this.flush()
    const { code, meaning } = closeCodes[name]
    this.#owner.stats.closes[name]++
    this.#closing = setTimeout(() => { this.terminate() }, CLOSE_GRACE_MS).unref()
    this.#socket.close(code, meaning)
  }

  terminate (): void {
    this.#socket.terminate()
  }

  /** The socket is gone: nothing of it stays. */
  dispose (): void {
    clearTimeout(this.#closing)
    clearTimeout(this.#expiry)
    this.#forgetOut()
    this.#stalled = NONE
  }

  #forgetOut (): void {
    this.#out = undefined
    this.#more.length = 0
    this.#outBytes = 0
  }

  #expireWith ({ expiresAt }: User): void {
    clearTimeout(this.#expiry)
    const inMs = (expiresAt ?? Infinity) - Date.now()
    if (inMs === Infinity) return
    // Timers take at most 24.8 days; a later end is looked at again then.
    this.#expiry = setTimeout(() => {
      if (inMs > MAX_TIMER_MS) this.#expireWith(this.#user)
      else this.close('notAuthenticated')
    }, Math.min(Math.max(0, inMs), MAX_TIMER_MS)).unref()
  }

  #drained (): void {
    this.#answerBytes = 0
    const stalled = this.#stalled
    this.#stalled = NONE
    for (const subscription of stalled) subscription.resume()
  }

  #takenBytes (): number { return takenBytes(this.#raw) }
}

/** Bytes of a socket that the kernel has taken so far. What was only queued since, a ping say, is no progress of the peer. */
export function takenBytes (socket: Duplex | null): number {
  const { bytesWritten = 0, writeQueueSize = 0 } = (socket as { _handle?: { bytesWritten?: number, writeQueueSize?: number } | null } | null)?._handle ?? {}
  return bytesWritten - writeQueueSize
}

/** What an outsider may see of an error: ours as they are, anything else as an internal one. */
export function publicError (error: Error & { code?: string, statusCode?: number }): { code: string, message: string } {
  const ours = typeof error.code === 'string' && error.code.startsWith('FAE_ERR_') ? error : new FAE_ERR_INTERNAL()
  return { code: ours.code!, message: ours.message.slice(0, MESSAGE_CHARS) }
}
