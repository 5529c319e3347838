import type { LegacyInstance, LegacyMessage, LegacySide } from 'fastify-agent-events/compat'
import { ResearchAgent, SupportAgent, searchHandbook, type DeskAgent } from '../before/agents.js'
import { WebSocketManager, type Message, type Sender } from '../before/manager.js'
import { AgentRegistry, ToolRegistry, UniversalRegistry, agentInstanceFactory } from '../before/registries.js'

/** The desk's own registries and manager, as they were, behind what the switch asks of them. */
export class OwnSide implements LegacySide {
  readonly manager = new WebSocketManager()
  readonly #agentRegistry = new AgentRegistry()
  readonly #universalRegistry = new UniversalRegistry()
  #sender: Sender = this.manager

  constructor () {
    const toolRegistry = new ToolRegistry()
    toolRegistry.registerTools([searchHandbook])
    this.#agentRegistry.registerAgent('support', new SupportAgent(toolRegistry))
    this.#universalRegistry.registerAgent('research', new ResearchAgent())
  }

  /** What agents say passes the switch, which brings it back to send() for runs of this side. */
  wire (sender: Sender): void {
    this.#sender = sender
    this.#agentRegistry.setWebSocketManager(sender)
  }

  create (name: string, { threadId, runId }: { threadId?: string, runId: string }): LegacyInstance {
    const agent = this.#find(name)
    return { runId, execute: (input) => agent.execute(input as { message: string }, { threadId: threadId!, runId }) }
  }

  send (target: string | undefined, message: LegacyMessage): Promise<boolean> {
    return this.manager.sendMessage(target!, message as Message)
  }

  #find (name: string): DeskAgent {
    switch (name) {
      case 'support': return this.#agentRegistry.getAgent(name)!
      case 'research': return this.#universalRegistry.getAgent(name)!
      default: return agentInstanceFactory.create(this.#sender)
    }
  }
}
