import { FAE_ERR_AGENT_DUPLICATE, FAE_ERR_AGENT_INPUT, FAE_ERR_AGENT_INVALID, FAE_ERR_AGENT_NOT_FOUND } from '../../errors.js'
import type { AgentInfo } from '../../schemas/index.js'
import { compileSchema, type Check } from '../../schemas/validate.js'
import type { ToolDispatcher } from '../tool-dispatcher/tool-dispatcher.js'
import type { AnyAgent } from './define-agent.js'

/** An agent with its compiled checks. */
export interface Registered { readonly agent: AnyAgent, readonly checkInput: Check, readonly checkOutput: Check | undefined }

/** What agents there are. */
export class AgentDefinitions {
  readonly #tools: ToolDispatcher
  readonly #agents = new Map<string, Registered>()
  #default: string | undefined

  constructor (tools: ToolDispatcher, defaultAgent: string | undefined) {
    this.#tools = tools
    this.#default = defaultAgent
  }

  /** Who answers when nobody is named. '' before the first is registered. */
  get default (): string { return this.#default ?? '' }

  /**
   * Registers a definition with the tools and agents it lists; the same object may come again.
   * @throws FAE_ERR_AGENT_DUPLICATE, FAE_ERR_TOOL_DUPLICATE for another object of a known name
   */
  register (agent: AnyAgent): void {
    if (typeof agent?.run !== 'function' || typeof agent.name !== 'string') throw new FAE_ERR_AGENT_INVALID(String(agent?.name), 'it must come from defineAgent')
    const known = this.#agents.get(agent.name)
    if (known?.agent === agent) return
    if (known !== undefined) throw new FAE_ERR_AGENT_DUPLICATE(agent.name)
    for (const tool of agent.tools) this.#tools.register(tool)
    this.#agents.set(agent.name, {
      agent,
      checkInput: compileSchema(agent.inputSchema),
      checkOutput: agent.outputSchema === undefined ? undefined : compileSchema(agent.outputSchema)
    })
    // Before its own agents, which are there for it and not to answer everybody.
    this.#default ??= agent.name
    for (const child of agent.agents as readonly AnyAgent[]) this.register(child)
  }

  get (name: string): Registered | undefined {
    return this.#agents.get(name)
  }

  /** A definition object is registered on its first use. @throws FAE_ERR_AGENT_NOT_FOUND that lists the known ones */
  find (agent: AnyAgent | string): Registered {
    if (typeof agent !== 'string') this.register(agent)
    const name = typeof agent === 'string' ? agent : agent.name
    const registered = this.#agents.get(name)
    if (registered === undefined) throw this.unknown(name)
    return registered
  }

  unknown (name: string): InstanceType<typeof FAE_ERR_AGENT_NOT_FOUND> {
    return new FAE_ERR_AGENT_NOT_FOUND(name, [...this.#agents.keys()].join(', ') || 'none')
  }

  list (): AgentInfo[] {
    return [...this.#agents.values()].map(({ agent }) => ({
      name: agent.name,
      description: agent.description,
      ...(agent.version !== undefined && { version: agent.version }),
      inputSchema: agent.inputSchema,
      tools: agent.tools.map(({ name }) => name),
      agents: (agent.agents as readonly AnyAgent[]).map(({ name }) => name),
      default: agent.name === this.#default
    }))
  }
}

/** @throws FAE_ERR_AGENT_INPUT that names the field */
export function checkInput ({ agent, checkInput: check }: Registered, input: unknown): void {
  const problem = check(input)
  if (problem !== undefined) throw new FAE_ERR_AGENT_INPUT(agent.name, problem.path, problem.message)
}
