import type { FastifyBaseLogger } from 'fastify'
import {
  FAE_ERR_AGENT_INPUT, FAE_ERR_AGENT_OUTPUT, FAE_ERR_EVENT_INVALID, FAE_ERR_RUN_CANCELLED, FAE_ERR_RUN_ENDED, FAE_ERR_RUN_FAILED, FAE_ERR_RUN_STATE, FAE_ERR_RUN_TIMEOUT, FAE_ERR_TOOL_CANCELLED
} from '../../errors.js'
import { Usage, type EventData, type Failure, type RunInfo, type RunState, type RunStatus } from '../../schemas/index.js'
import { compileSchema, type Check } from '../../schemas/validate.js'
import type { Appended } from '../store/index.js'
import type { User } from '../thread-registry/user.js'
import type { RunIds } from '../tool-dispatcher/define-tool.js'
import { toFailure } from '../tool-dispatcher/failure.js'
import type { ToolCall, ToolRun } from '../tool-dispatcher/tool-dispatcher.js'
import type { TracedSpan } from '../tool-dispatcher/tracing.js'
import type { RunWriter } from '../websocket-notifier/run-writer.js'
import type { AgentContext, AgentInstance, AnyAgent } from './define-agent.js'

/** The longest reason of a cancel that is kept: it must fit into the event that says it. */
const REASON_CHARS = 1_000

/** How a run ends; `error` and `result` as agent_completed shows them, `thrown` as execute() rejects with. */
interface Ending { status: RunStatus, result?: unknown, error?: Failure, reason?: string, thrown?: Error }

export interface RunSetup {
  readonly definition: AnyAgent
  readonly ids: RunIds
  readonly messageId: string
  readonly user: User
  readonly context: Readonly<Record<string, unknown>>
  readonly startedAt: number
  readonly firstSeq: number
  readonly parent?: Run
  readonly log: FastifyBaseLogger
  readonly span?: TracedSpan | undefined
  readonly checkInput: Check
  readonly checkOutput: Check | undefined
  /** After so long a run that was created and never executed is ended. Milliseconds. */
  readonly createdTimeoutMs: number
  readonly timeoutMs: number
  makeContext (run: Run): AgentContext<any, any>
  openWriter (onFailed: (error: Error) => void): RunWriter
  /** The run is over and stored; `next` waits in its thread. Called once. */
  onEnd (run: Run, appended: Appended | undefined): void
}

const checkUsage = compileSchema(Usage)

/** One execution of an agent: created, running, then exactly one of success, error, cancelled, timeout, lost. */
export class Run implements AgentInstance<unknown, unknown>, ToolRun {
  readonly ids: RunIds
  readonly definition: AnyAgent
  readonly user: User
  readonly context: Readonly<Record<string, unknown>>
  readonly messageId: string
  readonly log: FastifyBaseLogger
  readonly writer: RunWriter
  readonly calls = new Set<ToolCall>()
  readonly children = new Set<Run>()
  readonly parent: Run | undefined
  readonly span: TracedSpan | undefined
  readonly #setup: RunSetup
  readonly #controller = new AbortController()
  /** Children whose agent_started is on its way. */
  readonly #starting = new Set<Promise<Run>>()
  readonly #usage = new Map<string, Usage>()
  #state: RunState = 'created'
  #timer: NodeJS.Timeout
  #stop: ((ending: Ending) => void) | undefined
  #ended: Promise<void> | undefined
  #ending: Ending | undefined
  /** Settles when agent_started is stored, for a run that waited in its thread's queue. */
  #begun: Promise<unknown> | undefined
  #firstSeq: number
  readonly #partBase: string
  #parts = 0

  constructor (setup: RunSetup) {
    this.#setup = setup
    this.ids = setup.ids
    this.definition = setup.definition
    this.user = setup.user
    this.context = setup.context
    this.messageId = setup.messageId
    this.#partBase = this.messageId.slice(this.messageId.indexOf('_') + 1)
    this.log = setup.log
    this.parent = setup.parent
    this.span = setup.span
    this.#firstSeq = setup.firstSeq
    this.writer = setup.openWriter((error) => { this.#writerFailed(error) })
    this.#timer = setTimeout(() => { this.#expire('created and never executed', setup.createdTimeoutMs) }, setup.createdTimeoutMs)
    this.parent?.children.add(this)
  }

  get agent (): string { return this.definition.name }
  get agentId (): string { return this.ids.agentId }
  get runId (): string { return this.ids.runId }
  get threadId (): string { return this.ids.threadId }
  get state (): RunState { return this.#state }
  get signal (): AbortSignal { return this.#controller.signal }
  get isLive (): boolean { return this.#ended === undefined }

  /** A new id for a block of text or thinking of this run. */
  partId (kind: 'part' | 'thinking'): string {
    return `${kind}_${this.#partBase}_${++this.#parts}`
  }

  describe (): RunInfo {
    const { startedAt } = this.#setup
    return {
      runId: this.runId,
      threadId: this.threadId,
      userId: this.user.userId,
      agentId: this.agentId,
      agent: this.agent,
      state: this.#state,
      startedAt: new Date(startedAt).toISOString(),
      ageMs: Math.max(0, Date.now() - startedAt),
      ...(this.parent !== undefined && { parentRunId: this.parent.runId })
    }
  }

  /** agent_started of a run that waited in its thread's queue. */
  async begin (data: EventData<'agent_started'>, takesOver: boolean): Promise<void> {
    const begun = this.writer.start(data, takesOver).then(({ seq }) => { this.#firstSeq = seq })
    this.#begun = begun.catch(() => {})
    await begun
  }

  /**
   * Runs the agent, once. Resolves with its result, or rejects with why there is none, when agent_completed is stored.
   * @throws FAE_ERR_RUN_STATE, FAE_ERR_AGENT_INPUT, FAE_ERR_RUN_FAILED, FAE_ERR_RUN_CANCELLED, FAE_ERR_RUN_TIMEOUT
   */
  async execute (input: unknown): Promise<unknown> {
    if (this.#state !== 'created') throw new FAE_ERR_RUN_STATE(this.runId, this.#state, 'a run executes once')
    this.#state = 'running'
    clearTimeout(this.#timer)
    this.span?.said(input)
    const ending = await new Promise<Ending>((resolve) => {
      this.#stop = resolve
      const { timeoutMs, checkInput, makeContext, definition } = this.#setup
      this.#timer = setTimeout(() => { this.#expire(undefined, timeoutMs) }, timeoutMs)
      const problem = checkInput(input)
      if (problem !== undefined) {
        const thrown = new FAE_ERR_AGENT_INPUT(this.agent, problem.path, problem.message)
        resolve({ status: 'error', error: toFailure(thrown, thrown.code), thrown })
        return
      }
      // In a then, so that an agent that throws at once rejects too.
      Promise.resolve().then(() => this.#within(() => definition.run(input, makeContext(this)))).then(
        (result) => { resolve(this.#succeeded(result)) },
        (error) => { resolve(this.#failed(error)) }
      )
    })
    await this.#end(ending)
    // A cancel in the same turn may have been first: execute() says what the log says.
    const { thrown, result } = this.#ending!
    if (thrown !== undefined) throw thrown
    return result
  }

  /** Ends the run as cancelled and resolves when that is stored; without effect when it has ended. */
  async cancel (given = 'cancelled'): Promise<void> {
    const reason = String(given).slice(0, REASON_CHARS)
    const thrown = new FAE_ERR_RUN_CANCELLED(this.agent, reason)
    await this.#interrupt({ status: 'cancelled', reason, error: toFailure(thrown, thrown.code), thrown })
  }

  /** A run that has ended starts no other, and one that is being started ends with it. @throws FAE_ERR_RUN_ENDED */
  async startChild (start: () => Promise<Run>): Promise<Run> {
    if (!this.isLive) throw new FAE_ERR_RUN_ENDED(this.runId)
    const starting = start()
    this.#starting.add(starting)
    try {
      return await starting
    } finally {
      this.#starting.delete(starting)
    }
  }

  /** @throws FAE_ERR_EVENT_INVALID that names the field: at the end it would be too late */
  usage (entry: Usage): void {
    const problem = checkUsage(entry)
    if (problem !== undefined) throw new FAE_ERR_EVENT_INVALID('agent_completed', `usage.${problem.path}`, problem.message)
    const sum = this.#usage.get(entry.model)
    if (sum === undefined) {
      this.#usage.set(entry.model, { ...entry })
      return
    }
    for (const [name, value] of Object.entries(entry)) {
      if (typeof value === 'number') (sum as Record<string, unknown>)[name] = ((sum as Record<string, unknown>)[name] as number | undefined ?? 0) + value
    }
  }

  #within<T> (fn: () => T): T {
    return this.span === undefined ? fn() : this.span.within(fn)
  }

  #expire (what: string | undefined, afterMs: number): void {
    const thrown = new FAE_ERR_RUN_TIMEOUT(this.agent, afterMs)
    const error = toFailure(thrown, thrown.code)
    this.#interrupt({ status: 'timeout', error: what === undefined ? error : { ...error, message: `${what} within ${afterMs} ms` }, thrown }).catch(() => {})
  }

  async #interrupt (ending: Ending): Promise<void> {
    // One that is executing rejects with this ending, unless another was first.
    this.#stop?.(ending)
    await this.#end(ending)
  }

  #succeeded (result: unknown): Ending {
    const problem = this.#setup.checkOutput?.(result)
    if (problem === undefined) return { status: 'success', result }
    const thrown = new FAE_ERR_AGENT_OUTPUT(this.agent, problem.path, problem.message)
    return { status: 'error', error: toFailure(thrown, thrown.code), thrown }
  }

  #failed (error: unknown): Ending {
    const failure = toFailure(error, 'FAE_ERR_RUN_FAILED')
    return { status: 'error', error: failure, thrown: new FAE_ERR_RUN_FAILED(this.agent, failure.message, { cause: error }) }
  }

  /** The first ending counts. Everything open is closed, then agent_completed is stored, then nothing of the run is left. */
  #end (ending: Ending): Promise<void> {
    if (this.#ended === undefined) {
      let settle!: (ended: Promise<void>) => void
      // Known before anybody hears of it: whoever listens to the abort may ask for the end again.
      this.#ended = new Promise((resolve) => { settle = resolve })
      this.#ending = ending
      settle(this.#doEnd(ending))
    }
    return this.#ended
  }

  async #doEnd (ending: Ending): Promise<void> {
    this.#state = ending.status
    clearTimeout(this.#timer)
    this.writer.seal()
    const cause = ending.thrown ?? new FAE_ERR_RUN_CANCELLED(this.agent, 'the run has ended')
    for (const call of [...this.calls]) call.abort(new FAE_ERR_TOOL_CANCELLED(call.tool))
    this.#controller.abort(cause)
    // Its end does not overtake its start.
    await this.#begun
    // A child run lives inside its parent's: it ends before.
    await Promise.allSettled(this.#starting)
    for (const child of [...this.children]) await child.cancel(`the run of agent '${this.agent}' that called it has ended`)
    let appended: Appended | undefined
    try {
      appended = await this.#finish(ending)
    } catch (error) {
      this.log.warn({ err: error }, 'agent_completed was not stored')
    }
    this.parent?.children.delete(this)
    const { status, error, result } = ending
    this.span?.endRun(status, { ...(error !== undefined && { error }), output: result }, [...this.#usage.values()])
    this.#setup.onEnd(this, appended)
  }

  async #finish (ending: Ending): Promise<Appended> {
    try {
      return await this.writer.finish(ending.status, (counts) => this.#completed(ending, counts))
    } catch (error) {
      const { code } = error as { code?: string }
      if (code !== 'FAE_ERR_EVENT_TOO_LARGE' && code !== 'FAE_ERR_EVENT_INVALID' && code !== 'FAE_ERR_EVENT_REDACT') throw error
      // What the agent returned or used cannot be said: that is how the run ended, and what is left of it always has room.
      ending.status = this.#state = 'error'
      ending.error = toFailure(error, code)
      ending.thrown = new FAE_ERR_RUN_FAILED(this.agent, ending.error.message, { cause: error })
      delete ending.result
      this.#usage.clear()
      return this.writer.finish('error', (counts) => this.#completed(ending, counts), Infinity)
    }
  }

  #completed ({ status, result, error, reason }: Ending, counts: EventData<'agent_completed'>['counts']): EventData<'agent_completed'> {
    return {
      agent: this.agent,
      status,
      ...(status === 'success' && result !== undefined && { result }),
      ...(error !== undefined && { error }),
      ...(reason !== undefined && { reason }),
      ...(this.#usage.size > 0 && { usage: [...this.#usage.values()] }),
      durationMs: Math.max(0, Date.now() - this.#setup.startedAt),
      counts,
      firstSeq: this.#firstSeq
    }
  }

  #writerFailed (error: Error): void {
    const failure = toFailure(error, 'FAE_ERR_RUN_FAILED')
    const thrown = new FAE_ERR_RUN_FAILED(this.agent, failure.message, { cause: error })
    this.#interrupt({ status: 'error', error: failure, thrown }).catch(() => {})
  }
}
