import { closeCodes, eventTypes, type CloseCodeName, type EventType, type RunStatus } from '../../schemas/index.js'

/** Somebody wants to know how long things take. In seconds. */
export interface Timing {
  /** From the call of an append until the store has answered. */
  append (seconds: number): void
  /** From the call of an append until its events are written to the sockets of this process that follow the thread. */
  delivery (seconds: number): void
}

/** How often at most something is timed, in milliseconds: timing is a sample. */
const EVERY_MS = 10

/** What this process has done so far, in plain numbers that are read when somebody asks: raising them costs next to nothing. */
export class Stats {
  /** Stored from here, while somebody times. */
  readonly events = zeros(eventTypes)
  /** Ended here. */
  readonly runs = zeros<RunStatus>(['success', 'error', 'cancelled', 'timeout', 'lost'])
  /** Closed by this side. */
  readonly closes = zeros(Object.keys(closeCodes) as CloseCodeName[])
  /** Subscriptions that found their place, and those that had to begin anew, at their start or later. */
  readonly subscribed = { recovered: 0, reset: 0 }
  /** How often a subscription left the live stream to read the log: a gap, or a socket that had been full. */
  replays = 0
  /** Emits after the end of their run, refused. */
  refused = 0
  #timedAt = 0

  /** Set once, by who wants to know; without it nothing is timed. */
  timing: Timing | undefined

  /** @returns now, in milliseconds of the monotonic clock, if this call is one of the sample; else 0 */
  begin (): number {
    const now = performance.now()
    if (now - this.#timedAt < EVERY_MS) return 0
    this.#timedAt = now
    return now
  }
}

function zeros<Name extends string> (names: readonly Name[]): Record<Name, number> {
  return Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>
}

const TYPE_AT = '{"v":1,"type":"'.length

/** The type of an event as the encoder has written it. */
export function typeOf (body: string): EventType {
  return body.slice(TYPE_AT, body.indexOf('"', TYPE_AT)) as EventType
}
