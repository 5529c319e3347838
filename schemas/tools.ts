import { Type, type Static } from '@sinclair/typebox'
import { JsonObject } from './json.js'

/** A tool as it is listed. */
export const ToolInfo = Type.Object({
  name: Type.String({ minLength: 1 }),
  description: Type.String(),
  inputSchema: JsonObject,
  outputSchema: Type.Optional(JsonObject),
  timeoutMs: Type.Optional(Type.Integer({ minimum: 1 }))
})
export type ToolInfo = Static<typeof ToolInfo>
