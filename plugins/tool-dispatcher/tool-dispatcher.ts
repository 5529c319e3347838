import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import {
  FAE_ERR_EVENT_TOO_LARGE, FAE_ERR_NOTIFIER_MISSING, FAE_ERR_NOTIFIER_SET, FAE_ERR_TOOL_CALL_DUPLICATE, FAE_ERR_TOOL_CALL_OVER, FAE_ERR_TOOL_CANCELLED, FAE_ERR_TOOL_DUPLICATE, FAE_ERR_TOOL_FAILED,
  FAE_ERR_TOOL_INPUT, FAE_ERR_TOOL_INVALID, FAE_ERR_TOOL_NOT_FOUND, FAE_ERR_TOOL_OUTPUT, FAE_ERR_TOOL_TIMEOUT
} from '../../errors.js'
import type { EventData, Failure, ToolInfo, ToolStatus } from '../../schemas/index.js'
import { compileSchema, type Check } from '../../schemas/validate.js'
import type { User } from '../thread-registry/user.js'
import { toJson } from '../websocket-notifier/encode.js'
import type { RunWriter } from '../websocket-notifier/run-writer.js'
import type { AnyTool, RunIds, ToolContext } from './define-tool.js'
import { toFailure } from './failure.js'
import type { TracedSpan } from './tracing.js'

/** The run in which a tool is called. */
export interface ToolRun {
  readonly ids: RunIds
  readonly agent: string
  readonly user: User
  readonly log: FastifyBaseLogger
  readonly writer: RunWriter
  /** Calls that are under way: cancelling the run aborts them. */
  readonly calls: Set<ToolCall>
  /** Where tracing is on. */
  readonly span?: TracedSpan | undefined
}

export interface CallOptions {
  /** The model's own id of the call. @default a new one */
  toolCallId?: string
  /** The arguments as the model wrote them, shown before the call starts. */
  argsText?: string
}

interface Registered { readonly tool: AnyTool, readonly checkInput: Check, readonly checkOutput: Check | undefined }

interface CallIds { readonly agent: string, readonly toolCallId: string, readonly tool: string }

/** Room that the envelope of a tool_completed needs beside its output. */
export const ENVELOPE_BYTES = 2_048

/** Runs a tool between its tool_executing and its tool_completed, and knows all tools of the app. */
export class ToolDispatcher {
  readonly #tools = new Map<string, Registered>()
  readonly #defaultTimeoutMs: number
  #notifier: object | undefined

  constructor (defaultTimeoutMs: number) {
    this.#defaultTimeoutMs = defaultTimeoutMs
  }

  /** From now on every call of every agent is wrapped in its events. @throws FAE_ERR_NOTIFIER_SET for another one */
  setNotifier (notifier: object): void {
    if (this.#notifier !== undefined && this.#notifier !== notifier) throw new FAE_ERR_NOTIFIER_SET()
    this.#notifier = notifier
  }

  /** The same tool object may be registered again. @throws FAE_ERR_TOOL_DUPLICATE for another one of its name */
  register (tool: AnyTool): void {
    if (typeof tool?.execute !== 'function' || typeof tool.name !== 'string') throw new FAE_ERR_TOOL_INVALID(String(tool?.name), 'it must come from defineTool')
    const known = this.#tools.get(tool.name)
    if (known?.tool === tool) return
    if (known !== undefined) throw new FAE_ERR_TOOL_DUPLICATE(tool.name)
    this.#tools.set(tool.name, {
      tool,
      checkInput: compileSchema(tool.inputSchema),
      checkOutput: tool.outputSchema === undefined ? undefined : compileSchema(tool.outputSchema)
    })
  }

  /** @throws FAE_ERR_TOOL_NOT_FOUND that lists the known ones */
  get (name: string): AnyTool {
    return this.#get(name).tool
  }

  has (name: string): boolean {
    return this.#tools.has(name)
  }

  list (): ToolInfo[] {
    return [...this.#tools.values()].map(({ tool: { name, description, inputSchema, outputSchema, timeoutMs } }) => ({
      name,
      description,
      inputSchema,
      ...(outputSchema !== undefined && { outputSchema }),
      timeoutMs: timeoutMs ?? this.#defaultTimeoutMs
    }))
  }

  /**
   * Calls a tool for a run; resolves with its output once tool_completed is stored.
   * @param allowed names of the tools that this caller may use
   * @throws FAE_ERR_TOOL_NOT_FOUND, FAE_ERR_TOOL_INPUT, FAE_ERR_TOOL_OUTPUT, FAE_ERR_TOOL_FAILED, FAE_ERR_TOOL_TIMEOUT, FAE_ERR_TOOL_CANCELLED
   */
  async call (run: ToolRun, name: string, args: unknown, allowed: ReadonlySet<string>, options: CallOptions = {}): Promise<unknown> {
    if (this.#notifier === undefined) throw new FAE_ERR_NOTIFIER_MISSING()
    const toolCallId = options.toolCallId ?? `call_${randomUUID()}`
    if (run.writer.isOpen('tool', toolCallId)) throw new FAE_ERR_TOOL_CALL_DUPLICATE(toolCallId)
    const registered = allowed.has(name) ? this.#tools.get(name) : undefined
    const timeoutMs = registered?.tool.timeoutMs ?? this.#defaultTimeoutMs
    const ids = { agent: run.agent, toolCallId, tool: name }
    if (options.argsText !== undefined) {
      await run.writer.emit('tool_executing', { ...ids, phase: 'input_delta', argsText: options.argsText, attempt: 1 })
    }
    const startedAt = performance.now()
    try {
      await run.writer.emit('tool_executing', { ...ids, phase: 'start', args, attempt: 1, timeoutMs })
    } catch (error) {
      // Its input was shown already: what was begun is ended.
      if (run.writer.isOpen('tool', toolCallId)) await this.#complete(run, ids, failed(name, error), performance.now() - startedAt)
      throw error
    }
    const span = run.span?.startTool(name, registered?.tool.description, toolCallId, args)
    const call = new ToolCall(run, ids, timeoutMs, span)
    let outcome: Outcome
    try {
      if (registered === undefined) throw new FAE_ERR_TOOL_NOT_FOUND(name, [...allowed].join(', ') || 'none')
      const problem = registered.checkInput(args)
      if (problem !== undefined) throw new FAE_ERR_TOOL_INPUT(name, problem.path, problem.message)
      const output = await call.execute(registered.tool, args)
      const wrong = registered.checkOutput?.(output)
      if (wrong !== undefined) throw new FAE_ERR_TOOL_OUTPUT(name, wrong.path, wrong.message)
      outcome = { status: 'ok', output }
    } catch (error) {
      outcome = failed(name, error)
    } finally {
      call.dispose()
    }
    span?.endTool(outcome)
    // The run ended meanwhile: it has closed this call already.
    if (run.writer.isSealed) throw new FAE_ERR_TOOL_CANCELLED(name)
    await this.#complete(run, ids, outcome, performance.now() - startedAt)
    if (outcome.status === 'ok') return outcome.output
    throw outcome.thrown
  }

  async #complete (run: ToolRun, ids: CallIds, outcome: Outcome, durationMs: number): Promise<void> {
    const data: EventData<'tool_completed'> = {
      ...ids,
      status: outcome.status,
      ...(outcome.status === 'ok' ? { output: outcome.output } : { error: outcome.error }),
      durationMs: Math.round(durationMs * 1_000) / 1_000
    }
    try {
      await run.writer.emit('tool_completed', data)
    } catch (error) {
      if (!(error instanceof FAE_ERR_EVENT_TOO_LARGE)) throw error
      await run.writer.emit('tool_completed', { ...data, ...cut(data.output, run.writer.maxEventBytes - ENVELOPE_BYTES) })
    }
  }

  #get (name: string): Registered {
    const registered = this.#tools.get(name)
    if (registered === undefined) throw new FAE_ERR_TOOL_NOT_FOUND(name, [...this.#tools.keys()].join(', ') || 'none')
    return registered
  }
}

type Outcome = { status: 'ok', output: unknown } | { status: Exclude<ToolStatus, 'ok'>, error: Failure, thrown: Error }

/** One call under way: ends with the tool, its timeout, or its run, whichever is first. */
export class ToolCall {
  readonly #run: ToolRun
  readonly #ids: CallIds
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  #stop: ((error: Error) => void) | undefined
  readonly #span: TracedSpan | undefined
  #isOver = false

  constructor (run: ToolRun, ids: CallIds, timeoutMs: number, span?: TracedSpan) {
    this.#run = run
    this.#span = span
    this.#ids = ids
    this.#timer = setTimeout(() => { this.abort(new FAE_ERR_TOOL_TIMEOUT(ids.tool, timeoutMs)) }, timeoutMs)
    run.calls.add(this)
  }

  get tool (): string { return this.#ids.tool }

  execute (tool: AnyTool, args: unknown): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#stop = reject
      if (this.#run.writer.isSealed) reject(new FAE_ERR_TOOL_CANCELLED(tool.name))
      // In a then, so that a tool that throws at once rejects too.
      else Promise.resolve().then(() => this.#span === undefined ? tool.execute(args, this.#context()) : this.#span.within(() => tool.execute(args, this.#context()))).then(resolve, reject)
    })
  }

  abort (error: Error): void {
    this.#stop?.(error)
    this.#controller.abort(error)
  }

  dispose (): void {
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#run.calls.delete(this)
  }

  async #progress (fraction: number, text: string | undefined): Promise<void> {
    // Nothing follows a tool_completed: it would open the call again.
    if (this.#isOver) throw new FAE_ERR_TOOL_CALL_OVER(this.#ids.toolCallId)
    await this.#run.writer.emit('tool_executing', { ...this.#ids, phase: 'progress', progress: fraction, ...(text !== undefined && { progressText: text }), attempt: 1 })
  }

  #context (): ToolContext {
    const run = this.#run
    const ids = this.#ids
    return {
      signal: this.#controller.signal,
      toolCallId: ids.toolCallId,
      user: run.user,
      run: run.ids,
      log: run.log.child({ toolCallId: ids.toolCallId, tool: ids.tool }),
      progress: (fraction, text) => {
        const promise = this.#progress(fraction, text)
        // Need not be awaited: a tool that goes on after its timeout must not end the process.
        promise.catch(() => {})
        return promise
      }
    }
  }
}

function failed (name: string, error: unknown): Outcome {
  if (error instanceof FAE_ERR_TOOL_TIMEOUT) return { status: 'timeout', error: toFailure(error, error.code), thrown: error }
  if (error instanceof FAE_ERR_TOOL_CANCELLED) return { status: 'cancelled', error: toFailure(error, error.code), thrown: error }
  if (error instanceof FAE_ERR_TOOL_NOT_FOUND || error instanceof FAE_ERR_TOOL_INPUT || error instanceof FAE_ERR_TOOL_OUTPUT) {
    return { status: 'error', error: toFailure(error, error.code), thrown: error }
  }
  const failure = toFailure(error, 'FAE_ERR_TOOL_FAILED')
  return { status: 'error', error: failure, thrown: new FAE_ERR_TOOL_FAILED(name, failure.message, { cause: error }) }
}

/** An output too large for one event becomes the beginning of its JSON, and says how large it was. */
export function cut (output: unknown, maxBytes: number): { output: string, truncated: { bytes: number } } {
  const json = toJson(output)
  // As a string inside JSON each unit may take six bytes.
  return { output: json.slice(0, Math.floor(maxBytes / 6)), truncated: { bytes: Buffer.byteLength(json) } }
}
