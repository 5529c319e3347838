import { FAE_ERR_LEGACY_MESSAGE } from '../../errors.js'

/** What older code sends: a type, and fields beside it or in `payload` or `data`, in snake_case or camelCase. */
export type LegacyMessage = Readonly<Record<string, unknown>> & { readonly type: string }

/** A legacy message, read: its type and the names of its fields in snake_case. */
export interface ReadMessage {
  readonly type: string
  readonly fields: Readonly<Record<string, unknown>>
  readonly runId: string | undefined
  readonly threadId: string | undefined
  readonly userId: string | undefined
  readonly original: LegacyMessage
}

const WRAPPERS = new Set(['payload', 'data'])

/** @throws FAE_ERR_LEGACY_MESSAGE */
export function readMessage (message: unknown): ReadMessage {
  if (!isRecord(message) || typeof message.type !== 'string' || message.type === '') {
    throw new FAE_ERR_LEGACY_MESSAGE(`got ${isRecord(message) ? `an object with type ${JSON.stringify(message.type) ?? 'undefined'}` : typeof message}`)
  }
  const fields: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(message)) {
    if (name === 'type') continue
    if (WRAPPERS.has(name) && isRecord(value)) for (const [inner, content] of Object.entries(value)) fields[toSnakeCase(inner)] ??= content
    else fields[toSnakeCase(name)] ??= value
  }
  return {
    type: toSnakeCase(message.type),
    fields,
    runId: idOf(fields.run_id),
    threadId: idOf(fields.thread_id),
    userId: idOf(fields.user_id),
    original: message as LegacyMessage
  }
}

export function isRecord (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** agentThinking, agent.thinking, agent-thinking and AGENT_THINKING are agent_thinking. */
function toSnakeCase (name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').replace(/[.\-: ]+/g, '_').toLowerCase()
}

function idOf (value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
