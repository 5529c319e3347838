import { randomUUID } from 'node:crypto'
import type { TSchema } from '@sinclair/typebox'
import type { EventData, EventType } from '../../schemas/index.js'
import { compileSchema, type Check } from '../../schemas/validate.js'
import { encodeScope } from '../websocket-notifier/encode.js'
import type { LegacyHost, Target } from './bridge.js'
import type { LegacyCreateContext } from './instance-factory.js'
import type { ReadMessage } from './message.js'
import { translate, type Meaning } from './translate.js'

/** Something that would have gone otherwise had the run been the master registry's. */
export interface Difference {
  /** creation: of the agent; routing: to whom an event goes; schema: what may be said; sequence: in which order. */
  readonly rule: 'creation' | 'routing' | 'schema' | 'sequence'
  /** The error code that the master registry would have answered with, or a word for what it would have done. */
  readonly code: string
  readonly message: string
  readonly agent: string
  readonly runId: string
  readonly userId?: string
  /** Of the legacy message. */
  readonly type?: string
}

const checks = new WeakMap<TSchema, Check>()

/** One run of the legacy side as the master's rules see it. Stores nothing, runs nothing, tells only what differs. */
export class ShadowRun {
  readonly #host: LegacyHost
  readonly #agent: string
  readonly #runId: string
  readonly #userId: string | undefined
  readonly #threadId: string | undefined
  readonly #report: (difference: Difference) => void
  readonly #tools = new Map<string, number>()
  #started = 0
  #completed = 0
  #isOver = false

  constructor (host: LegacyHost, agent: string, runId: string, context: Partial<LegacyCreateContext>, report: (difference: Difference) => void) {
    this.#host = host
    this.#agent = agent
    this.#runId = runId
    this.#userId = context.userId ?? context.user_id
    this.#threadId = context.threadId ?? context.thread_id
    this.#report = report
  }

  /** Would the registry have created it? */
  async created (): Promise<void> {
    const { agents, threads } = this.#host
    const known = agents.list().map(({ name }) => name)
    if (!known.includes(this.#agent)) this.#differs('creation', 'FAE_ERR_AGENT_NOT_FOUND', `agent '${this.#agent}' is not registered; known are: ${known.join(', ') || 'none'}`)
    try {
      threads.checkUserId(this.#userId)
    } catch (error) {
      this.#differs('creation', (error as { code: string }).code, (error as Error).message)
    }
    const id = this.#threadId
    if (id === undefined) return
    const state = await threads.find(id)
    if (state !== undefined && state.record.userId !== this.#userId) this.#differs('creation', 'FAE_ERR_THREAD_NOT_FOUND', `thread '${id}' is not this user's`)
    if (state === undefined && await threads.resolveRun(id).then(() => true, () => false)) this.#differs('routing', 'run_id_as_thread_id', `'${id}' is a run's id where a thread's is expected`)
  }

  /** Would the agent's schema have let this in? */
  input (input: unknown): void {
    const schema = this.#host.agents.list().find(({ name }) => name === this.#agent)?.inputSchema as TSchema | undefined
    const problem = schema === undefined ? undefined : checkOf(schema)(input)
    if (problem !== undefined) this.#differs('schema', 'FAE_ERR_AGENT_INPUT', `input at '${problem.path}': ${problem.message}`)
  }

  /** Would this have been said, there and then? */
  async message (read: ReadMessage, target: Target): Promise<void> {
    const meaning = translate(read)
    this.#sequence(read, meaning)
    this.#schema(read, meaning)
    if (target.isUser !== true) await this.#routing(read, target.id)
  }

  /** The legacy side's execute has settled. */
  settled (): void {
    if (this.#started === 0) this.#differs('sequence', 'no_agent_started', 'the run never said agent_started; the registry would have')
    if (this.#completed === 0) this.#differs('sequence', 'no_agent_completed', 'the run ended without agent_completed; the registry would have sent it')
    for (const [tool, open] of this.#tools) if (open > 0) this.#differs('sequence', 'no_tool_completed', `${open} call(s) of '${tool}' never ended; the registry would have ended them`)
    this.#isOver = true
  }

  #sequence ({ type }: ReadMessage, meaning: Meaning): void {
    if (meaning.kind === 'started' && ++this.#started > 1) this.#differs('sequence', 'agent_started_twice', 'agent_started was said again', type)
    if (meaning.kind !== 'started' && this.#started === 0) this.#differs('sequence', 'before_agent_started', `'${type}' came before agent_started`, type)
    if (meaning.kind === 'completed') {
      if (++this.#completed > 1) this.#differs('sequence', 'agent_completed_twice', 'agent_completed was said again', type)
    } else if (this.#completed > 0 || this.#isOver) {
      this.#differs('sequence', 'FAE_ERR_RUN_ENDED', `'${type}' came after the end of its run`, type)
    }
    if (meaning.kind !== 'tool_start' && meaning.kind !== 'tool_end') return
    const open = this.#tools.get(meaning.tool) ?? 0
    if (meaning.kind === 'tool_end' && open === 0) this.#differs('sequence', 'no_tool_executing', `'${meaning.tool}' ended without a beginning`, type)
    this.#tools.set(meaning.tool, Math.max(0, open + (meaning.kind === 'tool_start' ? 1 : -1)))
  }

  #schema ({ type }: ReadMessage, meaning: Meaning): void {
    const event = this.#eventOf(meaning)
    if (event === undefined) return
    try {
      this.#host.notifier.encoder.encode(encodeScope({ threadId: this.#threadId ?? 'inbox', runId: this.#runId }), event.type, event.data)
    } catch (error) {
      this.#differs('schema', (error as { code?: string }).code ?? 'FAE_ERR_EVENT_INVALID', (error as Error).message, type)
    }
    if (meaning.kind === 'other' && KNOWN.has(type)) this.#differs('schema', 'legacy_message', `'${type}' lacks what the event needs: it would have been a custom event`, type)
    if (meaning.kind === 'tool_start' && !this.#host.tools.has(meaning.tool)) this.#differs('schema', 'FAE_ERR_TOOL_NOT_FOUND', `tool '${meaning.tool}' is not registered`, type)
  }

  #eventOf (meaning: Meaning): { type: EventType, data: EventData<any> } | undefined {
    const ids = { agent: this.#agent }
    switch (meaning.kind) {
      case 'started':
      case 'completed': return undefined
      case 'thinking': return { type: 'agent_thinking', data: { ...ids, thinkingId: 'thinking', kind: 'status', phase: 'full', text: meaning.text } }
      case 'answer': return { type: 'assistant_message', data: { ...ids, messageId: 'msg', partId: 'part', phase: 'full', text: meaning.text } }
      case 'tool_start': return { type: 'tool_executing', data: { ...ids, toolCallId: meaning.toolCallId ?? randomUUID(), tool: meaning.tool, phase: 'start', args: meaning.args, attempt: 1 } }
      case 'tool_end': return { type: 'tool_completed', data: { ...ids, toolCallId: meaning.toolCallId ?? randomUUID(), tool: meaning.tool, ...meaning.outcome, durationMs: meaning.durationMs ?? 0 } }
      case 'other': return { type: 'custom', data: meaning.data }
    }
  }

  async #routing ({ type, runId, threadId }: ReadMessage, target: string | undefined): Promise<void> {
    for (const id of new Set([target, threadId])) {
      if (id === undefined || id === this.#userId) continue
      const state = await this.#host.threads.find(id)
      if (state !== undefined) {
        if (state.record.userId !== this.#userId) this.#differs('routing', 'other_users_thread', `'${type}' names thread '${id}' of another user; it would have stayed in its run`, type)
      } else if (id === runId || id === this.#runId || await this.#host.threads.resolveRun(id).then(() => true, () => false)) {
        this.#differs('routing', 'run_id_as_thread_id', `'${type}' goes to '${id}', a run's id; it would have reached the run's thread`, type)
      } else if (id !== this.#threadId) {
        this.#differs('routing', 'FAE_ERR_THREAD_NOT_FOUND', `'${type}' goes to '${id}', which is no registered thread`, type)
      }
    }
  }

  #differs (rule: Difference['rule'], code: string, message: string, type?: string): void {
    this.#report({ rule, code, message, agent: this.#agent, runId: this.#runId, ...(this.#userId !== undefined && { userId: this.#userId }), ...(type !== undefined && { type }) })
  }
}

const KNOWN = new Set(['agent_thinking', 'assistant_message', 'tool_executing', 'tool_completed'])

function checkOf (schema: TSchema): Check {
  let check = checks.get(schema)
  if (check === undefined) checks.set(schema, check = compileSchema(schema))
  return check
}
