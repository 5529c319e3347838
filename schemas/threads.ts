import { Type, type Static } from '@sinclair/typebox'
import { Timestamp } from './events.js'
import { JsonObject } from './json.js'

/** A thread as HTTP answers it. */
export const Thread = Type.Object({
  threadId: Type.String({ minLength: 1 }),
  epoch: Type.String({ minLength: 1, description: 'names the present history of the log' }),
  head: Type.Integer({ minimum: 0, description: 'seq of the last event, 0 if there is none' }),
  createdAt: Timestamp,
  metadata: Type.Optional(JsonObject),
  agent: Type.Optional(Type.String({ minLength: 1, description: 'who answers when a message names no agent' }))
})
export type Thread = Static<typeof Thread>

/** Body of POST /threads. Without threadId one is made. */
export const RegisterThread = Type.Object({
  threadId: Type.Optional(Type.String({ minLength: 1 })),
  metadata: Type.Optional(JsonObject),
  agent: Type.Optional(Type.String({ minLength: 1 }))
}, { additionalProperties: false })
export type RegisterThread = Static<typeof RegisterThread>
