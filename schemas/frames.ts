import { Type, type Static, type TProperties } from '@sinclair/typebox'
import { Cursor } from './cursor.js'
import { MessageContent } from './events.js'
import { MessageAccepted } from './http.js'
import { oneOf } from './literals.js'

/*
 * What is said on the WebSocket beside the events themselves: JSON text frames, one message per frame.
 * Client frames are strict, so that a misspelt field is an error and not a silence; server frames are open, so that a
 * client skips what it does not know.
 */

/** The WebSocket subprotocol of these frames. */
export const SUBPROTOCOL = 'agent-events.v1'

const Ref = Type.String({ minLength: 1, maxLength: 64, description: 'chosen by the client, returned in the answer' })
// the host's own limit for ids is checked where the id is used
const Id = Type.String({ minLength: 1 })
// a cursor that is not ours is answered as such and not as a malformed frame
const AskedCursor = Type.String({ minLength: 1, maxLength: 64 })

/** degraded: events are stored and can be read, but do not arrive in real time. */
export const Mode = oneOf(['realtime', 'degraded'])
export type Mode = Static<typeof Mode>

// ---------- from the client ----------

function clientFrame<const Name extends string, Fields extends TProperties> (type: Name, fields: Fields, options?: Record<string, unknown>) {
  return Type.Object({ type: Type.Literal(type), ...fields }, { additionalProperties: false, ...options })
}

export const SubscribeFrame = clientFrame('subscribe', { ref: Type.Optional(Ref), threadId: Id, cursor: Type.Optional(AskedCursor) })
export type SubscribeFrame = Static<typeof SubscribeFrame>

export const UnsubscribeFrame = clientFrame('unsubscribe', { ref: Type.Optional(Ref), threadId: Id })
export type UnsubscribeFrame = Static<typeof UnsubscribeFrame>

/** Cumulative: the id of the highest contiguous event whose handlers have settled. */
export const AckFrame = clientFrame('ack', { threadId: Id, cursor: AskedCursor })
export type AckFrame = Static<typeof AckFrame>

export const SendFrame = clientFrame('send', {
  ref: Ref,
  threadId: Id,
  content: Type.Optional(MessageContent),
  agent: Type.Optional(Type.String({ minLength: 1 })),
  input: Type.Optional(Type.Unknown({ description: 'the agent\'s input, instead of content' })),
  clientMessageId: Type.Optional(Type.String({ minLength: 1, maxLength: 100, description: 'the same one twice starts one run' }))
}, { anyOf: [{ required: ['content'] }, { required: ['input'] }] })
export type SendFrame = Static<typeof SendFrame>

export const CancelFrame = clientFrame('cancel', { ref: Type.Optional(Ref), runId: Id })
export type CancelFrame = Static<typeof CancelFrame>

export const RefreshFrame = clientFrame('refresh', { ref: Type.Optional(Ref), token: Type.String({ minLength: 1 }) })
export type RefreshFrame = Static<typeof RefreshFrame>

export const PongFrame = clientFrame('pong', {})
export type PongFrame = Static<typeof PongFrame>

/** The schema of each client frame by its `type`. */
export const clientFrames = {
  subscribe: SubscribeFrame,
  unsubscribe: UnsubscribeFrame,
  ack: AckFrame,
  send: SendFrame,
  cancel: CancelFrame,
  refresh: RefreshFrame,
  pong: PongFrame
} as const

export const ClientFrame = Type.Union([SubscribeFrame, UnsubscribeFrame, AckFrame, SendFrame, CancelFrame, RefreshFrame, PongFrame])
export type ClientFrame = Static<typeof ClientFrame>

// ---------- from the server ----------

function serverFrame<const Name extends string, Fields extends TProperties> (type: Name, fields: Fields) {
  return Type.Object({ type: Type.Literal(type), ...fields })
}

export const ConnectedFrame = serverFrame('connected', {
  connectionId: Id,
  userId: Id,
  inbox: Type.String({ minLength: 1, description: 'thread id of the user\'s own thread' }),
  heartbeatMs: Type.Integer({ minimum: 1 }),
  maxPayload: Type.Integer({ minimum: 1, description: 'bytes that one client frame may have' }),
  mode: Mode
})
export type ConnectedFrame = Static<typeof ConnectedFrame>

export const SubscribedFrame = serverFrame('subscribed', {
  ref: Type.Optional(Ref),
  threadId: Id,
  cursor: Type.String({ pattern: Cursor.pattern!, description: 'the position before the first event that follows' }),
  head: Type.Integer({ minimum: 0, description: 'seq of the last event in the log, 0 if there is none' }),
  recovered: Type.Boolean({ description: 'false: drop what you have of this thread, everything retained follows' })
})
export type SubscribedFrame = Static<typeof SubscribedFrame>

export const UnsubscribedFrame = serverFrame('unsubscribed', { ref: Type.Optional(Ref), threadId: Id, reason: Type.String() })
export type UnsubscribedFrame = Static<typeof UnsubscribedFrame>

export const AcceptedFrame = serverFrame('accepted', { ref: Ref, ...MessageAccepted.properties })
export type AcceptedFrame = Static<typeof AcceptedFrame>

/** Never closes the socket by itself. */
export const ErrorFrame = serverFrame('error', {
  ref: Type.Optional(Ref),
  code: Type.String({ minLength: 1 }),
  message: Type.String(),
  threadId: Type.Optional(Id)
})
export type ErrorFrame = Static<typeof ErrorFrame>

/** On the level of the application, because a browser cannot see protocol pings. */
export const PingFrame = serverFrame('ping', {})
export type PingFrame = Static<typeof PingFrame>

export const StatusFrame = serverFrame('status', { mode: Mode, reason: Type.String() })
export type StatusFrame = Static<typeof StatusFrame>

/** Comes before a planned close; reconnectInMs differs per connection, so that not all come back at once. */
export const GoawayFrame = serverFrame('goaway', { reconnectInMs: Type.Integer({ minimum: 0 }) })
export type GoawayFrame = Static<typeof GoawayFrame>

/** The schema of each server frame by its `type`. */
export const serverFrames = {
  connected: ConnectedFrame,
  subscribed: SubscribedFrame,
  unsubscribed: UnsubscribedFrame,
  accepted: AcceptedFrame,
  error: ErrorFrame,
  ping: PingFrame,
  status: StatusFrame,
  goaway: GoawayFrame
} as const

export const ServerFrame = Type.Union([ConnectedFrame, SubscribedFrame, UnsubscribedFrame, AcceptedFrame, ErrorFrame, PingFrame, StatusFrame, GoawayFrame])
export type ServerFrame = Static<typeof ServerFrame>
