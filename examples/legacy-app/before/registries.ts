import { ReportAgent, type DeskAgent, type Tool } from './agents.js'
import type { Sender } from './manager.js'

/* Four registries, as they grew: each team had good reasons for its own. */

export class AgentRegistry {
  readonly #agents = new Map<string, DeskAgent>()

  setWebSocketManager (manager: Sender): void {
    for (const agent of this.#agents.values()) agent.setWebSocketManager(manager)
  }

  registerAgent (name: string, agent: DeskAgent): void {
    this.#agents.set(name, agent)
  }

  getAgent (name: string): DeskAgent | undefined {
    return this.#agents.get(name)
  }
}

export class UniversalRegistry {
  readonly #agents = new Map<string, DeskAgent>()

  setWebSocketManager (manager: Sender): void {
    for (const agent of this.#agents.values()) agent.setWebSocketManager(manager)
  }

  registerAgent (name: string, agent: DeskAgent): void {
    this.#agents.set(name, agent)
  }

  getAgent (name: string): DeskAgent | undefined {
    return this.#agents.get(name)
  }
}

export class ToolRegistry {
  readonly #tools = new Map<string, Tool>()

  registerTools (tools: Tool[]): void {
    for (const tool of tools) this.#tools.set(tool.name, tool)
  }

  getTool (name: string): Tool | undefined {
    return this.#tools.get(name)
  }
}

/** Makes agents of its own, past every registry. */
export const agentInstanceFactory = {
  create (manager: Sender): DeskAgent {
    const agent = new ReportAgent()
    agent.setWebSocketManager(manager)
    return agent
  }
}
