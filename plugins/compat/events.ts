import { Type } from '@sinclair/typebox'

/** The name of the custom event that carries every legacy message that belongs to no live run. */
export const LEGACY_MESSAGE = 'legacy_message'

/** Spread this into the option `events`: the schema of the custom event that carries other legacy messages. */
export const legacyEvents = {
  [LEGACY_MESSAGE]: Type.Object({
    type: Type.String({ minLength: 1, description: "the legacy message's own type" }),
    payload: Type.Unknown({ description: 'its fields, as they were' })
  }, { additionalProperties: false })
} as const
