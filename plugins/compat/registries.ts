import { FAE_ERR_TOOL_FAILED } from '../../errors.js'
import { FAE_DEP002, FAE_DEP003, FAE_DEP004, FAE_DEP005, FAE_DEP006, FAE_DEP007, FAE_DEP008 } from '../../warnings.js'
import type { AnyAgent } from '../agent-registry/index.js'
import type { AnyTool } from '../tool-dispatcher/define-tool.js'
import { LegacyBridge, type LegacyHost } from './bridge.js'
import { createForLegacy, type LegacyCreateContext } from './instance-factory.js'
import { fromLegacyAgent, type LegacyAgentOptions, type LegacyAgentSource } from './legacy-agent.js'
import { fromLegacyTool, isLegacyTool, type LegacyTool } from './legacy-tool.js'
import { isRecord } from './message.js'
import { setManager } from './websocket-manager.js'

/*
 * The registries of before, without a table of their own: what is registered in any of them is known to the one master
 * registry, and to all of them.
 */

/** An agent looked up by its name. */
export interface LegacyAgentHandle {
  readonly name: string
  /** @param context whose run it is: userId, and threadId and runId if there are; may be part of the input instead */
  execute (input?: unknown, context?: Partial<LegacyCreateContext>): Promise<unknown>
  /** @throws FAE_ERR_NOTIFIER_SET unless it is the app's own */
  setWebSocketManager (manager: unknown): void
}

abstract class AgentFacade {
  protected readonly host: LegacyHost

  /** @throws FAE_ERR_COMPAT_HOST */
  constructor (host: LegacyHost) {
    this.host = LegacyBridge.of(host).host
  }

  /** Enhances the one tool dispatcher. @throws FAE_ERR_NOTIFIER_SET unless it is the app's own */
  setWebSocketManager (manager: unknown): void {
    FAE_DEP002()
    setManager(this.host, manager)
  }

  protected add (name: string, agent: LegacyAgentSource | AnyAgent, options: LegacyAgentOptions): void {
    this.host.agents.register(isDefinition(agent) ? agent : fromLegacyAgent(this.host, agent, { ...options, name }))
  }

  protected find (name: string): LegacyAgentHandle | undefined {
    if (!this.names().includes(name)) return undefined
    const { host } = this
    return {
      name,
      async execute (input, context = isRecord(input) ? input as Partial<LegacyCreateContext> : {}) {
        const instance = await createForLegacy(host, name, context)
        return instance.execute(input)
      },
      setWebSocketManager: (manager) => { this.setWebSocketManager(manager) }
    }
  }

  protected names (): string[] {
    return this.host.agents.list().map(({ name }) => name)
  }
}

/** @deprecated Use app.agents. */
export class AgentRegistry extends AgentFacade {
  /** The same object may be registered again, here or elsewhere. @throws FAE_ERR_AGENT_DUPLICATE, FAE_ERR_AGENT_INVALID */
  registerAgent (name: string, agent: LegacyAgentSource | AnyAgent, options: LegacyAgentOptions = {}): void {
    FAE_DEP003()
    this.add(name, agent, options)
  }

  getAgent (name: string): LegacyAgentHandle | undefined {
    FAE_DEP004()
    return this.find(name)
  }

  hasAgent (name: string): boolean { return this.names().includes(name) }
  listAgents (): string[] { return this.names() }
}

/** @deprecated Use app.agents. */
export class UniversalRegistry extends AgentFacade {
  /** The same object may be registered again, here or elsewhere. @throws FAE_ERR_AGENT_DUPLICATE, FAE_ERR_AGENT_INVALID */
  registerAgent (name: string, agent: LegacyAgentSource | AnyAgent, options: LegacyAgentOptions = {}): void {
    FAE_DEP005()
    this.add(name, agent, options)
  }

  register (name: string, agent: LegacyAgentSource | AnyAgent, options: LegacyAgentOptions = {}): void {
    this.registerAgent(name, agent, options)
  }

  getAgent (name: string): LegacyAgentHandle | undefined {
    FAE_DEP006()
    return this.find(name)
  }

  get (name: string): LegacyAgentHandle | undefined { return this.getAgent(name) }
  has (name: string): boolean { return this.names().includes(name) }
  list (): string[] { return this.names() }
}

/** A tool looked up by its name: within a run its calls have their events, outside of one there is nobody to tell. */
export interface LegacyToolHandle {
  readonly name: string
  readonly description: string
  execute (args?: unknown): Promise<unknown>
}

/** @deprecated Use app.tools, or the tools of an agent. */
export class ToolRegistry {
  readonly #bridge: LegacyBridge

  /** @throws FAE_ERR_COMPAT_HOST */
  constructor (host: LegacyHost) {
    this.#bridge = LegacyBridge.of(host)
  }

  setWebSocketManager (manager: unknown): void {
    FAE_DEP002()
    setManager(this.#bridge.host, manager)
  }

  /** @throws FAE_ERR_TOOL_DUPLICATE, FAE_ERR_TOOL_INVALID */
  registerTools (given: ReadonlyArray<LegacyTool | AnyTool>): void {
    FAE_DEP007()
    for (const tool of given) this.#bridge.host.tools.register(fromLegacyTool(tool))
  }

  registerTool (tool: LegacyTool | AnyTool): void { this.registerTools([tool]) }

  getTool (name: string): LegacyToolHandle | undefined {
    FAE_DEP008()
    const { host } = this.#bridge
    if (!host.tools.has(name)) return undefined
    const tool = host.tools.get(name)
    return { name, description: tool.description, execute: (args = {}) => this.#call(tool, args) }
  }

  hasTool (name: string): boolean { return this.#bridge.host.tools.has(name) }
  listTools (): string[] { return this.#bridge.host.tools.list().map(({ name }) => name) }

  async #call (tool: AnyTool, args: unknown): Promise<unknown> {
    const { scope, host } = this.#bridge
    const run = scope !== undefined && 'run' in scope ? host.agents.live(scope.run.runId) : undefined
    if (run === undefined) return this.#callOutside(tool, args)
    const voice = this.#bridge.voice(run)
    const announced = voice.takeAnnounced(tool.name)
    if (announced !== undefined) return voice.runAnnounced(tool.name, announced, (context) => tool.execute(args, context))
    voice.expectEcho(tool.name)
    return host.tools.call(run, tool.name, args, new Set([tool.name]))
  }

  async #callOutside (tool: AnyTool, args: unknown): Promise<unknown> {
    if (!isLegacyTool(tool)) throw new FAE_ERR_TOOL_FAILED(tool.name, 'it was called outside of a run, and its context is a run\'s')
    this.#bridge.host.log.warn({ tool: tool.name }, 'a legacy tool was called outside of a run: nobody is shown')
    // It never had a context.
    return tool.execute(args, undefined as never)
  }
}

function isDefinition (agent: LegacyAgentSource | AnyAgent): agent is AnyAgent {
  return isRecord(agent) && typeof agent.run === 'function' && typeof agent.execute !== 'function'
}
