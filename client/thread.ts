import type { AcceptedFrame, AgentEvent as StoredEvent, CancelFrame, EventType, MessageContent, SendFrame } from '../schemas/index.js'
import { type AgentEventsError, clientError } from './client-error.js'
import type { Cursors } from './cursors.js'
import { EventIterator } from './event-iterator.js'
import { Listeners } from './listeners.js'
import { Runs } from './runs.js'
import { Subscription, seqOf, type Subscriber, type SubscriptionLink } from './subscription.js'
import type { AgentEvent, ClientStatus, EventMap, EventOf, RunHandle, SendOptions, Thread, ThreadStatus } from './types.js'

/** Of a send: its run, and where it ended if it had done so before. */
export type Answer = Pick<AcceptedFrame, 'runId' | 'ended'>

/** What a thread needs of its client. */
export interface Link extends SubscriptionLink {
  readonly status: ClientStatus
  readonly error: AgentEventsError | undefined
  readonly maxQueuedEvents: number
  readonly cursors: Cursors
  /** Connects if there is no connection and none on its way. */
  wake (): void
  /** Sends now and again after every reconnect, until it is answered or dropped. */
  request (frame: SendFrame | CancelFrame): Promise<Answer>
  drop (ref: string): void
  forget (id: string): void
  raise (error: AgentEventsError): void
  report (error: unknown, event?: StoredEvent): void
}

type Queued = StoredEvent | { readonly type: 'reset' }

/** A cursor on one log: queues what its subscription receives, and hands it out in order. */
export class AgentThread<T> implements Thread<T>, Subscriber {
  readonly id: string
  complete = true
  cursor: string | undefined
  handed = { id: '', seq: 0 }
  isWanted = false
  readonly subscription: Subscription
  readonly #link: Link
  readonly #listeners: Listeners<[StoredEvent]>
  readonly #resets: Listeners<[]>
  readonly #errors: Listeners<[AgentEventsError]>
  readonly #statuses: Listeners<[ThreadStatus]>
  readonly #iterators = new Set<EventIterator<AgentEvent<T>>>()
  readonly #runs = new Runs()
  #status: ThreadStatus = 'idle'
  #queue: Queued[] = []
  #pumping = false
  /** Counts resets: what was begun before one no longer moves the cursor. */
  #generation = 0
  #closed = false
  #failed = false
  /** Everything retained is still to be handed out. */
  #isFresh: boolean
  /** The queue is full: subscribed again once it is empty. */
  #paused = false
  #sending = 0

  constructor (id: string, link: Link) {
    this.id = id
    this.#link = link
    this.cursor = link.cursors.get(id)
    this.#isFresh = this.cursor === undefined
    this.subscription = new Subscription(this, link)
    this.#listeners = new Listeners((error, event) => { link.report(error, event) })
    const report = (error: unknown) => { link.report(error) }
    this.#resets = new Listeners<[]>(report)
    this.#errors = new Listeners<[AgentEventsError]>(report)
    this.#statuses = new Listeners<[ThreadStatus]>(report)
  }

  get status (): ThreadStatus {
    const { status } = this.#link
    if (this.#closed || this.#failed || status === 'closed') return 'closed'
    if (!this.isWanted) return 'idle'
    if (status === 'idle') return 'connecting'
    return status === 'connecting' || status === 'offline' || seqOf(this.cursor) >= this.subscription.head ? status : 'replaying'
  }

  on<Type extends EventType> (type: Type, listener: (event: EventMap<T>[Type]) => unknown): () => void {
    return this.onAny((event) => event.type === type ? listener(event as EventMap<T>[Type]) : undefined)
  }

  onAny (listener: (event: AgentEvent<T>) => unknown): () => void {
    const off = this.#listeners.add(listener as (event: StoredEvent) => unknown)
    this.#want()
    // later, so that listeners that are added together get the same events
    queueMicrotask(() => { this.#pump() })
    return () => {
      off()
      this.#resume()
    }
  }

  onReset (listener: () => unknown): () => void { return this.#resets.add(listener) }
  onError (listener: (error: AgentEventsError) => unknown): () => void { return this.#errors.add(listener) }
  onStatus (listener: (status: ThreadStatus) => unknown): () => void { return this.#statuses.add(listener) }

  [Symbol.asyncIterator] (): AsyncIterator<AgentEvent<T>> {
    return new EventIterator((iterator) => {
      if (this.#closed || this.#link.status === 'closed') {
        iterator.end(this.#link.error)
        return () => {}
      }
      this.#iterators.add(iterator)
      const off = this.onAny((event) => iterator.hand(event))
      return () => {
        this.#iterators.delete(iterator)
        off()
      }
    })
  }

  async send (content: MessageContent | undefined, { agent, input, clientMessageId = newId() }: SendOptions<string, unknown> = {}): Promise<RunHandle<never, EventOf<'agent_completed', T>>> {
    if (this.#closed) throw this.#closedError()
    this.#want()
    this.#sending++
    try {
      const frame = { type: 'send', ref: this.#link.ref(), threadId: this.id, content, agent, input, clientMessageId }
      const { runId, ended } = await this.#link.request(frame as SendFrame)
      const handle = this.#runs.handle<never, EventOf<'agent_completed', T>>(runId, () => this.cancel(runId))
      // sent by an earlier page: its end lies behind, and what is not remembered does not come again (undefined is not less)
      if (ended! <= this.cursor!) this.#runs.forget(runId)?.reject(clientError('FAE_ERR_RUN_ENDED', 'The run has ended: see replay()', { threadId: this.id }))
      return handle
    } finally {
      this.#sending--
    }
  }

  async cancel (runId: string): Promise<void> {
    if (this.#closed) throw this.#closedError()
    this.#want()
    const ref = this.#link.ref()
    const isAwaited = this.#runs.has(runId)
    try {
      await Promise.race([this.#link.request({ type: 'cancel', ref, runId }), this.#runs.completed(runId)])
    } catch (error) {
      if (!isAwaited) this.#runs.forget(runId)
      if ((error as AgentEventsError).code !== 'FAE_ERR_RUN_ENDED') throw error
    } finally {
      this.#link.drop(ref)
    }
  }

  replay (): void {
    if (this.#isFresh || this.#closed) return
    this.subscription.end()
    this.place(undefined, true, true)
    this.subscription.begin()
    this.update()
  }

  release (): boolean {
    if (this.#listeners.size === 0 && this.#sending === 0 && this.#runs.size === 0) this.close()
    return this.#closed
  }

  close (): void {
    if (this.#closed) return
    this.subscription.end()
    this.#closed = true
    this.#end()
    this.#runs.fail(this.#closedError())
    this.update()
    for (const listeners of [this.#listeners, this.#resets, this.#errors, this.#statuses]) listeners.clear()
    this.#link.cursors.flush()
    this.#link.forget(this.id)
  }

  // ---------- called by the client ----------

  update (): void {
    const { status } = this
    if (status === this.#status) return
    this.#status = status
    this.#statuses.call(status)
  }

  /** There will be no more events, until somebody asks for some again. */
  fail (error: AgentEventsError, isHeard = false): void {
    const heard = isHeard || this.#sending > 0 || this.#iterators.size > 0 || this.#runs.size > 0
    this.#failed = true
    if (error.code === 'FAE_ERR_THREAD_NOT_FOUND') this.#link.cursors.keep(this.id, undefined)
    this.#end(error)
    this.#runs.fail(error)
    this.raise(error, heard)
    this.update()
  }

  raise (error: AgentEventsError, isHeard = false): void {
    if (this.#errors.size) this.#errors.call(error)
    else if (!isHeard) this.#link.raise(error)
  }

  // ---------- called by the subscription ----------

  rewind (): void {
    this.#queue = this.#queue.filter((queued) => queued.type === 'reset')
    this.#paused = false
  }

  place (cursor: string | undefined, isComplete: boolean, isReset: boolean): void {
    this.complete = isComplete
    this.handed = { id: '', seq: 0 }
    this.#moveTo(cursor)
    this.#isFresh = true
    if (!isReset) return
    this.#generation++
    this.#queue = [{ type: 'reset' }]
    this.#pump()
  }

  receive (event: StoredEvent): void {
    if (event.type === 'agent_completed') this.#runs.complete(event)
    this.#queue.push(event)
    this.#pump()
    if (this.#queue.length > this.#link.maxQueuedEvents) this.#overflow()
  }

  // ---------- handing out ----------

  #want (): void {
    if (this.isWanted || this.#closed) return
    this.isWanted = true
    this.#failed = false
    this.#link.wake()
    this.subscription.begin()
    this.update()
  }

  #overflow (): void {
    if (this.#listeners.size) {
      this.subscription.end()
      this.#paused = true
    } else {
      // nobody wants them: of what waits for a listener, the newest stay
      this.#isFresh = false
      const oldest = this.#queue.shift()!
      if (!this.#pumping) this.#settle(oldest)
    }
  }

  /** Also when nobody listens any more: somebody may wait for a run to end. */
  #resume (): void {
    if (this.#paused && (this.#queue.length === 0 || this.#listeners.size === 0)) this.subscription.begin()
  }

  #end (error?: AgentEventsError): void {
    this.subscription.lose()
    this.isWanted = false
    this.#generation++
    this.#queue = []
    for (const iterator of [...this.#iterators]) iterator.end(error)
  }

  async #pump (): Promise<void> {
    if (this.#pumping) return
    this.#pumping = true
    let queued: Queued | undefined
    while ((queued = this.#queue[0]) && (this.#listeners.size || queued.type === 'reset')) {
      this.#queue.shift()
      const generation = this.#generation
      let pending: Promise<unknown> | undefined
      if (queued.type === 'reset') {
        pending = this.#resets.call()
      } else {
        this.#isFresh = false
        this.handed = queued
        pending = this.#listeners.call(queued)
      }
      // only if there is something to wait for: an event without slow listeners is handed out in the turn it arrives
      if (pending) await pending
      if (generation === this.#generation) this.#settle(queued)
    }
    this.#pumping = false
    this.#resume()
  }

  #moveTo (cursor: string | undefined): void {
    this.cursor = cursor
    this.#link.cursors.keep(this.id, cursor)
  }

  #settle (queued: Queued): void {
    // a reset has its place already, and events may have a newer one by now
    if (queued.type !== 'reset') this.#moveTo(queued.id)
    this.subscription.acknowledge()
    this.update()
  }

  #closedError (): AgentEventsError {
    return this.#link.error ?? clientError('FAE_ERR_CLIENT_CLOSED', 'The thread is closed', { threadId: this.id })
  }
}

/** Not randomUUID, which a page has only in a secure context. */
function newId (): string {
  return globalThis.crypto.getRandomValues(new Uint32Array(4)).join('-')
}
