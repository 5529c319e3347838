import { Type, type Static } from '@sinclair/typebox'
import { JsonObject } from './json.js'

/** An agent definition as it is listed: what it is called, what it takes, whom it may call. */
export const AgentInfo = Type.Object({
  name: Type.String({ minLength: 1 }),
  description: Type.String(),
  version: Type.Optional(Type.String()),
  inputSchema: JsonObject,
  tools: Type.Array(Type.String()),
  agents: Type.Array(Type.String()),
  default: Type.Boolean({ description: 'answers when neither the message nor the thread names an agent' })
})
export type AgentInfo = Static<typeof AgentInfo>
