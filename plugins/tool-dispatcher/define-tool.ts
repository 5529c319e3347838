import { KindGuard, Type, type Static, type TObject, type TSchema } from '@sinclair/typebox'
import type { FastifyBaseLogger } from 'fastify'
import { FAE_ERR_TOOL_INVALID } from '../../errors.js'
import { isValidName } from '../../schemas/index.js'
import { LONGEST_TIMER_MS } from '../options.js'
import type { User } from '../thread-registry/user.js'

export type MaybePromise<T> = T | Promise<T>

/** Which run something belongs to. */
export interface RunIds { readonly threadId: string, readonly runId: string, readonly agentId: string }

/** What a tool gets beside its input. */
export interface ToolContext {
  /** Aborted when the call times out or its run is cancelled. Pass it on to whatever takes a signal. */
  readonly signal: AbortSignal
  /** Tells parallel calls of one tool apart. */
  readonly toolCallId: string
  readonly user: User
  readonly run: RunIds
  /** A child logger that carries the ids of the call. */
  readonly log: FastifyBaseLogger
  /**
   * Tells how far the call is, as an event of phase progress.
   * @param fraction from 0 to 1
   * @param text what is being done
   */
  progress (fraction: number, text?: string): Promise<void>
}

type NoInput = TObject<{}>

/** A tool as it is registered: frozen, with its defaults filled in. */
export interface Tool<Name extends string, Input extends TSchema, Output> {
  readonly name: Name
  readonly description: string
  readonly inputSchema: Input
  readonly outputSchema: TSchema | undefined
  readonly timeoutMs: number | undefined
  execute (input: Static<Input>, ctx: ToolContext): MaybePromise<Output>
}
export type AnyTool = Tool<string, any, any>

/** With an outputSchema the output is its static type, without one it is what execute returns. */
type OutputOr<Schema, Returned> = Schema extends TSchema ? Static<Schema> : Returned

/** How a call looks: its input may be left out when nothing in it is required. */
export type Call<In, Out> = {} extends In ? (input?: In) => Promise<Out> : (input: In) => Promise<Out>

/** `ctx.tools`: one typed function per tool. */
export type ToolCalls<Tools extends readonly AnyTool[]> = {
  readonly [T in Tools[number] as T['name']]: T extends Tool<string, infer I extends TSchema, infer O> ? Call<Static<I>, Awaited<O>> : never
}

/**
 * Defines a tool. The types of input and output follow from the schemas and from what execute returns.
 * @param tool
 *   name: unique, 1 to 64 letters, digits, _ and -;
 *   description: for the model that chooses tools, and for people;
 *   inputSchema: of TypeBox, checked before execute (default: an object without required fields);
 *   outputSchema: of TypeBox, checked after execute (default: unchecked);
 *   timeoutMs: positive integer, milliseconds (default: the dispatcher's)
 * @returns the frozen definition; the same object may serve many agents
 * @throws FAE_ERR_TOOL_INVALID that names the field
 */
export function defineTool<
  const Name extends string,
  Input extends TSchema = NoInput,
  Output extends TSchema | undefined = undefined,
  Returned = void
> (tool: {
  name: Name
  description: string
  inputSchema?: Input
  outputSchema?: Output
  timeoutMs?: number
  execute (input: Static<Input>, ctx: ToolContext): MaybePromise<OutputOr<Output, Returned>>
}): Tool<Name, Input, OutputOr<Output, Returned>> {
  const problem = problemOfTool(tool)
  if (problem !== undefined) throw new FAE_ERR_TOOL_INVALID(nameOf(tool), problem)
  return Object.freeze({
    name: tool.name,
    description: tool.description,
    inputSchema: tool.inputSchema ?? Type.Object({}) as unknown as Input,
    outputSchema: tool.outputSchema,
    timeoutMs: tool.timeoutMs,
    // bound, so that an execute that uses `this` still finds the object it was written on
    execute: tool.execute.bind(tool)
  })
}

function nameOf (definition: unknown): string {
  return String((definition as { name?: unknown } | null | undefined)?.name)
}

// the definition may come from JavaScript, where no compiler has looked at it
function problemOfTool (value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return 'expected an object'
  const tool = value as Record<string, unknown>
  if (!isValidName(tool.name)) return 'name must be 1 to 64 letters, digits, _ or -'
  if (typeof tool.description !== 'string') return 'description must be a string'
  if (typeof tool.execute !== 'function') return 'execute must be a function'
  if (tool.inputSchema !== undefined && !KindGuard.IsSchema(tool.inputSchema)) return 'inputSchema must be a TypeBox schema, like Type.Object({ … })'
  if (tool.outputSchema !== undefined && !KindGuard.IsSchema(tool.outputSchema)) return 'outputSchema must be a TypeBox schema, like Type.Object({ … })'
  if (tool.timeoutMs !== undefined && !(Number.isInteger(tool.timeoutMs) && (tool.timeoutMs as number) > 0 && (tool.timeoutMs as number) <= LONGEST_TIMER_MS)) return `timeoutMs must be a positive integer, in milliseconds, at most ${LONGEST_TIMER_MS}`
  return undefined
}
