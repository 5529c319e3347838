import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { WebSocket } from '@fastify/websocket'
import { FAE_ERR_CONNECTION_LIMIT } from '../../errors.js'
import type { Mode, Position } from '../../schemas/index.js'
import type { ThreadRegistry } from '../thread-registry/thread-registry.js'
import type { User } from '../thread-registry/user.js'
import { ClientFrames, type AckListener, type ConnectionCommands } from './client-frames.js'
import { Connection, type ConnectionLimits, type ConnectionOwner } from './connection.js'
import { Feed } from './feed.js'
import { Feeds } from './feeds.js'
import { frameText } from './frame.js'
import { Heartbeat, type HeartbeatOptions } from './heartbeat.js'
import { LogReader } from './log-reader.js'
import type { Stats } from './stats.js'

export interface HubOptions { readonly limits: ConnectionLimits, readonly heartbeat: HeartbeatOptions }

const PING = frameText('{"type":"ping"}')
const PROGRESS_EVERY_MS = 1_000
/** How long it may take until a socket that was ended says so. */
const CUT_OFF_MS = 1_000
/** After a flush of so many sockets, which share so few threads, the next one comes no sooner than this one took, and no later than MAX_REST_MS. */
const MANY_SOCKETS = 128
const SOCKETS_PER_THREAD = 16
const MAX_REST_MS = 10
/** How far apart the clients of a server that goes away come back. */
const RECONNECT_SPREAD_MS = 5_000

/** Who is connected here and what they follow. Frames in, batches out. */
export class Hub implements ConnectionOwner {
  readonly limits: ConnectionLimits
  readonly connections = new Map<string, Connection>()
  readonly feeds: Feeds
  readonly stats: Stats
  /** Who reads here without a socket of ours: event streams and polls. */
  readonly streams = new Map<LogReader, User>()
  readonly #streamsByUser = new Map<string, number>()
  /** Raised by every recheck. */
  #rechecks = 0
  readonly #byUser = new Map<string, Set<Connection>>()
  readonly #threads: ThreadRegistry
  readonly #heartbeat: Heartbeat
  readonly #heartbeatMs: number
  readonly #log: FastifyBaseLogger
  readonly #frames: ClientFrames
  #dirtyFeeds: Feed[] = []
  #dirtyConnections: Connection[] = []
  /** A flush will come: at the end of this tick, or after a rest. */
  #isScheduled = false
  #rest: NodeJS.Timeout | undefined
  readonly #congested = new Set<Connection>()
  #progressTimer: NodeJS.Timeout | undefined
  #isClosing = false
  #mode: Mode = 'realtime'

  constructor (threads: ThreadRegistry, { limits, heartbeat }: HubOptions, log: FastifyBaseLogger, stats: Stats, onAck: AckListener) {
    this.#threads = threads
    this.stats = stats
    this.feeds = new Feeds(threads.store, (feed) => { this.schedule(feed) })
    this.limits = limits
    this.#log = log
    this.#frames = new ClientFrames(this, log, onAck)
    this.#heartbeatMs = heartbeat.intervalMs
    this.#heartbeat = new Heartbeat(heartbeat, (connection) => { connection.write(PING) }, (connection) => {
      connection.log.info({ connectionId: connection.id, userId: connection.user.userId }, 'heartbeat lost')
      connection.close('heartbeatLost')
      // It does not answer pings: it will not answer a close frame.
      connection.terminate()
    })
  }

  /** Sockets and streams count alike. @throws FAE_ERR_CONNECTION_LIMIT: asked before the upgrade, so that the answer is a real 429 */
  checkRoom (userId: string): void {
    const open = (this.#byUser.get(userId)?.size ?? 0) + (this.#streamsByUser.get(userId) ?? 0)
    if (open >= this.limits.connectionsPerUser) throw new FAE_ERR_CONNECTION_LIMIT(this.limits.connectionsPerUser)
  }

  /**
   * Resolves when the user may read the thread. An answer that was on its way while a right was lost counts no more: it
   * is asked again.
   * @returns for join(): as of when
   * @throws FAE_ERR_THREAD_NOT_FOUND
   */
  async mayRead (user: User, threadId: string): Promise<number> {
    for (;;) {
      const asOf = this.#rechecks
      await this.#threads.access(user, 'read', threadId)
      if (asOf === this.#rechecks) return asOf
    }
  }

  /** Whether no right was lost since: to be asked in the turn in which the answer is used. */
  isCurrent (asOf: number): boolean { return asOf === this.#rechecks }

  /**
   * Reads on in a thread without a socket of ours; leave() must follow.
   * @param position where to go on; undefined begins with the first retained event
   * @param asOf what mayRead() said
   * @throws FAE_ERR_CONNECTION_LIMIT
   */
  join (user: User, threadId: string, position: Position | undefined, asOf: number): LogReader {
    this.checkRoom(user.userId)
    const reader = this.feeds.join(threadId, (feed) => new LogReader(feed, position))
    this.streams.set(reader, user)
    this.#streamsByUser.set(user.userId, (this.#streamsByUser.get(user.userId) ?? 0) + 1)
    if (asOf !== this.#rechecks) this.#recheckStream(reader, user).catch(() => { reader.end() })
    return reader
  }

  /** Idempotent. */
  leave (reader: LogReader): void {
    const user = this.streams.get(reader)
    if (user === undefined) return
    this.streams.delete(reader)
    this.feeds.leave(reader.feed, reader)
    const left = this.#streamsByUser.get(user.userId)! - 1
    if (left === 0) this.#streamsByUser.delete(user.userId)
    else this.#streamsByUser.set(user.userId, left)
  }

  /** The app closes, or is about to: everybody was told. */
  get isClosing (): boolean { return this.#isClosing }

  connectionsOf (userId: string): ReadonlySet<Connection> {
    return this.#byUser.get(userId) ?? new Set()
  }

  /** Takes over an upgraded socket. Synchronous: a first frame may be in the same packet as the handshake. */
  connect (socket: WebSocket, user: User, inbox: string, commands: ConnectionCommands): Connection {
    const connection = new Connection(randomUUID(), socket, user, this, this.#log)
    const { id: connectionId } = connection
    this.connections.set(connectionId, connection)
    const connections = this.#byUser.get(user.userId) ?? new Set()
    this.#byUser.set(user.userId, connections.add(connection))
    socket.on('message', (data: Buffer, isBinary: boolean) => { this.#frames.onMessage(connection, commands, data, isBinary) })
    const onControl = (): void => { this.#frames.heard(connection, Date.now()) }
    socket.on('ping', onControl)
    socket.on('pong', onControl)
    socket.once('close', (code) => { this.#disconnected(connection, code) })
    this.#heartbeat.add(connection)
    connection.send({
      type: 'connected',
      connectionId,
      userId: user.userId,
      inbox,
      heartbeatMs: this.#heartbeatMs,
      maxPayload: this.limits.maxPayload,
      mode: this.#mode
    })
    this.#log.info({ connectionId, userId: user.userId }, 'connection established')
    if (this.#isClosing) connection.close('restart')
    // Several that were asked about at once found the same room.
    if (connections.size > this.limits.connectionsPerUser) connection.close('tooMany')
    return connection
  }

  schedule (dirty: Connection | Feed): void {
    if (dirty instanceof Feed) this.#dirtyFeeds.push(dirty)
    else this.#dirtyConnections.push(dirty)
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(this.#flush)
  }

  congested (connection: Connection): void {
    this.#congested.add(connection)
    this.#progressTimer ??= setInterval(() => { this.#checkProgress() }, Math.min(PROGRESS_EVERY_MS, this.limits.stallTimeoutMs / 4)).unref()
  }

  dropSubscription (connection: Connection, threadId: string): void {
    const subscription = connection.subscriptions.get(threadId)
    if (subscription === undefined) return
    connection.subscriptions.delete(threadId)
    subscription.close()
    this.feeds.leave(subscription.feed, subscription)
  }

  /** Asks again whether a user may read what they follow here, and cuts what they may not. */
  async recheck (userId: string): Promise<void> {
    this.#rechecks++
    for (const connection of this.connectionsOf(userId)) {
      for (const threadId of [...connection.subscriptions.keys()]) {
        // Where nobody can say, it is no: who may still read subscribes again and is asked again.
        if (!await this.#threads.may(connection.user, 'read', threadId).catch(() => false)) connection.unsubscribe(threadId, 'revoked')
      }
    }
    for (const [reader, user] of this.streams) {
      if (user.userId === userId) await this.#recheckStream(reader, user).catch(() => { reader.end() })
    }
  }

  /** The same for everybody. @throws FAE_ERR_STORE_UNAVAILABLE when nobody can say: what was not asked about stays */
  async recheckAll (): Promise<void> {
    this.#rechecks++
    for (const connection of [...this.connections.values()]) {
      for (const threadId of [...connection.subscriptions.keys()]) {
        if (!await this.#threads.may(connection.user, 'read', threadId)) connection.unsubscribe(threadId, 'revoked')
      }
    }
    for (const [reader, user] of [...this.streams]) await this.#recheckStream(reader, user)
  }

  async #recheckStream (reader: LogReader, user: User): Promise<void> {
    if (!await this.#threads.may(user, 'read', reader.feed.threadId)) reader.end()
  }

  /** Tells everybody whether events arrive in real time. */
  setMode (mode: Mode, reason: string): void {
    if (mode === this.#mode) return
    this.#mode = mode
    const frame = frameText(JSON.stringify({ type: 'status', mode, reason }))
    for (const connection of this.connections.values()) connection.write(frame)
  }

  /** Tells everybody to come back later, each at another time. */
  goaway (): void {
    this.#isClosing = true
    for (const connection of this.connections.values()) {
      connection.send({ type: 'goaway', reconnectInMs: Math.floor(Math.random() * RECONNECT_SPREAD_MS) })
    }
  }

  /** Closes every socket with 1012; who has not left after the grace is cut off. Idempotent. */
  async close (graceMs: number): Promise<void> {
    this.#isClosing = true
    this.#flush()
    for (const connection of this.connections.values()) connection.close('restart')
    await this.#whenGone(graceMs)
    for (const connection of this.connections.values()) connection.terminate()
    // Who is cut off is gone a moment later, on a busy machine too.
    await this.#whenGone(CUT_OFF_MS)
    this.#heartbeat.close()
    clearInterval(this.#progressTimer)
    clearTimeout(this.#rest)
  }

  async #whenGone (withinMs: number): Promise<void> {
    const deadline = Date.now() + withinMs
    while (this.connections.size > 0 && Date.now() < deadline) await new Promise((resolve) => { setTimeout(resolve, 10) })
  }

  readonly #flush = (): void => {
    const feeds = this.#dirtyFeeds
    this.#dirtyFeeds = []
    for (const feed of feeds) feed.flush()
    // Only now: what the feeds have made dirty is flushed below.
    this.#isScheduled = false
    const connections = this.#dirtyConnections
    this.#dirtyConnections = []
    const isShared = connections.length >= MANY_SOCKETS && connections.length >= feeds.length * SOCKETS_PER_THREAD
    const startedAt = isShared ? performance.now() : 0
    for (const connection of connections) connection.flush()
    if (isShared) this.#restFor(performance.now() - startedAt)
    const { timing } = this.stats
    if (timing !== undefined) for (const feed of feeds) feed.written(timing)
  }

  /** The system calls are what many sockets cost: events of their thread that come faster than these can be made share them. */
  #restFor (ms: number): void {
    clearTimeout(this.#rest)
    this.#isScheduled = true
    this.#rest = setTimeout(this.#flush, Math.min(ms, MAX_REST_MS))
  }

  #checkProgress (): void {
    const now = Date.now()
    for (const connection of this.#congested) if (!connection.checkProgress(now)) this.#congested.delete(connection)
    if (this.#congested.size === 0) {
      clearInterval(this.#progressTimer)
      this.#progressTimer = undefined
    }
  }

  #disconnected (connection: Connection, code: number): void {
    const { id: connectionId, user: { userId } } = connection
    for (const threadId of [...connection.subscriptions.keys()]) this.dropSubscription(connection, threadId)
    connection.dispose()
    this.connections.delete(connectionId)
    this.#congested.delete(connection)
    this.#heartbeat.remove(connection)
    const connections = this.#byUser.get(userId)
    connections?.delete(connection)
    if (connections?.size === 0) this.#byUser.delete(userId)
    this.#log.info({ connectionId, userId, code, delivered: connection.delivered }, 'connection closed')
  }
}
