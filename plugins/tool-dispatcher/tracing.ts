import type { Attributes, Context, Span } from '@opentelemetry/api'
import { FAE_ERR_OPTION_INVALID, FAE_ERR_PACKAGE_MISSING } from '../../errors.js'
import type { Failure, Usage } from '../../schemas/index.js'
import { toJson } from '../websocket-notifier/encode.js'

/*
 * Spans of OpenTelemetry by its conventions for generative AI: one for each run, in it one for each tool call and each
 * agent that is called. Who collects them is the host's: without an SDK the API does nothing.
 */

export interface TracingOptions {
  /** Arguments, results, messages and the texts of errors too: they may hold what nobody should see. @default false */
  content?: boolean
}

type Api = typeof import('@opentelemetry/api')

interface Outcome {
  /** Missing when it went well. */
  readonly error?: Failure
  readonly output?: unknown
}

interface RunDescription {
  readonly agent: string
  readonly description: string
  readonly version?: string | undefined
  readonly agentId: string
  readonly runId: string
  readonly threadId: string
}

/** Loaded when the option is used. */
export class Tracing {
  readonly #api: Api
  readonly #content: boolean

  /** @throws FAE_ERR_OPTION_INVALID, FAE_ERR_PACKAGE_MISSING */
  static async load (option: boolean | TracingOptions | undefined): Promise<Tracing | undefined> {
    if (option === undefined || option === false) return undefined
    if (option !== true && (typeof option !== 'object' || option === null)) throw new FAE_ERR_OPTION_INVALID('tracing', 'expected true, false or { content }')
    try {
      return new Tracing(await import('@opentelemetry/api'), option !== true && option.content === true)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
      throw new FAE_ERR_PACKAGE_MISSING('The option tracing', '@opentelemetry/api', '@opentelemetry/api')
    }
  }

  private constructor (api: Api, content: boolean) {
    this.#api = api
    this.#content = content
  }

  /** A run, under whatever span is active now or under the run that calls it. */
  startRun ({ agent, description, version, agentId, runId, threadId }: RunDescription, parent?: TracedSpan): TracedSpan {
    return this.#start(`invoke_agent ${agent}`, {
      'gen_ai.operation.name': 'invoke_agent',
      'gen_ai.agent.name': agent,
      'gen_ai.agent.description': description,
      ...(version !== undefined && { 'gen_ai.agent.version': version }),
      'gen_ai.agent.id': agentId,
      'gen_ai.conversation.id': threadId,
      'agent_events.run.id': runId
    }, parent?.context ?? this.#api.context.active())
  }

  /** What begins by itself, like a run whose turn has come, is no part of what happened to be active then. */
  detached<T> (fn: () => T): T {
    return this.#api.context.with(this.#api.ROOT_CONTEXT, fn)
  }

  #start (name: string, attributes: Attributes, parent: Context): TracedSpan {
    // Asked for each time: a host may set its SDK up later.
    const span = this.#api.trace.getTracer('fastify-agent-events').startSpan(name, { attributes }, parent)
    return new TracedSpan(this.#api, span, this.#content, this.#api.trace.setSpan(parent, span), (child, more, context) => this.#start(child, more, context))
  }
}

/** A span and what happens in it. */
export class TracedSpan {
  readonly #api: Api
  readonly #span: Span
  readonly #content: boolean
  readonly #own: Context
  readonly #start: (name: string, attributes: Attributes, parent: Context) => TracedSpan

  /** @internal */
  constructor (api: Api, span: Span, content: boolean, own: Context, start: (name: string, attributes: Attributes, parent: Context) => TracedSpan) {
    this.#api = api
    this.#span = span
    this.#content = content
    this.#own = own
    this.#start = start
  }

  /** The parent of what begins now: a span that the agent itself has opened, else this one. @internal */
  get context (): Context {
    const active = this.#api.context.active()
    return this.#api.trace.getSpanContext(active)?.traceId === this.#span.spanContext().traceId ? active : this.#own
  }

  startTool (tool: string, description: string | undefined, toolCallId: string, args: unknown): TracedSpan {
    return this.#start(`execute_tool ${tool}`, {
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': tool,
      'gen_ai.tool.type': 'function',
      'gen_ai.tool.call.id': toolCallId,
      ...(description !== undefined && { 'gen_ai.tool.description': description }),
      ...(this.#content && { 'gen_ai.tool.call.arguments': toJson(args) })
    }, this.context)
  }

  /** Calls it with this span active, so that what it does lands under it. */
  within<T> (fn: () => T): T {
    return this.#api.context.with(this.#own, fn)
  }

  /** @param input of the agent, as messages */
  said (input: unknown): void {
    if (this.#content) this.#span.setAttribute('gen_ai.input.messages', messages('user', input))
  }

  endTool (outcome: Outcome): void {
    if (this.#content && outcome.output !== undefined) this.#span.setAttribute('gen_ai.tool.call.result', toJson(outcome.output))
    this.#end(outcome)
  }

  endRun (status: string, outcome: Outcome, usage: readonly Usage[]): void {
    this.#span.setAttribute('agent_events.run.status', status)
    if (usage.length > 0) {
      const sum = (field: 'inputTokens' | 'outputTokens'): number => usage.reduce((total, entry) => total + (entry[field] ?? 0), 0)
      this.#span.setAttributes({ 'gen_ai.request.model': usage[0]!.model, 'gen_ai.usage.input_tokens': sum('inputTokens'), 'gen_ai.usage.output_tokens': sum('outputTokens') })
    }
    if (this.#content && outcome.output !== undefined) this.#span.setAttribute('gen_ai.output.messages', messages('assistant', outcome.output))
    this.#end(outcome)
  }

  #end ({ error }: Outcome): void {
    if (error !== undefined) {
      this.#span.setAttribute('error.type', error.code)
      this.#span.setStatus({ code: this.#api.SpanStatusCode.ERROR, ...(this.#content && { message: error.message }) })
    }
    this.#span.end()
  }
}

/** As the conventions write messages. */
function messages (role: 'user' | 'assistant', content: unknown): string {
  return toJson([{ role, parts: [{ type: 'text', content: typeof content === 'string' ? content : toJson(content) }] }])
}
