import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { FAE_ERR_CURSOR_GONE, FAE_ERR_CURSOR_INVALID, FAE_ERR_EVENT_TYPE, FAE_ERR_THREAD_NOT_FOUND } from '../../errors.js'
import { formatCursor, parseCursor, type AgentEvent, type EventData, type EventPosition, type Position } from '../../schemas/index.js'
import { FAE_DEP001 } from '../../warnings.js'
import type { Appended, AppendOptions, RunStart, ThreadState } from '../store/index.js'
import type { ThreadRegistry } from '../thread-registry/thread-registry.js'
import { EventEncoder, encodeScope, type Scope } from './encode.js'
import { isInPlace } from './feed.js'
import { Hub, type HubOptions } from './hub.js'
import { Lane, type LaneLimits } from './lane.js'
import { RunWriter } from './run-writer.js'
import { Stats, typeOf, type Timing } from './stats.js'
import { Subscription } from './subscription.js'

/** What may be sent from outside a run. messageId is made when absent. */
export type SendableEvent =
  | { type: 'user_message', data: Omit<EventData<'user_message'>, 'messageId'> & { messageId?: string } }
  | { type: 'assistant_message', data: Omit<EventData<'assistant_message'>, 'messageId' | 'partId' | 'phase'> & Partial<Pick<EventData<'assistant_message'>, 'messageId' | 'partId' | 'phase'>> }
  | { type: 'custom', data: EventData<'custom'> }

const SENDABLE: readonly string[] = ['user_message', 'assistant_message', 'custom']
/** Within which all others are told of a lost right, or whoever says so hears that they are not. */
const TELL_MS = 5_000

export interface SendOptions {
  /** Makes the call idempotent: the same key twice in a thread is one event, for as long as that event is retained. */
  key?: string
}

export interface HistoryOptions {
  /** Cursor of the last event you have. @default from the first retained event */
  after?: string
  /** @default 100, at most 1,000 */
  limit?: number
}

interface AckWaiter { readonly position: Position, readonly userId: string, readonly settle: (confirmed: boolean) => void }

/** Say it, remember it, get it to the user. Every event of the app is stored through here before anybody sees it. */
export class WebSocketNotifier {
  readonly hub: Hub
  readonly encoder: EventEncoder
  readonly stats = new Stats()
  readonly #threads: ThreadRegistry
  readonly #laneLimits: LaneLimits
  readonly #log: FastifyBaseLogger
  readonly #waiters = new Map<string, Set<AckWaiter>>()
  /** Word of a lost right may not have come through. */
  #mustRecheck = false
  #isRechecking = false

  constructor (threads: ThreadRegistry, encoder: EventEncoder, hub: HubOptions, laneLimits: LaneLimits, log: FastifyBaseLogger) {
    this.#threads = threads
    this.encoder = encoder
    this.#laneLimits = laneLimits
    this.#log = log
    this.hub = new Hub(threads, hub, log, this.stats, (threadId, subscription) => { this.#onAck(threadId, subscription) })
    threads.onAvailability(({ available, isImpaired, reason }) => {
      this.hub.setMode(available && isImpaired !== true ? 'realtime' : 'degraded', reason)
      if (available) this.#recheckMissed()
    })
    threads.answer('watched', async ({ threadId }) => this.hub.feeds.isWatched(threadId) || undefined)
    threads.answer('recheck', ({ userId }) => this.hub.recheck(userId))
    threads.answer('missed', async () => {
      this.#mustRecheck = true
      this.#recheckMissed()
    })
    threads.answer('confirmed', async ({ threadId, cursor, timeoutMs }) => {
      const state = await this.#threads.find(threadId)
      return state !== undefined && await this.#confirmedHere(state, parseCursor(cursor)!, timeoutMs) ? true : undefined
    })
  }

  /** Emits that came after the end of their run, and were refused. */
  get refused (): number { return this.stats.refused }

  /**
   * Stores an event in a thread and shows it to whoever watches. Nobody watching is not an error: the event waits.
   * @throws FAE_ERR_THREAD_NOT_FOUND, FAE_ERR_EVENT_TYPE, FAE_ERR_EVENT_INVALID, FAE_ERR_EVENT_TOO_LARGE
   */
  async sendToThread (threadId: string, event: SendableEvent, { key }: SendOptions = {}): Promise<EventPosition> {
    if (await this.#threads.find(threadId) === undefined) throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
    const appended = await this.#append({ threadId }, event, key === undefined ? {} : { key: `k:${key}` })
    return { id: formatCursor(appended.first.epoch, appended.first.seq), seq: appended.first.seq }
  }

  /** The same for the user's inbox thread. @throws FAE_ERR_USER_ID_INVALID and as sendToThread */
  async sendToUser (userId: string, event: SendableEvent, options: SendOptions = {}): Promise<EventPosition> {
    const { record: { threadId } } = await this.#threads.inbox(userId)
    return this.sendToThread(threadId, event, options)
  }

  /** @deprecated Use sendToThread. */
  async sendMessage (threadId: string, event: SendableEvent, options: SendOptions = {}): Promise<EventPosition> {
    FAE_DEP001()
    return this.sendToThread(threadId, event, options)
  }

  /** Stores a user's message together with the run that will answer it, in one step; the same clientMessageId is one message. */
  async sendMessageWithRun (threadId: string, data: EventData<'user_message'>, start: RunStart): Promise<Appended> {
    const { clientMessageId } = data
    // Of this user: whoever else may write here has ids of their own. The length, because user ids may hold any character.
    const { userId } = start.info
    const key = clientMessageId === undefined ? {} : { key: `c:${userId.length}:${userId}:${clientMessageId}` }
    return this.#append({ threadId, runId: start.runId }, { type: 'user_message', data }, { start, ...key })
  }

  /** Creates a run with its agent_started as its first event. */
  async startRun (scope: Scope, data: EventData<'agent_started'>, start: RunStart): Promise<Appended> {
    const body = this.encoder.encode(encodeScope(scope), 'agent_started', data)
    const appended = await this.append(scope.threadId, [body], { start })
    this.#routed('agent_started', scope, appended.first.seq)
    return appended
  }

  /** The voice of a run whose record exists. @param onFailed the run can no longer write */
  openRun (run: Scope & { runId: string, fence: number, n: number, agent: string, events: number }, onFailed: (error: Error) => void): RunWriter {
    const lane = new Lane(this, run, this.#laneLimits, onFailed, (bodies, firstSeq) => {
      if (!this.#isLogged()) return
      for (const [i, body] of bodies.entries()) this.#routed(typeOf(body), run, firstSeq + i)
    })
    return new RunWriter(this.encoder, lane, encodeScope(run), run.events, (error) => {
      if (error.code === 'FAE_ERR_RUN_ENDED') this.stats.refused++
      this.#log.debug({ err: error, threadId: run.threadId, runId: run.runId }, 'refused to the agent')
    })
  }

  /**
   * Resolves with true as soon as one connection of the thread's user has processed everything up to the cursor, with
   * false after timeoutMs.
   * @throws FAE_ERR_CURSOR_INVALID, FAE_ERR_THREAD_NOT_FOUND
   */
  async confirmed (threadId: string, cursor: string, { timeoutMs = 5_000 }: { timeoutMs?: number } = {}): Promise<boolean> {
    const position = parseCursor(cursor)
    if (position === undefined) throw new FAE_ERR_CURSOR_INVALID()
    const state = await this.#threads.find(threadId)
    if (state === undefined) throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
    const elsewhere = this.#threads.store.ask({ type: 'confirmed', threadId, cursor, timeoutMs }, { timeoutMs, answers: 'first' })
    return Promise.race([
      this.#confirmedHere(state, position, timeoutMs),
      // Acks stay with the connection's process; silence elsewhere says nothing.
      elsewhere.then((answers) => answers.includes(true) ? true : new Promise<never>(() => {}))
    ])
  }

  async #confirmedHere ({ record: { threadId, userId } }: ThreadState, position: Position, timeoutMs: number): Promise<boolean> {
    for (const connection of this.hub.connectionsOf(userId)) {
      const subscription = connection.subscriptions.get(threadId)
      if (subscription !== undefined && hasProcessed(subscription, position)) return true
    }
    return new Promise((resolve) => {
      const waiters = this.#waiters.get(threadId) ?? new Set()
      this.#waiters.set(threadId, waiters)
      const settle = (confirmed: boolean): void => {
        clearTimeout(timer)
        waiters.delete(waiter)
        if (waiters.size === 0) this.#waiters.delete(threadId)
        resolve(confirmed)
      }
      const timer = setTimeout(settle, timeoutMs, false)
      const waiter = { position, userId, settle }
      waiters.add(waiter)
    })
  }

  /**
   * To be called when a user lost a right that `authorize` decides: subscriptions and streams under way are asked about
   * again, on every node, and cut with `unsubscribed { reason: 'revoked' }`. A node that cannot be reached asks about
   * everybody once it can hear again.
   * @throws FAE_ERR_STORE_UNAVAILABLE when the other nodes could not be told: then only this one has asked, and it is to be called again
   */
  async recheck (userId: string): Promise<void> {
    const [here, told] = await Promise.allSettled([this.hub.recheck(userId), this.#threads.store.ask({ type: 'recheck', userId }, { timeoutMs: TELL_MS, answers: 'none' })])
    for (const result of [here, told]) if (result.status === 'rejected') throw result.reason
  }

  #recheckMissed (): void {
    if (!this.#mustRecheck || this.#isRechecking || !this.#threads.store.availability.available) return
    this.#mustRecheck = false
    this.#isRechecking = true
    this.hub.recheckAll().then(() => {
      this.#isRechecking = false
      this.#recheckMissed()
    }, () => {
      // The store went away again: when it is back.
      this.#isRechecking = false
      this.#mustRecheck = true
    })
  }

  /** Stored events after a cursor, oldest first. @throws FAE_ERR_CURSOR_INVALID, FAE_ERR_CURSOR_GONE, FAE_ERR_THREAD_NOT_FOUND */
  async history (threadId: string, { after, limit = 100 }: HistoryOptions = {}): Promise<AgentEvent[]> {
    const position = after === undefined ? undefined : parseCursor(after)
    if (after !== undefined && position === undefined) throw new FAE_ERR_CURSOR_INVALID()
    const page = await this.#threads.store.read(threadId, position?.seq ?? 0, limit)
    if (position !== undefined && !isInPlace(page, position)) throw new FAE_ERR_CURSOR_GONE()
    return page.entries.map(({ json }) => JSON.parse(json) as AgentEvent)
  }

  /** Ends what waits here; sockets are closed by the hub. */
  close (): void {
    for (const waiters of [...this.#waiters.values()]) for (const { settle } of [...waiters]) settle(false)
  }

  /** Every append of this app is made here. @throws what the store's append throws */
  append (threadId: string, bodies: readonly string[], options: AppendOptions): Promise<Appended> {
    const { timing } = this.stats
    return timing === undefined ? this.#threads.store.append(threadId, bodies, options) : this.#measured(timing, threadId, bodies, options)
  }

  async #measured (timing: Timing, threadId: string, bodies: readonly string[], options: AppendOptions): Promise<Appended> {
    const begunAt = this.stats.begin()
    const appended = await this.#threads.store.append(threadId, bodies, options)
    if (appended.repeated !== true) for (const body of bodies) this.stats.events[typeOf(body)]++
    if (begunAt > 0) {
      timing.append((performance.now() - begunAt) / 1_000)
      this.hub.feeds.get(threadId)?.time(appended.first.seq, begunAt, timing)
    }
    return appended
  }

  async #append (scope: Scope, event: SendableEvent, options: AppendOptions): Promise<Appended> {
    if (!SENDABLE.includes(event?.type)) throw new FAE_ERR_EVENT_TYPE(String(event?.type), SENDABLE.join(', '))
    const body = this.encoder.encode(encodeScope(scope), event.type, complete(event))
    const appended = await this.append(scope.threadId, [body], options)
    this.#routed(event.type, scope, appended.first.seq, appended.repeated)
    return appended
  }

  /** Whether the lines about single events are wanted: nothing is built for them otherwise. */
  #isLogged (): boolean {
    return (this.#log as { isLevelEnabled?: (level: string) => boolean }).isLevelEnabled?.('debug') === true
  }

  /** From whom, to whom, what, and what becomes of it. */
  #routed (type: string, { threadId, runId, agentId }: Scope, seq: number, repeated?: true): void {
    if (!this.#isLogged()) return
    const readers = [...this.hub.feeds.get(threadId)?.readers ?? []]
    const delivery = repeated === true ? 'repeated' : readers.length > 0 ? 'live' : 'waiting'
    const reason = repeated === true ? 'its key was stored before' : readers.length > 0 ? 'read as it comes' : 'nobody reads here: it is kept'
    const to = readers.map((reader) => reader instanceof Subscription ? reader.connection.id : 'http')
    this.#log.debug({ type, threadId, runId, seq, from: agentId ?? 'outside', to, delivery, reason }, 'message routed')
  }

  #onAck (threadId: string, subscription: Subscription): void {
    const waiters = this.#waiters.get(threadId)
    if (waiters === undefined) return
    for (const { position, userId, settle } of [...waiters]) {
      if (subscription.connection.user.userId === userId && hasProcessed(subscription, position)) settle(true)
    }
  }
}

function hasProcessed ({ acked, skipped, feed: { epochs } }: Subscription, { epoch, seq }: Position): boolean {
  return acked >= seq && (skipped === 0 || seq > skipped) && epochs.some((known) => known.epoch === epoch)
}

function complete (event: SendableEvent): EventData<'user_message' | 'assistant_message' | 'custom'> {
  switch (event.type) {
    case 'user_message': return { messageId: `msg_${randomUUID()}`, ...event.data }
    case 'assistant_message': return { messageId: `msg_${randomUUID()}`, partId: `part_${randomUUID()}`, phase: 'full', ...event.data }
    case 'custom': return event.data
  }
}
