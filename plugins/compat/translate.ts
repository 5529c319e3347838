import type { EventData, Failure, JsonObject, Step } from '../../schemas/index.js'
import { toJson } from '../websocket-notifier/encode.js'
import { LEGACY_MESSAGE } from './events.js'
import { isRecord, type ReadMessage } from './message.js'

/** What a legacy message says of its run. */
export type Meaning =
  | { readonly kind: 'started' | 'completed' }
  | { readonly kind: 'thinking', readonly text: string, readonly step?: Step, readonly metadata?: JsonObject }
  | { readonly kind: 'answer', readonly text: string, readonly metadata?: JsonObject }
  | { readonly kind: 'tool_start', readonly tool: string, readonly toolCallId?: string, readonly args: unknown, readonly metadata?: JsonObject }
  | { readonly kind: 'tool_end', readonly tool: string, readonly toolCallId?: string, readonly outcome: ToolOutcome, readonly durationMs?: number, readonly metadata?: JsonObject }
  | { readonly kind: 'other', readonly data: EventData<'custom'> }

export type ToolOutcome = { readonly status: 'ok', readonly output: unknown } | { readonly status: 'error', readonly error: Failure }

const KINDS: Readonly<Record<string, Exclude<Meaning['kind'], 'other'>>> = {
  agent_started: 'started',
  agent_completed: 'completed',
  agent_thinking: 'thinking',
  thinking: 'thinking',
  assistant_message: 'answer',
  agent_message: 'answer',
  agent_response: 'answer',
  partial_result: 'answer',
  tool_executing: 'tool_start',
  tool_started: 'tool_start',
  tool_completed: 'tool_end',
  tool_result: 'tool_end'
}

/** Fields that the event itself says, elsewhere. */
const IDS = ['run_id', 'thread_id', 'user_id', 'agent', 'agent_name', 'agent_id']
const FAILED = new Set(['error', 'failed', 'failure', 'timeout', 'cancelled'])

/** Whether a run says this of itself, and the registry says it for it. */
export function isLifecycle (type: string): boolean {
  return KINDS[type] === 'started' || KINDS[type] === 'completed'
}

export function translate (message: ReadMessage): Meaning {
  const kind = Object.hasOwn(KINDS, message.type) ? KINDS[message.type]! : 'other'
  const fields = new Fields(message.fields)
  switch (kind) {
    case 'started':
    case 'completed': return { kind }
    case 'thinking':
    case 'answer': {
      const text = fields.take('thought', 'thinking', 'reasoning', 'content', 'text', 'message', 'delta')
      if (text === undefined) return other(message)
      const step = kind === 'thinking' ? readStep(fields) : undefined
      return { kind, text: textOf(text), ...(step !== undefined && { step }), ...fields.rest() }
    }
    case 'tool_start':
    case 'tool_end': {
      const tool = fields.take('tool_name', 'tool', 'name')
      if (typeof tool !== 'string' || tool === '') return other(message)
      const toolCallId = fields.take('tool_call_id', 'call_id')
      const ids = { tool, ...(typeof toolCallId === 'string' && toolCallId !== '' && { toolCallId }) }
      if (kind === 'tool_start') return { kind, ...ids, args: fields.take('tool_args', 'args', 'arguments', 'parameters', 'tool_input', 'input') ?? {}, ...fields.rest() }
      const outcome = readOutcome(fields)
      const durationMs = fields.take('duration_ms', 'execution_time_ms')
      return { kind, ...ids, outcome, ...(typeof durationMs === 'number' && durationMs >= 0 && { durationMs }), ...fields.rest() }
    }
    case 'other': return other(message)
  }
}

/** The custom event that carries a legacy message as it was. */
export function other ({ original }: ReadMessage): Extract<Meaning, { kind: 'other' }> {
  const { type, payload, ...rest } = original
  const isWrapped = payload !== undefined && Object.keys(rest).length === 0
  return { kind: 'other', data: { name: LEGACY_MESSAGE, value: { type, payload: isWrapped ? payload : { ...rest, ...(payload !== undefined && { payload }) } } } }
}

function readStep (fields: Fields): Step | undefined {
  const name = fields.take('step', 'step_name', 'current_step')
  const index = fields.take('step_number', 'step_index')
  const total = fields.take('total_steps', 'step_total')
  if (name === undefined && index === undefined) return undefined
  const isOrdinal = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0
  return { name: textOf(name ?? ''), index: isOrdinal(index) ? index : isOrdinal(name) ? name : 1, ...(isOrdinal(total) && { total }) }
}

function readOutcome (fields: Fields): ToolOutcome {
  const status = fields.take('status')
  const success = fields.take('success')
  const error = fields.take('error', 'error_message')
  const output = fields.take('result', 'output', 'tool_output')
  const isFailed = success === false || (typeof status === 'string' && FAILED.has(status)) || (status === undefined && success === undefined && error !== undefined && error !== null)
  if (!isFailed) return { status: 'ok', output }
  const { code, message } = isRecord(error) ? error : { code: undefined, message: error }
  return { status: 'error', error: { code: typeof code === 'string' && code !== '' ? code : 'LEGACY_TOOL_FAILED', message: textOf(message ?? status ?? 'failed') } }
}

function textOf (value: unknown): string {
  return typeof value === 'string' ? value : toJson(value)
}

/** Fields on their way: what nobody takes goes along as metadata. */
class Fields {
  readonly #left: Map<string, unknown>

  constructor (fields: Readonly<Record<string, unknown>>) {
    this.#left = new Map(Object.entries(fields).filter(([name, value]) => value !== undefined && !IDS.includes(name)))
  }

  /** The first of these that is there. */
  take (...names: string[]): unknown {
    for (const name of names) {
      if (!this.#left.has(name)) continue
      const value = this.#left.get(name)
      this.#left.delete(name)
      return value
    }
    return undefined
  }

  rest (): { metadata?: JsonObject } {
    return this.#left.size === 0 ? {} : { metadata: { legacy: Object.fromEntries(this.#left) } }
  }
}
