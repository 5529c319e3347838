import type { AgentEvent, ClientFrame, ErrorFrame, SubscribedFrame, SubscribeFrame, UnsubscribedFrame } from '../schemas/index.js'
import { AgentEventsError, clientError } from './client-error.js'

/** What a subscription needs of its client. */
export interface SubscriptionLink {
  /** Something if frames can be sent. */
  readonly connected: object | undefined
  readonly ackMs: number
  backoffMs (attempt: number): number
  ref (): string
  /** Sends now or not at all. */
  send (frame: ClientFrame): void
  /** A subscription was answered: the connection works. */
  works (): void
}

/** What a subscription needs of its thread. */
export interface Subscriber {
  readonly id: string
  /** Up to where everything is processed; a subscription starts here. */
  readonly cursor: string | undefined
  /** The last event that listeners got. */
  readonly handed: { readonly id: string, readonly seq: number }
  /** Somebody wants events. */
  readonly isWanted: boolean
  /** A subscription begins at the cursor: what is queued but not handed out comes again. */
  rewind (): void
  /** The place in the log is another one than before: the first one, or all that was built is void. */
  place (cursor: string, isComplete: boolean, isReset: boolean): void
  /** The next event. */
  receive (event: AgentEvent): void
  /** Something that the status depends on may have changed. */
  update (): void
  raise (error: AgentEventsError): void
  fail (error: AgentEventsError): void
}

/** Refusals that say nothing about the thread: worth another try. */
const passing = new Set(['FAE_ERR_STORE_UNAVAILABLE', 'FAE_ERR_INTERNAL'])

/** Keeps a thread subscribed: asks, is refused, asks again, checks that nothing is missing or comes twice, acknowledges. */
export class Subscription {
  /** seq up to which the subscription is a replay. */
  head = Infinity
  readonly #thread: Subscriber
  readonly #link: SubscriptionLink
  /** Of the subscribe that is not answered yet. */
  #ref: string | undefined
  #isActive = false
  /** seq of the last event that was taken. */
  #received = NaN
  #acked: string | undefined
  #ackTimer: ReturnType<typeof setTimeout> | undefined
  /** Attempts to subscribe without an event that fits since. */
  #attempts = 0
  #retryTimer: ReturnType<typeof setTimeout> | undefined

  constructor (thread: Subscriber, link: SubscriptionLink) {
    this.#thread = thread
    this.#link = link
  }

  /** From the cursor, which the server takes as processed. */
  begin (from?: string): void {
    clearTimeout(this.#retryTimer)
    if (!this.#thread.isWanted || !this.#link.connected) return
    this.#thread.rewind()
    const cursor = from ?? this.#thread.cursor
    this.#received = seqOf(cursor)
    this.#acked = cursor
    this.#ref = this.#link.ref()
    // as JSON an undefined cursor is none
    this.#link.send({ type: 'subscribe', ref: this.#ref, threadId: this.#thread.id, cursor } as SubscribeFrame)
    this.#thread.update()
  }

  end (): void {
    this.flush()
    if (this.#isActive || this.#ref !== undefined) this.#link.send({ type: 'unsubscribe', ref: this.#link.ref(), threadId: this.#thread.id })
    this.lose()
  }

  /** The server does not know of it any more. */
  lose (): void {
    this.#ref = undefined
    this.#isActive = false
    this.head = Infinity
    clearTimeout(this.#retryTimer)
    clearTimeout(this.#ackTimer)
    this.#ackTimer = undefined
  }

  receive (frame: SubscribedFrame | UnsubscribedFrame | AgentEvent): void {
    if (frame.type === 'subscribed') return this.#onSubscribed(frame)
    if (frame.type === 'unsubscribed') return this.#onUnsubscribed(frame)
    this.#onEvent(frame)
  }

  /** @returns false if the error is not about this thread */
  refuse ({ ref, code, message, threadId }: ErrorFrame): boolean {
    const { id } = this.#thread
    const refused = ref !== undefined && ref === this.#ref
    if (!refused && threadId !== id) return false
    if (code === 'FAE_ERR_NOT_SUBSCRIBED') {
      if (this.#isActive) this.#retry()
      return true
    }
    const error = new AgentEventsError(code, message, { threadId: id })
    if (refused && !passing.has(code)) {
      this.#thread.fail(error)
    } else {
      this.#thread.raise(error)
      if (refused) this.#retry()
    }
    return true
  }

  /** Soon, for many events at once. */
  acknowledge (): void {
    if (this.#isActive && this.#thread.cursor !== this.#acked) this.#ackTimer ??= setTimeout(() => { this.flush() }, this.#link.ackMs)
  }

  /** Acknowledges now what is processed. */
  flush (): void {
    const { id, cursor } = this.#thread
    clearTimeout(this.#ackTimer)
    this.#ackTimer = undefined
    if (!this.#isActive || cursor === undefined || cursor === this.#acked) return
    this.#acked = cursor
    this.#link.send({ type: 'ack', threadId: id, cursor })
  }

  #onSubscribed ({ ref, cursor, head, recovered }: SubscribedFrame): void {
    // answers what was asked last, or comes unasked to a subscription
    if (ref !== this.#ref || (ref === undefined && !this.#isActive)) return
    this.#ref = undefined
    this.#isActive = true
    this.head = head
    this.#link.works()
    const previous = this.#acked
    if (!recovered || previous === undefined) {
      this.#received = seqOf(cursor)
      this.#acked = cursor
      this.#thread.place(cursor, this.#received === 0, previous !== undefined)
    }
    this.acknowledge()
    this.#thread.update()
  }

  #onUnsubscribed ({ ref, reason }: UnsubscribedFrame): void {
    // the answer to our own
    if (ref !== undefined || !this.#thread.isWanted) return
    this.lose()
    if (reason === 'error') this.#retry()
    else this.#thread.fail(clientError('FAE_ERR_THREAD_NOT_FOUND', `The server ended the subscription: ${reason}`, { threadId: this.#thread.id }))
  }

  #onEvent (event: AgentEvent): void {
    const { seq, id } = event
    const { handed } = this.#thread
    if (!this.#isActive || seq <= this.#received) return
    if (seq > this.#received + 1) {
      if (this.#attempts > 0) this.#thread.raise(clientError('FAE_ERR_CLIENT_HOLE', `Events are missing between ${this.#received} and ${seq}`, { threadId: this.#thread.id }))
      this.end()
      return this.#retry()
    }
    // handed out before the reconnect, and settled only since; another one in its place means that the log lost ours
    if (seq <= handed.seq && id !== handed.id) {
      this.end()
      return this.begin(handed.id)
    }
    this.#received = seq
    if (seq <= handed.seq) return
    this.#attempts = 0
    this.#thread.receive(event)
  }

  /** The first time at once, then with growing delays. */
  #retry (): void {
    this.lose()
    const attempt = this.#attempts++
    if (attempt === 0) this.begin()
    else if (this.#thread.isWanted) this.#retryTimer = setTimeout(() => { this.begin() }, this.#link.backoffMs(attempt))
  }
}

/** The number at the end of a cursor; NaN, which is neither more nor less than anything, if there is none. */
export function seqOf (cursor: string | undefined): number {
  return Number(cursor?.split('-').at(-1))
}
