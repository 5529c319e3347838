import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import agentEvents from 'fastify-agent-events'
import { RegistrySwitch, UniversalRegistry, legacyEvents, type UseMasterRegistry } from 'fastify-agent-events/compat'
import { ReportAgent } from '../before/agents.js'
import { addServices, type Desk } from '../phase-1/app.js'
import { OwnSide } from '../phase-1/own-side.js'
import { authenticate } from '../authenticate.js'
import { research, support } from './agents.js'

/*
 * Phase 3, migrate: service by service the agents are written anew. Two are; the third still comes through its shim.
 * The flag knows the agent, so that one service can go back without the others.
 */

export async function buildDesk ({ useMasterRegistry = true }: { useMasterRegistry?: UseMasterRegistry } = {}): Promise<Desk> {
  const app: FastifyInstance = Fastify()
  await app.register(websocket)
  await app.register(agentEvents, { agents: [support, research], events: { ...legacyEvents }, authenticate })

  const universalRegistry = new UniversalRegistry(app)
  universalRegistry.registerAgent('report', ReportAgent)

  const ownSide = new OwnSide()
  const registry = new RegistrySwitch(app, { legacy: ownSide, useMasterRegistry })
  ownSide.wire(registry)
  addServices(app, registry, ownSide)
  return { app, registry, ownSide }
}
