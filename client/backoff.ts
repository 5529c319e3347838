export interface BackoffOptions {
  /** Milliseconds; the upper bound of the first delay. @default 250 */
  readonly initialMs?: number
  /** Milliseconds; the upper bound of every delay. @default 15_000 */
  readonly maxMs?: number
}

/**
 * How long to wait before an attempt, in milliseconds: full jitter, after the cap, so that thousands that lost their
 * connection at once do not come back at once.
 * @param attempt from 0
 */
export function backoffMs (attempt: number, { initialMs = 250, maxMs = 15_000 }: BackoffOptions = {}): number {
  return Math.random() * Math.min(maxMs, initialMs * 2 ** attempt)
}
