import { KindGuard, Type, type Static, type TObject, type TSchema, type TString } from '@sinclair/typebox'
import type { FastifyBaseLogger } from 'fastify'
import { FAE_ERR_AGENT_INVALID } from '../../errors.js'
import { isValidName, type EventPosition, type JsonObject, type MessageContent, type Step, type ThinkingKind, type Usage } from '../../schemas/index.js'
import { LONGEST_TIMER_MS } from '../options.js'
import type { User } from '../thread-registry/user.js'
import type { AnyTool, Call, MaybePromise, RunIds, ToolCalls } from '../tool-dispatcher/define-tool.js'

// ---------- what an agent gets ----------

/** What is said or thought: a text at once, or its pieces as a model produces them. */
export type TextSource = string | AsyncIterable<string>

export interface ThinkOptions {
  /** reasoning: the model's own; status: what the agent is doing, for people. @default 'status' */
  kind?: ThinkingKind
  /** Where the agent is in its plan. */
  step?: Step
  metadata?: JsonObject
}

export interface SayOptions { metadata?: JsonObject }

export interface CallToolOptions {
  /** The model's own id of the call. @default a new one */
  toolCallId?: string
  /** The arguments as the model wrote them, while they come; emitted as phase input_delta. */
  argsText?: string
}

/** One message of the conversation so far, folded from the log. */
export interface ConversationMessage {
  readonly role: 'user' | 'assistant'
  readonly content: string
  readonly messageId: string
  /** The run that said it, for role assistant. */
  readonly runId?: string
}

export interface AgentContext<Tools extends readonly AnyTool[] = readonly AnyTool[], Agents extends readonly AnyAgent[] = readonly AnyAgent[]> {
  /** The agent's own tools, as functions. A failed call rejects and may be caught. */
  readonly tools: ToolCalls<Tools>
  /** The agents that it may call, as functions. Each call is a run of its own. */
  readonly agents: AgentCalls<Agents>
  /** Aborted when the run is cancelled or times out. */
  readonly signal: AbortSignal
  readonly run: RunIds
  readonly user: User
  /** What createForUser was given for this run; freed with it. */
  readonly context: Readonly<Record<string, unknown>>
  /** A child logger that carries the ids of the run. */
  readonly log: FastifyBaseLogger
  /** Shows what the agent is thinking. Resolves once it is stored. */
  think (text: TextSource, options?: ThinkOptions): Promise<void>
  /** Answers, as a part of the run's one message. Resolves with the whole text once it is stored. */
  say (text: TextSource, options?: SayOptions): Promise<string>
  /**
   * Calls a tool that a model chose by its name: same checks, events and timeout as ctx.tools.
   * @throws FAE_ERR_TOOL_NOT_FOUND if it is not one of the agent's tools, and whatever the call rejects with
   */
  callTool (name: string, args: unknown, options?: CallToolOptions): Promise<unknown>
  /** The conversation so far, oldest first. limit: at most so many of the latest. */
  messages (options?: { limit?: number }): Promise<ConversationMessage[]>
  /** Adds to what the run used; entries of one model are summed up in agent_completed. */
  usage (entry: Usage): void
  /** Emits a custom event. Resolves with its position once it is stored. */
  emit (name: string, value?: unknown): Promise<EventPosition>
}

// ---------- what an agent is ----------

/** What to do with a message that comes while the agent is at work in that thread. */
export type Concurrency = 'enqueue' | 'reject' | 'interrupt' | 'parallel'

/** What to do with a run whose user has left: leaving is not stopping, unless this says so. */
export type OnDisconnect = 'continue' | { readonly cancelAfterMs: number }

/** A message on its way to becoming an agent's input. */
export interface IncomingMessage {
  readonly content: MessageContent
  /** The content's text, without files. */
  readonly text: string
}

/** An agent as it is registered: frozen, with its defaults filled in. */
export interface Agent<Name extends string, Input extends TSchema, Output, Tools extends readonly AnyTool[], Agents extends readonly AnyAgent[]> {
  readonly name: Name
  readonly description: string
  readonly version: string | undefined
  readonly inputSchema: Input
  readonly outputSchema: TSchema | undefined
  readonly tools: Tools
  readonly agents: Agents
  readonly timeoutMs: number | undefined
  readonly concurrency: Concurrency
  readonly onDisconnect: OnDisconnect
  fromMessage (message: IncomingMessage): Static<Input>
  run (input: Static<Input>, ctx: AgentContext<Tools, Agents>): MaybePromise<Output>
}
// the last parameter would refer to itself
export type AnyAgent = Agent<string, any, any, readonly AnyTool[], readonly any[]>

/** `ctx.agents`: one typed function per agent. */
export type AgentCalls<Agents extends readonly AnyAgent[]> = {
  readonly [A in Agents[number] as A['name']]: A extends Agent<string, infer I extends TSchema, infer O, any, any> ? Call<Static<I>, Awaited<O>> : never
}

/** The input of an agent that names no inputSchema. */
export type MessageInput = TObject<{ message: TString }>

/** With an outputSchema the output is its static type, without one it is what run returns. */
type OutputOr<Schema, Returned> = Schema extends TSchema ? Static<Schema> : Returned

/**
 * Defines an agent. The types of its input, output, tools and agents follow from the definition.
 * @param agent
 *   name: unique, 1 to 64 letters, digits, _ and -;
 *   description: what it does, for people and for models;
 *   version: of the definition, shown in agent_started;
 *   inputSchema: of TypeBox, checked before the run starts (default: `{ message: string }`);
 *   outputSchema: of TypeBox, checked when the run returns (default: unchecked);
 *   tools, agents: what it may call (default: none); they are registered with it;
 *   timeoutMs: positive integer, milliseconds (default: the registry's);
 *   concurrency: enqueue, reject, interrupt or parallel (default: enqueue);
 *   onDisconnect: continue or { cancelAfterMs } (default: continue);
 *   fromMessage: makes the input from a message (default: `{ message: text }`);
 *   run: does the work; what it returns is the result
 * @returns the frozen definition, which is also the typed key of the registry
 * @throws FAE_ERR_AGENT_INVALID that names the field
 */
export function defineAgent<
  const Name extends string,
  Input extends TSchema = MessageInput,
  Output extends TSchema | undefined = undefined,
  Returned = void,
  const Tools extends readonly AnyTool[] = [],
  const Agents extends readonly AnyAgent[] = []
> (agent: {
  name: Name
  description: string
  version?: string
  inputSchema?: Input
  outputSchema?: Output
  tools?: Tools
  agents?: Agents
  timeoutMs?: number
  concurrency?: Concurrency
  onDisconnect?: OnDisconnect
  fromMessage?(message: IncomingMessage): Static<Input>
  run (input: Static<Input>, ctx: AgentContext<Tools, Agents>): MaybePromise<OutputOr<Output, Returned>>
}): Agent<Name, Input, OutputOr<Output, Returned>, Tools, Agents> {
  const problem = problemOfAgent(agent)
  if (problem !== undefined) throw new FAE_ERR_AGENT_INVALID(nameOf(agent), problem)
  return Object.freeze({
    name: agent.name,
    description: agent.description,
    version: agent.version,
    inputSchema: agent.inputSchema ?? Type.Object({ message: Type.String() }) as unknown as Input,
    outputSchema: agent.outputSchema,
    tools: Object.freeze([...agent.tools ?? []]) as unknown as Tools,
    agents: Object.freeze([...agent.agents ?? []]) as unknown as Agents,
    timeoutMs: agent.timeoutMs,
    concurrency: agent.concurrency ?? 'enqueue',
    onDisconnect: agent.onDisconnect === undefined || agent.onDisconnect === 'continue' ? 'continue' : Object.freeze({ ...agent.onDisconnect }),
    // bound, so that methods that use `this` still find the object they were written on
    fromMessage: agent.fromMessage?.bind(agent) ?? messageAsInput as (message: IncomingMessage) => Static<Input>,
    run: agent.run.bind(agent)
  })
}

function messageAsInput (message: IncomingMessage): { message: string } {
  return { message: message.text }
}

function nameOf (definition: unknown): string {
  return String((definition as { name?: unknown } | null | undefined)?.name)
}

const concurrencies: readonly unknown[] = ['enqueue', 'reject', 'interrupt', 'parallel'] satisfies Concurrency[]

function isPositiveInteger (value: unknown): boolean {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= LONGEST_TIMER_MS
}

function isOnDisconnect (value: unknown): boolean {
  if (value === 'continue') return true
  if (typeof value !== 'object' || value === null) return false
  const { cancelAfterMs } = value as { cancelAfterMs?: unknown }
  return cancelAfterMs === 0 || isPositiveInteger(cancelAfterMs)
}

// the definition may come from JavaScript, where no compiler has looked at it
function problemOfAgent (value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return 'expected an object'
  const agent = value as Record<string, unknown>
  if (!isValidName(agent.name)) return 'name must be 1 to 64 letters, digits, _ or -'
  if (typeof agent.description !== 'string') return 'description must be a string'
  if (typeof agent.run !== 'function') return 'run must be a function'
  if (agent.version !== undefined && typeof agent.version !== 'string') return 'version must be a string'
  if (agent.inputSchema !== undefined && !KindGuard.IsSchema(agent.inputSchema)) return 'inputSchema must be a TypeBox schema, like Type.Object({ … })'
  if (agent.outputSchema !== undefined && !KindGuard.IsSchema(agent.outputSchema)) return 'outputSchema must be a TypeBox schema, like Type.Object({ … })'
  if (agent.timeoutMs !== undefined && !isPositiveInteger(agent.timeoutMs)) return `timeoutMs must be a positive integer, in milliseconds, at most ${LONGEST_TIMER_MS}`
  if (agent.concurrency !== undefined && !concurrencies.includes(agent.concurrency)) return `concurrency must be one of ${concurrencies.join(', ')}`
  if (agent.onDisconnect !== undefined && !isOnDisconnect(agent.onDisconnect)) return "onDisconnect must be 'continue' or { cancelAfterMs }, a number of milliseconds"
  if (agent.fromMessage !== undefined && typeof agent.fromMessage !== 'function') return 'fromMessage must be a function'
  return problemOfList('tools', 'execute', 'defineTool', agent.tools) ?? problemOfList('agents', 'run', 'defineAgent', agent.agents)
}

/** They become functions under their names, so two different ones of one name would hide each other. */
function problemOfList (field: string, method: string, maker: string, value: unknown): string | undefined {
  if (value === undefined) return undefined
  if (!Array.isArray(value)) return `${field} must be an array`
  const seen = new Map<string, unknown>()
  for (const [index, entry] of value.entries()) {
    if (typeof entry !== 'object' || entry === null || !isValidName(entry.name) || typeof entry[method] !== 'function') return `${field}[${index}] must come from ${maker}`
    if (seen.has(entry.name) && seen.get(entry.name) !== entry) return `${field} has two different entries named '${entry.name}'`
    seen.set(entry.name, entry)
  }
  return undefined
}

// ---------- what the registry says about them ----------

export type InputOf<A> = A extends Agent<string, infer I extends TSchema, any, any, any> ? Static<I> : never
export type OutputOf<A> = A extends Agent<string, any, infer O, any, any> ? Awaited<O> : never

/** One run's agent, made for one user. */
export interface AgentInstance<In, Out> {
  /** `userId:agentName:uuid` */
  readonly agentId: string
  readonly runId: string
  readonly threadId: string
  /**
   * Runs it, once.
   * @returns what run returned
   * @throws FAE_ERR_AGENT_INPUT, FAE_ERR_RUN_FAILED, FAE_ERR_RUN_CANCELLED or FAE_ERR_RUN_TIMEOUT, with cause
   */
  execute (input: In): Promise<Out>
  /** Ends the run as cancelled; without effect when it has ended. */
  cancel (reason?: string): Promise<void>
}

export interface CreateOptions {
  userId: string
  /** The thread that shows the run; it must be registered. @default the user's inbox */
  threadId?: string
  /** What ctx.user is. @default { userId } */
  user?: User
  /** What ctx.context is: this user's and this run's alone. @default {} */
  context?: Readonly<Record<string, unknown>>
}
