import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import agentEvents from 'fastify-agent-events'
import { AgentRegistry, RegistrySwitch, ToolRegistry, UniversalRegistry, WebSocketManager, legacyEvents, type UseMasterRegistry } from 'fastify-agent-events/compat'
import { ReportAgent, ResearchAgent, SupportAgent, searchHandbook } from '../before/agents.js'
import { addServices, type Desk } from '../phase-1/app.js'
import { OwnSide } from '../phase-1/own-side.js'
import { authenticate } from '../authenticate.js'

/*
 * Phase 2, shims: the set-up code of each team imports its registry from the package and is otherwise what it was. All
 * four meet in the one master registry, and the flag is on. Off again means: new runs are the desk's own side's.
 */

export async function buildDesk ({ useMasterRegistry = true }: { useMasterRegistry?: UseMasterRegistry } = {}): Promise<Desk> {
  const app: FastifyInstance = Fastify()
  await app.register(websocket)
  await app.register(agentEvents, { events: { ...legacyEvents }, authenticate })

  const manager = new WebSocketManager(app)
  const toolRegistry = new ToolRegistry(app)
  toolRegistry.registerTools([searchHandbook])
  const agentRegistry = new AgentRegistry(app)
  agentRegistry.registerAgent('support', new SupportAgent(toolRegistry))
  agentRegistry.setWebSocketManager(manager)
  const universalRegistry = new UniversalRegistry(app)
  universalRegistry.registerAgent('research', new ResearchAgent())
  universalRegistry.registerAgent('report', ReportAgent)

  const ownSide = new OwnSide()
  const registry = new RegistrySwitch(app, { legacy: ownSide, useMasterRegistry })
  ownSide.wire(registry)
  addServices(app, registry, ownSide)
  return { app, registry, ownSide }
}
