/*
 * Which WebSocket close codes there are, and which of them a client obeys by staying away. This file imports nothing and says
 * nothing: it is the one thing that the browser's side takes from here. What they mean is in close-code-table.ts.
 */

export const GOING_AWAY = 1001
export const TOO_BIG = 1009
export const RESTART = 1012
export const BAD_FRAMES = 4400
export const NOT_AUTHENTICATED = 4401
export const FORBIDDEN = 4403
export const HEARTBEAT_LOST = 4408
export const SLOW_CONSUMER = 4413
export const TOO_MANY = 4429

// a stale token is retried once with a fresh one before NOT_AUTHENTICATED is final
const terminalCodes: ReadonlySet<number> = new Set([TOO_BIG, BAD_FRAMES, NOT_AUTHENTICATED, FORBIDDEN])

/** True if a client must not reconnect by itself after this close code. */
export function isTerminal (code: number): boolean {
  return terminalCodes.has(code)
}
