import { FAE_ERR_EVENT_INVALID, FAE_ERR_EVENT_REDACT, FAE_ERR_EVENT_TOO_LARGE } from '../../errors.js'
import type { EventData, EventType } from '../../schemas/index.js'
import { checkEventData, compileSchema, type Problem } from '../../schemas/validate.js'
import type { TSchema } from '@sinclair/typebox'

const MAX_DEPTH = 100
const MAX_NODES = 10_000
/** What makes an event part of its run; the rest is content. */
const STRUCTURE: ReadonlySet<string> = new Set([
  'agent', 'messageId', 'clientMessageId', 'partId', 'thinkingId', 'toolCallId', 'parentToolCallId', 'tool', 'name',
  'trigger', 'attempt', 'kind', 'phase', 'status', 'counts', 'firstSeq', 'durationMs'
])

export interface Scope { readonly threadId: string, readonly runId?: string, readonly agentId?: string, readonly parentRunId?: string }

/** An event on its way into the log, as `redact` sees it. */
export type RedactableEvent = { [Type in EventType]: {
  readonly type: Type
  readonly data: EventData<Type>
  readonly threadId: string
  readonly runId?: string
} }[EventType]

/**
 * Returns the data that is stored instead; what it is given belongs to the agent and must not be changed. Ids, names,
 * phases and states stay what they are whatever it returns.
 */
export type Redact = (event: RedactableEvent) => RedactableEvent['data']

/** The part of an event that is the same for all events of a run, serialised once. */
export function encodeScope ({ threadId, runId, agentId, parentRunId }: Scope): string {
  return JSON.stringify({ threadId, runId, agentId, parentRunId }).slice(1, -1)
}

/** The one place where an event becomes bytes: checked, serialised, measured. */
export class EventEncoder {
  readonly maxEventBytes: number
  readonly #custom: Map<string, (value: unknown) => Problem | undefined>
  readonly #redact: Redact | undefined
  #now = 0
  #timestamp = ''

  /** @param custom the schema of each custom event by its name; events of other names are refused if there is any */
  constructor (maxEventBytes: number, custom: Readonly<Record<string, TSchema>> = {}, redact?: Redact) {
    this.maxEventBytes = maxEventBytes
    this.#redact = redact
    this.#custom = new Map(Object.entries(custom).map(([name, schema]) => [name, compileSchema(schema)]))
  }

  /**
   * @param maxBytes Infinity for what ends a run or something in it and says nothing else: that has room always, and there
   *   is nothing in it to redact
   * @returns the event as JSON, without id and seq, which the store puts in front
   * @throws FAE_ERR_EVENT_INVALID, FAE_ERR_EVENT_REDACT, FAE_ERR_EVENT_TOO_LARGE
   */
  encode<Type extends EventType> (scope: string, type: Type, data: EventData<Type>, maxBytes = this.maxEventBytes): string {
    this.check(type, data)
    const stored = this.#redact === undefined || maxBytes === Infinity ? data : this.#redacted(this.#redact, scope, type, data)
    const body = `{"v":1,"type":"${type}",${scope},"timestamp":"${this.#isoNow()}","data":${toJson(stored)}}`
    // Counted always: it makes one flat string of many parts, which is lighter while it waits for the store.
    const bytes = Buffer.byteLength(body)
    if (bytes > maxBytes) throw new FAE_ERR_EVENT_TOO_LARGE(type, bytes, maxBytes)
    return body
  }

  /** agent_started; what fromMessage made of a message may be larger than any event, or not be redacted: then the run begins without showing it. */
  encodeStarted (scope: string, data: EventData<'agent_started'>): string {
    try {
      return this.encode(scope, 'agent_started', data)
    } catch (error) {
      if (!(error instanceof FAE_ERR_EVENT_TOO_LARGE || error instanceof FAE_ERR_EVENT_REDACT)) throw error
      const { input, ...rest } = data
      return this.encode(scope, 'agent_started', rest, Infinity)
    }
  }

  /** @throws FAE_ERR_EVENT_INVALID */
  check (type: EventType, data: unknown): void {
    let problem = checkEventData(type, data)
    if (problem === undefined && type === 'custom') problem = this.#checkCustom(data as EventData<'custom'>)
    if (problem !== undefined) throw new FAE_ERR_EVENT_INVALID(type, problem.path, problem.message)
  }

  #redacted (redact: Redact, scope: string, type: EventType, data: unknown): unknown {
    const { threadId, runId } = JSON.parse(`{${scope}}`) as Scope
    let redacted: unknown
    try {
      redacted = redact({ type, data, threadId, ...(runId !== undefined && { runId }) } as RedactableEvent)
    } catch (error) {
      throw new FAE_ERR_EVENT_REDACT(type, 'it threw', { cause: error })
    }
    if (typeof redacted === 'object' && redacted !== null) {
      redacted = { ...redacted, ...Object.fromEntries(Object.entries(data as object).filter(([field]) => STRUCTURE.has(field))) }
    }
    // Only where: what is wrong there may be what was to be hidden.
    const problem = checkEventData(type, redacted)
    if (problem !== undefined) throw new FAE_ERR_EVENT_REDACT(type, `what it returned is invalid at '${problem.path}'`)
    return redacted
  }

  #checkCustom ({ name, value }: EventData<'custom'>): Problem | undefined {
    const check = this.#custom.get(name)
    if (check === undefined) {
      const known = [...this.#custom.keys()].join(', ')
      return { path: 'name', message: `'${name}' is not registered in the option events; known are: ${known === '' ? 'none' : known}` }
    }
    const problem = check(value)
    return problem === undefined ? undefined : { path: problem.path === '(root)' ? 'value' : `value.${problem.path}`, message: problem.message }
  }

  #isoNow (): string {
    const now = Date.now()
    if (now !== this.#now) {
      this.#now = now
      this.#timestamp = new Date(now).toISOString()
    }
    return this.#timestamp
  }
}

/** JSON of any value, never an exception: what JSON cannot say is replaced by rule. */
export function toJson (value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null'
  } catch {
    return JSON.stringify(sanitise(value, [], { nodes: MAX_NODES })) ?? 'null'
  }
}

/** @param left objects that may still be visited: those that refer to each other have more paths than any memory holds */
function sanitise (value: unknown, path: object[], left: { nodes: number }): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'function') return undefined // also one with a toJSON, which may throw again
  if (typeof value !== 'object' || value === null) return value
  if (left.nodes-- <= 0) return '[Too large]'
  if (path.includes(value)) return '[Circular]'
  if (path.length >= MAX_DEPTH) return '[Too deep]'
  try {
    const inner = [...path, value]
    if (typeof (value as { toJSON?: unknown }).toJSON === 'function') return sanitise((value as { toJSON: () => unknown }).toJSON(), inner, left)
    if (Array.isArray(value)) return value.map((item) => sanitise(item, inner, left))
    return Object.fromEntries(Object.keys(value).map((key) => [key, sanitise((value as Record<string, unknown>)[key], inner, left)]))
  } catch {
    return '[Unserializable]'
  }
}
