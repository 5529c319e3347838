import type { AnyAgent } from '../../plugins/agent-registry/define-agent.js'
import type { AnyTool } from '../../plugins/tool-dispatcher/define-tool.js'
import type { Failure, RunStatus, Step, ThinkingKind, ToolStatus, Usage } from '../../schemas/index.js'
import type { AgentOutput, AgentsOf, ThreadStatus, ToolInput, ToolOutput, ToolsOf } from '../types.js'

/*
 * What a page shows of a thread, typed by the server's definitions like the client: T is `typeof agents`. Within a message
 * a part is told apart by its `type` and `id`.
 */

export interface TextPart {
  readonly type: 'text'
  readonly id: string
  readonly text: string
  /** streaming: more of it may come. */
  readonly state: 'streaming' | 'done'
  readonly finishReason?: string
}

/** A file that the user sent. */
export interface FilePart {
  readonly type: 'file'
  readonly id: string
  readonly mediaType: string
  readonly url: string
  readonly filename?: string
}

export interface ThinkingPart {
  readonly type: 'thinking'
  readonly id: string
  readonly kind: ThinkingKind
  readonly text: string
  readonly state: 'streaming' | 'done'
  readonly step?: Step
}

export interface CustomPart {
  readonly type: 'custom'
  readonly id: string
  readonly name: string
  readonly value?: unknown
}

interface ToolCall {
  readonly type: 'tool'
  /** The same as toolCallId. */
  readonly id: string
  readonly toolCallId: string
  readonly attempt: number
  readonly title?: string
  /** The fraction that is done. */
  readonly progress?: number
  /** What is being done. */
  readonly progressText?: string
}

/**
 * A call of each tool, narrowed by `tool` and `state`. input: a model is still writing the arguments. The args of a call of
 * which only the end is retained are an empty object.
 */
export type ToolPart<T = AnyAgent> = ToolPartOf<ToolsOf<T>>
type ToolPartOf<T> = T extends AnyTool
  ? ToolCall & { readonly tool: T['name'] } & (
    | { readonly state: 'input', readonly argsText: string, readonly args?: undefined, readonly output?: undefined, readonly error?: undefined, readonly durationMs?: undefined }
    | { readonly state: 'running', readonly args: ToolInput<T>, readonly output?: undefined, readonly error?: undefined, readonly durationMs?: undefined }
    | { readonly state: 'ok', readonly args: ToolInput<T>, readonly output: ToolOutput<T>, readonly error?: undefined, readonly durationMs: number, readonly truncated?: { readonly bytes: number } }
    | { readonly state: Exclude<ToolStatus, 'ok'>, readonly args: ToolInput<T>, readonly output?: undefined, readonly error: Failure, readonly durationMs: number })
  : never

/** A piece of a message. */
export type Part<T = AnyAgent> = TextPart | FilePart | ThinkingPart | ToolPart<T> | CustomPart

/** What a user or an agent said and did, its parts in the order in which they began. */
export interface Message<T = AnyAgent> {
  readonly id: string
  readonly role: 'user' | 'assistant'
  /** Of a user: the run that answers; of an assistant: the run that speaks. */
  readonly runId?: string
  readonly parts: readonly Part<T>[]
}

interface RunFacts {
  readonly runId: string
  /** ISO 8601, by the clock of the server. */
  readonly startedAt: string
  readonly parentRunId?: string
}

/** One execution of an agent. It is running until its agent_completed has arrived, however long that takes. */
export type Run<T = AnyAgent> = RunOf<AgentsOf<T>>
type RunOf<A> = A extends AnyAgent
  ? RunFacts & { readonly agent: A['name'] } & (
    | { readonly status: 'running', readonly result?: undefined, readonly error?: undefined, readonly reason?: undefined, readonly durationMs?: undefined, readonly usage?: undefined }
    | RunEnd & (
      | { readonly status: 'success', readonly result: AgentOutput<A>, readonly error?: undefined, readonly reason?: undefined }
      | { readonly status: 'cancelled', readonly result?: undefined, readonly error?: Failure, readonly reason?: string }
      | { readonly status: Exclude<RunStatus, 'success' | 'cancelled'>, readonly result?: undefined, readonly error: Failure, readonly reason?: undefined }))
  : never
interface RunEnd { readonly durationMs: number, readonly usage?: readonly Usage[] }

/** What is known of a thread. Nothing in it is ever changed: what is the same is the same object. */
export interface ThreadState<T = AnyAgent> {
  /** In the order in which they began. */
  readonly messages: readonly Message<T>[]
  /** In the order in which they began. */
  readonly runs: readonly Run<T>[]
  readonly status: ThreadStatus
  /** The id of the last event; undefined before the first. */
  readonly cursor: string | undefined
}
