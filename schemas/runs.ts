import { Type, type Static } from '@sinclair/typebox'
import { Timestamp } from './events.js'
import { oneOf } from './literals.js'

/** Where a run is: waiting, at work, or ended in exactly one of the five ways. */
export const RunState = oneOf(['created', 'queued', 'running', 'success', 'error', 'cancelled', 'timeout', 'lost'])
export type RunState = Static<typeof RunState>

export const RunInfo = Type.Object({
  runId: Type.String({ minLength: 1 }),
  threadId: Type.String({ minLength: 1 }),
  userId: Type.String({ minLength: 1 }),
  agentId: Type.String({ minLength: 1 }),
  agent: Type.String({ minLength: 1 }),
  state: RunState,
  startedAt: Timestamp,
  ageMs: Type.Number({ minimum: 0 }),
  parentRunId: Type.Optional(Type.String({ minLength: 1 }))
})
export type RunInfo = Static<typeof RunInfo>
