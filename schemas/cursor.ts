import { Type, type Static } from '@sinclair/typebox'

const TIME_DIGITS = 8
const RANDOM_DIGITS = 4
const SEQ_DIGITS = 10

/** Where an event stands in its thread: which history of the log, and the how manieth event (1, 2, 3 …; 0 is before the first). */
export interface Position { readonly epoch: string, readonly seq: number }

/** What an emit resolves with, once the event is stored. */
export interface EventPosition {
  /** The event's id, which is its cursor. */
  readonly id: string
  /** The event's number in its thread, from 1. */
  readonly seq: number
}

/** `<epoch>-<seq, ten digits>`. Opaque to clients, and its order as text is the order of the log. */
export const Cursor = Type.String({ pattern: `^[0-9a-z]{${TIME_DIGITS + RANDOM_DIGITS}}-[0-9]{${SEQ_DIGITS}}$`, description: 'A position in a thread; sortable as text, otherwise opaque' })
export type Cursor = Static<typeof Cursor>

/** What is missing before so many digits. */
const ZEROS = Array.from({ length: SEQ_DIGITS + 1 }, (_, digits) => '0'.repeat(SEQ_DIGITS - digits))

const cursorPattern = new RegExp(`^([0-9a-z]{${TIME_DIGITS + RANDOM_DIGITS}})-([0-9]{${SEQ_DIGITS}})$`)

/** The cursor of a position, which is also the id of the event that stands there. */
export function formatCursor (epoch: string, seq: number): string {
  const digits = String(seq)
  return `${epoch}-${ZEROS[digits.length]}${digits}`
}

/** The position that a cursor names, or undefined if it is not one of ours. Never throws. */
export function parseCursor (text: string): Position | undefined {
  const match = cursorPattern.exec(text)
  return match === null ? undefined : { epoch: match[1]!, seq: Number(match[2]) }
}

/**
 * A name for a new history of a log: eight digits of time (milliseconds in base 36, enough until 2059), four at random.
 * It always sorts behind `previous`, also when the clock went back: then its time is one more than the previous one's.
 * @param previous the epoch that it replaces; something that is not an epoch is ignored
 * @param now milliseconds since 1970
 */
export function newEpoch (previous?: string, now: number = Date.now()): string {
  const before = previous === undefined ? Number.NaN : Number.parseInt(previous.slice(0, TIME_DIGITS), 36)
  const time = before >= now ? before + 1 : now
  const random = globalThis.crypto.getRandomValues(new Uint32Array(1))[0]! % 36 ** RANDOM_DIGITS
  return time.toString(36).padStart(TIME_DIGITS, '0') + random.toString(36).padStart(RANDOM_DIGITS, '0')
}
