import { Type, type Static } from '@sinclair/typebox'
import { AgentInfo } from './agents.js'
import { Cursor } from './cursor.js'
import { MessageContent, Timestamp } from './events.js'
import { oneOf } from './literals.js'
import { RunInfo } from './runs.js'
import { Thread } from './threads.js'
import { ToolInfo } from './tools.js'

/* Parameters, queries, bodies and answers of the HTTP routes that are not a thing of their own. */

const Id = Type.String({ minLength: 1 })

export const ThreadParams = Type.Object({ threadId: Id })
export type ThreadParams = Static<typeof ThreadParams>

export const RunParams = Type.Object({ runId: Id })
export type RunParams = Static<typeof RunParams>

/** Query of GET /threads. */
export const ListQuery = Type.Object({
  after: Type.Optional(Type.String({ minLength: 1, description: 'the last thread id of the page before' })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000, default: 100 }))
})
export type ListQuery = Static<typeof ListQuery>

/** Query of GET /threads/:threadId/events: the read half of the Durable Streams protocol. */
export const EventsQuery = Type.Object({
  offset: Type.Optional(Type.String({ minLength: 1, maxLength: 64, description: 'a cursor, -1 for the start, now for the tail' })),
  live: Type.Optional(oneOf(['long-poll', 'sse'])),
  cursor: Type.Optional(Type.String({ maxLength: 64, description: 'Stream-Cursor of the answer before' }))
})
export type EventsQuery = Static<typeof EventsQuery>

/** Body of POST /threads/:threadId/messages: content, or the agent's input, or both. */
export const MessageBody = Type.Object({
  content: Type.Optional(MessageContent),
  input: Type.Optional(Type.Unknown({ description: 'the agent\'s input, instead of content' })),
  agent: Type.Optional(Type.String({ minLength: 1 })),
  clientMessageId: Type.Optional(Type.String({ minLength: 1, maxLength: 100, description: 'the same one twice starts one run' }))
}, { additionalProperties: false, anyOf: [{ required: ['content'] }, { required: ['input'] }] })
export type MessageBody = Static<typeof MessageBody>

export const MessageAccepted = Type.Object({
  threadId: Id,
  runId: Id,
  cursor: Cursor,
  ended: Type.Optional(Type.String({ pattern: Cursor.pattern!, description: 'of a message that was sent before, and whose run has ended: the position of its agent_completed' }))
})
export type MessageAccepted = Static<typeof MessageAccepted>

/** Body of POST /runs/:runId/cancel. */
export const CancelBody = Type.Object({ reason: Type.Optional(Type.String({ maxLength: 1000 })) }, { additionalProperties: false })
export type CancelBody = Static<typeof CancelBody>

/** Every error, on every route. */
export const ErrorAnswer = Type.Object({ statusCode: Type.Integer(), code: Type.String(), error: Type.String(), message: Type.String() })
export type ErrorAnswer = Static<typeof ErrorAnswer>

/** A one-time ticket for the browser's WebSocket, and for whom: what `connected` says, for clients that have none. */
export const Ticket = Type.Object({ ticket: Type.String({ minLength: 1 }), expiresAt: Timestamp, userId: Id, inbox: Id })
export type Ticket = Static<typeof Ticket>

export const ThreadList = Type.Object({ threads: Type.Array(Thread) })
export type ThreadList = Static<typeof ThreadList>

export const RunList = Type.Object({ runs: Type.Array(RunInfo) })
export type RunList = Static<typeof RunList>

export const AgentList = Type.Object({ agents: Type.Array(AgentInfo) })
export type AgentList = Static<typeof AgentList>

export const ToolList = Type.Object({ tools: Type.Array(ToolInfo) })
export type ToolList = Static<typeof ToolList>
