import { Type, type Static, type TObject, type TProperties, type TSchema } from '@sinclair/typebox'
import { Cursor } from './cursor.js'
import { JsonObject } from './json.js'
import { oneOf } from './literals.js'

/*
 * What may be said. `<Name>Data` is the payload, checked once when an event is emitted and strict: an unknown field is
 * refused. `<Name>` is the whole event as it is stored and sent.
 */

const Id = Type.String({ minLength: 1 })
const Name = Type.String({ minLength: 1 })
const Count = Type.Integer({ minimum: 0 })
const Ordinal = Type.Integer({ minimum: 1 })
const DurationMs = Type.Number({ minimum: 0 })

/** When it happened by the clock of the node that emitted it: ISO 8601, UTC, milliseconds. For people; nothing is ordered by it. */
export const Timestamp = Type.String({ pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$' })
export type Timestamp = Static<typeof Timestamp>

// ---------- parts ----------

export const TextPart = Type.Object({ type: Type.Literal('text'), text: Type.String() }, { additionalProperties: false })
export type TextPart = Static<typeof TextPart>

export const FilePart = Type.Object({
  type: Type.Literal('file'),
  mediaType: Type.String({ minLength: 1 }),
  url: Type.String({ minLength: 1 }),
  filename: Type.Optional(Type.String())
}, { additionalProperties: false })
export type FilePart = Static<typeof FilePart>

export const MessagePart = Type.Union([TextPart, FilePart])
export type MessagePart = Static<typeof MessagePart>

/** What a user says: plain text, or at least one part. */
export const MessageContent = Type.Union([Type.String(), Type.Array(MessagePart, { minItems: 1 })])
export type MessageContent = Static<typeof MessageContent>

/** Why something did not work. `code` is for programs, `message` for people; `retryable` says whether trying again can help. */
export const Failure = Type.Object({
  code: Type.String({ minLength: 1 }),
  message: Type.String(),
  retryable: Type.Optional(Type.Boolean())
}, { additionalProperties: false })
export type Failure = Static<typeof Failure>

/** Tokens that one model took in one run. */
export const Usage = Type.Object({
  model: Type.String({ minLength: 1 }),
  inputTokens: Type.Optional(Count),
  outputTokens: Type.Optional(Count),
  reasoningTokens: Type.Optional(Count),
  cachedInputTokens: Type.Optional(Count),
  totalTokens: Type.Optional(Count)
}, { additionalProperties: false })
export type Usage = Static<typeof Usage>

/** Where an agent is in its plan: `index` counts from 1. */
export const Step = Type.Object({ name: Type.String(), index: Ordinal, total: Type.Optional(Ordinal) }, { additionalProperties: false })
export type Step = Static<typeof Step>

export const Counts = Type.Object({ events: Count, tools: Count }, { additionalProperties: false })
export type Counts = Static<typeof Counts>

/** What started a run. */
export const Trigger = oneOf(['user_message', 'api', 'agent', 'retry'])
export type Trigger = Static<typeof Trigger>

/** A text comes as start, delta …, end, or at once as full. */
export const TextPhase = oneOf(['start', 'delta', 'end', 'full'])
export type TextPhase = Static<typeof TextPhase>

export const ThinkingKind = oneOf(['reasoning', 'status'])
export type ThinkingKind = Static<typeof ThinkingKind>

export const ToolPhase = oneOf(['input_delta', 'start', 'running', 'progress'])
export type ToolPhase = Static<typeof ToolPhase>

export const ToolStatus = oneOf(['ok', 'error', 'denied', 'cancelled', 'timeout'])
export type ToolStatus = Static<typeof ToolStatus>

/** How a run ended. `lost`: the process that ran it is gone. */
export const RunStatus = oneOf(['success', 'error', 'cancelled', 'timeout', 'lost'])
export type RunStatus = Static<typeof RunStatus>

// ---------- data ----------

/** Every payload may carry `metadata`, and nothing that is not listed. */
function data<Fields extends TProperties> (fields: Fields) {
  return Type.Object({ ...fields, metadata: Type.Optional(JsonObject) }, { additionalProperties: false })
}

export const UserMessageData = data({
  messageId: Id,
  clientMessageId: Type.Optional(Id),
  content: MessageContent
})
export type UserMessageData = Static<typeof UserMessageData>

export const AgentStartedData = data({
  agent: Name,
  version: Type.Optional(Type.String()),
  messageId: Type.String({ minLength: 1, description: 'of the answer to come' }),
  trigger: Trigger,
  attempt: Ordinal,
  input: Type.Optional(Type.Unknown()),
  parentToolCallId: Type.Optional(Id)
})
export type AgentStartedData = Static<typeof AgentStartedData>

export const AgentThinkingData = data({
  agent: Name,
  thinkingId: Id,
  kind: ThinkingKind,
  phase: TextPhase,
  text: Type.String(),
  step: Type.Optional(Step)
})
export type AgentThinkingData = Static<typeof AgentThinkingData>

export const ToolExecutingData = data({
  agent: Name,
  toolCallId: Id,
  tool: Name,
  phase: ToolPhase,
  title: Type.Optional(Type.String()),
  args: Type.Optional(Type.Unknown({ description: 'on phase start' })),
  argsText: Type.Optional(Type.String({ description: 'the delta, on phase input_delta' })),
  progress: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'the fraction that is done, on phase progress' })),
  progressText: Type.Optional(Type.String({ description: 'what is being done, on phase progress' })),
  attempt: Ordinal,
  timeoutMs: Type.Optional(Ordinal)
})
export type ToolExecutingData = Static<typeof ToolExecutingData>

export const ToolCompletedData = data({
  agent: Name,
  toolCallId: Id,
  tool: Name,
  status: ToolStatus,
  output: Type.Optional(Type.Unknown()),
  error: Type.Optional(Failure),
  durationMs: DurationMs,
  truncated: Type.Optional(Type.Object({ bytes: Count }, { additionalProperties: false, description: 'the output was cut; bytes is its full size' }))
})
export type ToolCompletedData = Static<typeof ToolCompletedData>

export const AssistantMessageData = data({
  agent: Name,
  messageId: Type.String({ minLength: 1, description: 'one per run, as announced by agent_started' }),
  partId: Type.String({ minLength: 1, description: 'one per block of text' }),
  phase: TextPhase,
  text: Type.String(),
  finishReason: Type.Optional(Type.String())
})
export type AssistantMessageData = Static<typeof AssistantMessageData>

export const AgentCompletedData = data({
  agent: Name,
  status: RunStatus,
  result: Type.Optional(Type.Unknown()),
  error: Type.Optional(Failure),
  reason: Type.Optional(Type.String({ description: 'of a cancel' })),
  usage: Type.Optional(Type.Array(Usage, { description: 'one entry per model' })),
  durationMs: DurationMs,
  counts: Counts,
  firstSeq: Type.Integer({ minimum: 1, description: 'seq of the first event of the run' })
})
export type AgentCompletedData = Static<typeof AgentCompletedData>

export const CustomData = data({
  name: Name,
  value: Type.Optional(Type.Unknown({ description: 'checked by the schema that the host registered under this name' }))
})
export type CustomData = Static<typeof CustomData>

/** The payload schema of each event type. */
export const eventData = {
  user_message: UserMessageData,
  agent_started: AgentStartedData,
  agent_thinking: AgentThinkingData,
  tool_executing: ToolExecutingData,
  tool_completed: ToolCompletedData,
  assistant_message: AssistantMessageData,
  agent_completed: AgentCompletedData,
  custom: CustomData
} as const satisfies Record<string, TObject>

export type EventType = keyof typeof eventData
export type EventData<Type extends EventType> = Static<typeof eventData[Type]>

/** The names of all event types. */
export const eventTypes = Object.keys(eventData) as EventType[]

// ---------- whole events ----------

function event<const Name extends EventType, Data extends TSchema> (type: Name, payload: Data) {
  return Type.Object({
    v: Type.Literal(1),
    id: Cursor,
    seq: Ordinal,
    type: Type.Literal(type),
    threadId: Id,
    runId: Type.Optional(Id),
    agentId: Type.Optional(Id),
    parentRunId: Type.Optional(Id),
    timestamp: Timestamp,
    data: payload
  })
}

export const UserMessage = event('user_message', UserMessageData)
export type UserMessage = Static<typeof UserMessage>

export const AgentStarted = event('agent_started', AgentStartedData)
export type AgentStarted = Static<typeof AgentStarted>

export const AgentThinking = event('agent_thinking', AgentThinkingData)
export type AgentThinking = Static<typeof AgentThinking>

export const ToolExecuting = event('tool_executing', ToolExecutingData)
export type ToolExecuting = Static<typeof ToolExecuting>

export const ToolCompleted = event('tool_completed', ToolCompletedData)
export type ToolCompleted = Static<typeof ToolCompleted>

export const AssistantMessage = event('assistant_message', AssistantMessageData)
export type AssistantMessage = Static<typeof AssistantMessage>

export const AgentCompleted = event('agent_completed', AgentCompletedData)
export type AgentCompleted = Static<typeof AgentCompleted>

export const Custom = event('custom', CustomData)
export type Custom = Static<typeof Custom>

/** Every event, told apart by `type`. */
export const AgentEvent = Type.Union([UserMessage, AgentStarted, AgentThinking, ToolExecuting, ToolCompleted, AssistantMessage, AgentCompleted, Custom])
export type AgentEvent = Static<typeof AgentEvent>

/** The event of one type. */
export type EventOf<Type extends EventType> = Extract<AgentEvent, { type: Type }>
