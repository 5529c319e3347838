import { Type, type TSchema } from '@sinclair/typebox'
import { FAE_ERR_AGENT_INVALID } from '../../errors.js'
import { FAE_DEP011 } from '../../warnings.js'
import { defineAgent, type AnyAgent } from '../agent-registry/index.js'
import type { AnyTool, MaybePromise } from '../tool-dispatcher/define-tool.js'
import { LegacyBridge, type LegacyHost } from './bridge.js'
import { isRecord } from './message.js'
import { managerOf, type WebSocketManager } from './websocket-manager.js'

/** What a legacy agent's execute gets beside its input, under both spellings. */
export interface LegacyContext {
  readonly userId: string
  readonly threadId: string
  readonly runId: string
  readonly agentId: string
  readonly user_id: string
  readonly thread_id: string
  readonly run_id: string
  readonly agent_id: string
  /** Aborted when the run is cancelled or times out. */
  readonly signal: AbortSignal
  readonly websocketManager: WebSocketManager
}

/** An agent as older registries know it. */
export interface LegacyAgent {
  name?: string
  description?: string
  execute (input: any, context?: any): unknown
  setWebSocketManager? (manager: any): unknown
}

/** An object with execute(), a class of such objects, a function that makes one; one of the last two means: a new one for each run. */
export type LegacyAgentSource = LegacyAgent | LegacyAgentClass | LegacyAgentMaker

export interface LegacyAgentOptions {
  /** @default the agent's own, else the class's */
  name?: string
  /** @default the agent's own, else its name */
  description?: string
  /** Checked before the run starts. @default anything goes */
  inputSchema?: TSchema
  tools?: readonly AnyTool[]
  /** Makes the input of execute from a user's message. @default `{ message: text }` */
  fromMessage? (message: { content: unknown, text: string }): unknown
}

const definitions = new WeakMap<LegacyBridge, WeakMap<object, AnyAgent>>()

/**
 * A legacy agent as a definition of this registry: the same source gives the same definition.
 * @throws FAE_ERR_AGENT_INVALID, FAE_ERR_COMPAT_HOST
 */
export function fromLegacyAgent (host: LegacyHost, source: LegacyAgentSource, options: LegacyAgentOptions = {}): AnyAgent {
  FAE_DEP011()
  const bridge = LegacyBridge.of(host)
  let known = definitions.get(bridge)
  if (known === undefined) definitions.set(bridge, known = new WeakMap())
  const before = isRecord(source) || typeof source === 'function' ? known.get(source) : undefined
  if (before !== undefined && (options.name ?? before.name) === before.name) return before
  const definition = define(bridge, source, options)
  known.set(source, definition)
  return definition
}

function define (bridge: LegacyBridge, source: LegacyAgentSource, { name, description, inputSchema = Type.Unknown(), tools = [], fromMessage }: LegacyAgentOptions): AnyAgent {
  const { host } = bridge
  const given = name ?? nameOf(source)
  if (!isRecord(source) && typeof source !== 'function') throw new FAE_ERR_AGENT_INVALID(given, 'expected an object with execute(), a class of such objects or a function that makes one')
  if (typeof source !== 'function') {
    if (typeof source.execute !== 'function') throw new FAE_ERR_AGENT_INVALID(given, 'execute must be a function')
    // One object serves many runs: its manager asks at each message whose run it is.
    setManagerOf(source, managerOf(host))
  }
  return defineAgent({
    name: given,
    description: description ?? (typeof source === 'function' ? undefined : source.description) ?? given,
    inputSchema,
    tools,
    ...(fromMessage !== undefined && { fromMessage }),
    async run (input: unknown, ctx) {
      const { threadId, runId, agentId } = ctx.run
      const { userId } = ctx.user
      const run = host.agents.live(runId)!
      return bridge.within({ run }, async () => {
        const websocketManager = managerOf(host, { run })
        const agent = typeof source === 'function' ? await make(source) : source
        if (typeof source === 'function') setManagerOf(agent, websocketManager)
        const context: LegacyContext = {
          userId, threadId, runId, agentId, user_id: userId, thread_id: threadId, run_id: runId, agent_id: agentId, signal: ctx.signal, websocketManager
        }
        return agent.execute(input, { ...ctx.context, ...context })
      })
    }
  })
}

type LegacyAgentClass = new () => LegacyAgent
type LegacyAgentMaker = () => MaybePromise<LegacyAgent>

function make (Source: LegacyAgentClass | LegacyAgentMaker): MaybePromise<LegacyAgent> {
  return isClass(Source) ? new Source() : Source()
}

function isClass (source: LegacyAgentClass | LegacyAgentMaker): source is LegacyAgentClass {
  return typeof (source.prototype as Partial<LegacyAgent> | undefined)?.execute === 'function'
}

function setManagerOf (agent: LegacyAgent & { set_websocket_manager?: unknown }, manager: WebSocketManager): void {
  if (typeof agent.setWebSocketManager === 'function') agent.setWebSocketManager(manager)
  else if (typeof agent.set_websocket_manager === 'function') agent.set_websocket_manager(manager)
}

function nameOf (source: LegacyAgentSource): string {
  return String(source?.name)
}
