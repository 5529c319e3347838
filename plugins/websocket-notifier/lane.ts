import { FAE_ERR_RUN_ENDED, FAE_ERR_RUN_OVERFLOW } from '../../errors.js'
import { formatCursor, type EventPosition, type RunStatus } from '../../schemas/index.js'
import type { Appended, AppendOptions, RunStep } from '../store/index.js'

/** An event on its way into the log, with what it does to its run's record. */
export interface LaneItem {
  readonly body: string
  /** Called when the lane has taken it. */
  taken?(): void
  readonly opens?: readonly [id: string, item: string]
  readonly closes?: string
  readonly starts?: true
  /** In the same step this process becomes the run's owner. */
  readonly takesOver?: true
  readonly ends?: RunStatus
}

/** What an append resolves with. */
export type AnswerOf<Answer> = (epoch: string, seq: number) => Answer

/** An item that is taken, and who waits until it is stored. */
interface Waiting {
  readonly item: LaneItem
  readonly answer?: AnswerOf<unknown>
  readonly resolve?: (answer: unknown) => void
  promise?: Promise<unknown>
}

export interface LaneLimits {
  /** @default 1_000 */
  readonly maxEvents: number
  /** In UTF-16 units. @default 1 MiB */
  readonly maxBytes: number
}

/** Where the events go. */
interface Log { append (threadId: string, bodies: readonly string[], options: AppendOptions): Promise<Appended> }

/** One append takes along at most this much, so that no store gets a call without bound. */
const CALL_EVENTS = 500
const CALL_CHARS = 512 * 1024
const RETRY_MS = [50, 100, 250, 500, 1_000]

/**
 * One run's queue of appends, in call order whether awaited or not: one append is in flight, the next takes along all
 * that gathered meanwhile. A lost reply is answered by the same call again, which the store recognises by its n.
 */
export class Lane {
  readonly threadId: string
  readonly runId: string
  readonly #log: Log
  readonly #agent: string
  #limits: LaneLimits
  readonly #fence: number
  /** The run can no longer write: taken over, ended elsewhere, or its lane ran over. */
  readonly #onFailed: (error: Error) => void
  readonly #onStored: ((bodies: readonly string[], firstSeq: number) => void) | undefined
  #n: number
  readonly #queue: Waiting[] = []
  #chars = 0
  #taken = 0
  #isScheduled = false
  #inFlight = false
  #failure: Error | undefined
  #ended = false
  #roomWaiters: Array<() => void> = []
  #emptyWaiters: Array<(failed?: Promise<never>) => void> = []
  #retry: NodeJS.Timeout | undefined
  #onEnd: ((appended: Appended | Promise<never>) => void) | undefined

  constructor (log: Log, run: { threadId: string, runId: string, fence: number, n: number, agent: string }, limits: LaneLimits, onFailed: (error: Error) => void, onStored?: (bodies: readonly string[], firstSeq: number) => void) {
    this.#log = log
    this.threadId = run.threadId
    this.runId = run.runId
    this.#agent = run.agent
    this.#fence = run.fence
    this.#n = run.n
    this.#limits = limits
    this.#onFailed = onFailed
    this.#onStored = onStored
  }

  /** How many items it has taken so far. */
  get taken (): number { return this.#taken }

  /**
   * Resolves with the event's position, or with what `answer` makes of it, once it is stored. Nobody needs to wait: the run
   * learns of a failure through onFailed.
   */
  append<Answer = EventPosition> (item: LaneItem, answer: AnswerOf<unknown> = positionOf): Promise<Answer> {
    const refusal = this.#refusal(item)
    if (refusal !== undefined) return rejected(refusal)
    let waiting!: Waiting
    const promise = new Promise<Answer>((resolve) => { waiting = { item, answer, resolve: resolve as (answer: unknown) => void } })
    waiting.promise = promise
    this.#enqueue(waiting)
    return promise
  }

  /** For pieces of text. @returns undefined while there is room for more, else what to wait for */
  take (item: LaneItem): Promise<void> | undefined {
    const refusal = this.#refusal(item)
    if (refusal !== undefined) throw refusal
    this.#enqueue({ item })
    return this.#isHalfFull() ? new Promise((resolve) => { this.#roomWaiters.push(resolve) }) : undefined
  }

  /** Takes the last events of the run, which always have room, and refuses everything after them. */
  finish (items: readonly LaneItem[]): Promise<Appended> {
    if (this.#failure !== undefined) return rejected(this.#failure)
    this.#ended = true
    return new Promise((resolve) => {
      const last = items.length - 1
      for (let i = 0; i < last; i++) this.#enqueue({ item: items[i]! })
      this.#onEnd = resolve
      this.#enqueue({ item: items[last]! })
    })
  }

  /** Whatever comes is taken, until finish(). */
  liftLimits (): void { this.#limits = { maxEvents: Infinity, maxBytes: Infinity } }

  /** Resolves once nothing waits and nothing is in flight; rejects with why the lane has failed. */
  whenEmpty (): Promise<void> {
    if (this.#failure !== undefined) return rejected(this.#failure)
    return this.#queue.length === 0 && !this.#inFlight ? Promise.resolve() : new Promise((resolve) => { this.#emptyWaiters.push(resolve) })
  }

  /** @returns why the item is not taken */
  #refusal (item: LaneItem): Error | undefined {
    const refusal = this.#failure ?? (this.#ended ? new FAE_ERR_RUN_ENDED(this.runId) : undefined)
    if (refusal !== undefined) return refusal
    // What closes an open item always has room: there are no more of them than opens, and those were counted.
    // So has one event alone, of whatever size: maxEventBytes bounds it.
    if (item.closes === undefined && this.#queue.length > 0 && (this.#queue.length >= this.#limits.maxEvents || this.#chars + item.body.length > this.#limits.maxBytes)) {
      const overflow = new FAE_ERR_RUN_OVERFLOW(this.#agent, this.#queue.length, this.#chars)
      this.#onFailed(overflow)
      return overflow
    }
    return undefined
  }

  #enqueue (waiting: Waiting): void {
    const { item } = waiting
    this.#taken++
    item.taken?.()
    this.#queue.push(waiting)
    this.#chars += item.body.length
    if (this.#inFlight || this.#isScheduled) return
    this.#isScheduled = true
    // What is said in one go is one append, also with an await between that waits for nothing outside.
    process.nextTick(this.#flush)
  }

  #isHalfFull (): boolean {
    return this.#queue.length * 2 >= this.#limits.maxEvents || this.#chars * 2 >= this.#limits.maxBytes
  }

  readonly #flush = (): void => {
    this.#isScheduled = false
    if (this.#inFlight || this.#queue.length === 0 || this.#failure !== undefined) return
    const call = this.#nextCall()
    const step: MutableStep = { runId: this.runId, fence: this.#fence, n: this.#n + 1 }
    const bodies: string[] = []
    let changes: LaneItem[] | undefined
    for (const { item } of call) {
      bodies.push(item.body)
      if (item.opens !== undefined || item.closes !== undefined) (changes ??= []).push(item)
      if (item.starts !== undefined) step.starts = item.starts
      if (item.takesOver !== undefined) step.takesOver = item.takesOver
      if (item.ends !== undefined) step.ends = item.ends
    }
    if (changes !== undefined) enter(changes, step)
    this.#inFlight = true
    this.#send(call, bodies, step, 0)
  }

  #nextCall (): Waiting[] {
    let chars = 0
    let count = 0
    while (count < this.#queue.length && count < CALL_EVENTS && chars < CALL_CHARS) chars += this.#queue[count++]!.item.body.length
    this.#chars -= chars
    // The queue stays the same array: V8 puts those that it sees grow old into the old space at once, where even a dead one
    // keeps what it holds alive until the next major collection.
    return this.#queue.splice(0, count)
  }

  #send (call: readonly Waiting[], bodies: readonly string[], step: RunStep, attempt: number): void {
    this.#log.append(this.threadId, bodies, { run: step }).then(
      (appended) => { this.#stored(call, bodies, appended) },
      (error: Error & { code?: string }) => {
        if (error.code !== 'FAE_ERR_STORE_UNAVAILABLE') {
          this.#fail(call, error)
          return
        }
        // Later events must not overtake these: the same call is made until the store answers.
        this.#retry = setTimeout(() => { this.#send(call, bodies, step, attempt + 1) }, RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)])
      }
    )
  }

  #stored (call: readonly Waiting[], bodies: readonly string[], appended: Appended): void {
    this.#n++
    this.#inFlight = false
    const { epoch, seq } = appended.first
    this.#onStored?.(bodies, seq)
    for (let i = 0; i < call.length; i++) call[i]!.resolve?.(call[i]!.answer!(epoch, seq + i))
    if (call[call.length - 1]!.item.ends !== undefined) this.#onEnd!(appended)
    if (this.#roomWaiters.length > 0 && !this.#isHalfFull()) release(this.#roomWaiters)
    this.#flush()
    if (!this.#inFlight && this.#emptyWaiters.length > 0) release(this.#emptyWaiters)
  }

  #fail (call: readonly Waiting[], error: Error): void {
    this.#failure = error
    this.#inFlight = false
    clearTimeout(this.#retry)
    const refused = [...call, ...this.#queue]
    const rejection = rejected(error)
    this.#queue.length = 0
    this.#chars = 0
    for (const { promise, resolve } of refused) {
      promise?.catch(ignore)
      resolve?.(rejection)
    }
    this.#onEnd?.(rejection)
    release(this.#roomWaiters)
    release(this.#emptyWaiters, rejection)
    this.#onFailed(error)
  }
}

type MutableStep = { -readonly [K in keyof RunStep]: RunStep[K] }

/** The store opens first and closes then: what is closed and opened again in one call is only opened. */
function enter (changes: readonly LaneItem[], step: MutableStep): void {
  const opened = new Map<string, string>()
  const closed = new Set<string>()
  for (const { opens, closes } of changes) {
    if (opens !== undefined) {
      opened.set(opens[0], opens[1])
      closed.delete(opens[0])
    }
    if (closes !== undefined) {
      opened.delete(closes)
      closed.add(closes)
    }
  }
  if (opened.size > 0) step.opens = [...opened]
  if (closed.size > 0) step.closes = [...closed]
}

function positionOf (epoch: string, seq: number): EventPosition {
  return { id: formatCursor(epoch, seq), seq }
}

function ignore (): void {}

/** Nobody needs to wait for it. */
export function rejected (error: unknown): Promise<never> {
  const promise = Promise.reject(error)
  promise.catch(ignore)
  return promise
}

function release (waiters: Array<(failed?: Promise<never>) => void>, failed?: Promise<never>): void {
  for (const resolve of waiters.splice(0)) resolve(failed)
}
