import * as codes from './close-codes.js'

function entry<const Code extends number> (code: Code, meaning: string) {
  return { code, terminal: codes.isTerminal(code), meaning } as const
}

/**
 * Why a WebSocket was closed, and what the client does about it.
 *
 * terminal: the client does not reconnect by itself, since the same would happen again.
 * Everything else, codes that are not listed included, means: reconnect with back-off and resume from the cursor.
 */
export const closeCodes = {
  goingAway: entry(codes.GOING_AWAY, 'The server is going away'),
  tooBig: entry(codes.TOO_BIG, 'A frame was larger than maxPayload'),
  restart: entry(codes.RESTART, 'The server restarts'),
  badFrames: entry(codes.BAD_FRAMES, 'Too many frames were not understood'),
  notAuthenticated: entry(codes.NOT_AUTHENTICATED, 'Not authenticated, or no longer'),
  forbidden: entry(codes.FORBIDDEN, 'Not allowed'),
  heartbeatLost: entry(codes.HEARTBEAT_LOST, 'No sign of life within the heartbeat'),
  slowConsumer: entry(codes.SLOW_CONSUMER, 'The connection makes no progress'),
  tooMany: entry(codes.TOO_MANY, 'Too many connections or frames')
} as const

export type CloseCodeName = keyof typeof closeCodes
export type CloseCode = typeof closeCodes[CloseCodeName]['code']
