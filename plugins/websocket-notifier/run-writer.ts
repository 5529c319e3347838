import { FAE_ERR_RUN_ENDED } from '../../errors.js'
import type { EventData, EventPosition, EventType, RunStatus } from '../../schemas/index.js'
import type { Appended } from '../store/index.js'
import type { EventEncoder } from './encode.js'
import { rejected, type AnswerOf, type Lane, type LaneItem } from './lane.js'
import { closingOf, openedBy, type OpenItem } from './open-items.js'

/** The events that a run's own code may cause; the others come from outside, or begin and end a run. */
export type RunEventType = Exclude<EventType, 'user_message' | 'agent_started' | 'agent_completed'>

/** Text that waits for more of its kind before it becomes an event. */
export interface HeldText { flush (): void }

/** A run's voice: the only way an event of a run comes into being. Knows what is open, and closes it at the end. */
export class RunWriter {
  readonly #encoder: EventEncoder
  readonly #lane: Lane
  readonly #scope: string
  readonly #onRefused: (error: Error & { code?: string }) => void
  readonly #open = new Map<string, OpenItem>()
  readonly #held = new Set<HeldText>()
  /** Those of before this writer. */
  readonly #events: number
  #tools = 0
  #isSealed = false

  /** @param events how many events the run has already */
  constructor (encoder: EventEncoder, lane: Lane, scope: string, events: number, onRefused: (error: Error & { code?: string }) => void) {
    this.#encoder = encoder
    this.#lane = lane
    this.#scope = scope
    this.#events = events
    this.#onRefused = onRefused
  }

  get maxEventBytes (): number { return this.#encoder.maxEventBytes }
  /** The run has ended or is about to: nothing more is taken. */
  get isSealed (): boolean { return this.#isSealed }
  isOpen (kind: OpenItem['kind'], id: string): boolean { return this.#open.has(`${kind}:${id}`) }

  /**
   * Resolves with the event's position, or with what `answer` makes of it, once it is stored; need not be awaited.
   * @throws FAE_ERR_EVENT_INVALID, FAE_ERR_EVENT_TOO_LARGE, FAE_ERR_RUN_ENDED, FAE_ERR_RUN_STALE
   */
  emit<Type extends RunEventType, Answer = EventPosition> (type: Type, data: EventData<Type>, answer?: AnswerOf<Answer>): Promise<Answer> {
    try {
      this.#assertOpen()
      this.#flushHeld()
      return this.#lane.append<Answer>(this.#item(type, data), answer)
    } catch (error) {
      return rejected(this.#refused(error as Error))
    }
  }

  /**
   * The same for a piece of text. Does not flush held text: it is what is flushed.
   * @returns undefined while the lane has room for more, else what to wait for; it rejects with what emit rejects with
   */
  stream<Type extends 'assistant_message' | 'agent_thinking'> (type: Type, data: EventData<Type>): Promise<void> | undefined {
    try {
      this.#assertOpen()
      return this.#lane.take(this.#item(type, data))
    } catch (error) {
      throw this.#refused(error as Error)
    }
  }

  /** Held text goes out now. @throws FAE_ERR_RUN_ENDED */
  flush (): void {
    if (this.#isSealed) throw this.#refused(new FAE_ERR_RUN_ENDED(this.#lane.runId))
    this.#flushHeld()
  }

  /** agent_started of a run that waited in the queue: the first event of its own. */
  async start (data: EventData<'agent_started'>, takesOver = false): Promise<EventPosition> {
    const body = this.#encoder.encodeStarted(this.#scope, data)
    return this.#lane.append({ body, starts: true, ...(takesOver && { takesOver: true as const }) })
  }

  /** Held text goes out before the next event, so that order is what was said. */
  hold (text: HeldText): void { this.#held.add(text) }
  release (text: HeldText): void { this.#held.delete(text) }

  /** From now on every emit is refused; only finish() may follow. */
  seal (): void {
    if (this.#isSealed) return
    // What was said before the end has room: it is in memory already.
    this.#lane.liftLimits()
    this.#flushHeld()
    this.#isSealed = true
  }

  /**
   * Closes what is open and ends the run, in one append.
   * @param maxBytes of the agent_completed
   * @throws FAE_ERR_EVENT_TOO_LARGE and FAE_ERR_EVENT_INVALID, with nothing done: it may be called again
   */
  async finish (status: RunStatus, completed: (counts: EventData<'agent_completed'>['counts']) => EventData<'agent_completed'>, maxBytes = this.maxEventBytes): Promise<Appended> {
    this.seal()
    const counts = { events: this.#events + this.#lane.taken + this.#open.size + 1, tools: this.#tools }
    const last = { body: this.#encoder.encode(this.#scope, 'agent_completed', completed(counts), maxBytes), ends: status }
    const closings = [...this.#open.values()].reverse().map((item) => {
      const { type, data } = closingOf(item, status)
      return this.#item(type, data, Infinity)
    })
    return this.#lane.finish([...closings, last])
  }

  /** Resolves once everything emitted so far is stored. */
  async whenStored (): Promise<void> {
    return this.#lane.whenEmpty()
  }

  #item<Type extends RunEventType> (type: Type, data: EventData<Type>, maxBytes = this.maxEventBytes): LaneItem {
    const body = this.#encoder.encode(this.#scope, type, data, maxBytes)
    const touched = openedBy(type, data)
    if (touched === undefined || this.#open.has(touched.id) === (touched.item !== undefined)) return { body }
    const { id, item } = touched
    // Counted and open only if the lane takes it: what it refuses needs no end.
    const taken = (): void => {
      if (item?.kind === 'tool') this.#tools++
      if (item === undefined) this.#open.delete(id)
      else this.#open.set(id, item)
    }
    return item === undefined ? { body, taken, closes: id } : { body, taken, opens: [id, JSON.stringify(item)] }
  }

  #flushHeld (): void {
    if (this.#held.size === 0) return
    for (const text of [...this.#held]) text.flush()
  }

  #assertOpen (): void {
    if (this.#isSealed) throw new FAE_ERR_RUN_ENDED(this.#lane.runId)
  }

  /** Somebody should know, also when the agent does not look. */
  #refused (error: Error): Error {
    this.#onRefused(error)
    return error
  }
}
