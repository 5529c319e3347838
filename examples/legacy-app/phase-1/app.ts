import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import agentEvents from 'fastify-agent-events'
import { RegistrySwitch, ToolRegistry, fromLegacyAgent, legacyEvents, type UseMasterRegistry } from 'fastify-agent-events/compat'
import { ReportAgent, ResearchAgent, SupportAgent, searchHandbook } from '../before/agents.js'
import { makeRunId, type Question } from '../before/app.js'
import { authenticate } from '../authenticate.js'
import { OwnSide } from './own-side.js'

/*
 * Phase 1, beside: the desk's own registries work as before, and the master registry stands beside them. Every creation
 * and every message passes the switch; with the flag off, which is the default, they go where they always went, and the
 * shadow tells what the master would have done otherwise. The agents are the same files.
 */

export interface Desk { app: FastifyInstance, registry: RegistrySwitch, ownSide: OwnSide }

export async function buildDesk ({ useMasterRegistry = false }: { useMasterRegistry?: UseMasterRegistry } = {}): Promise<Desk> {
  const app: FastifyInstance = Fastify()
  await app.register(websocket)
  await app.register(agentEvents, { events: { ...legacyEvents }, authenticate })

  const tools = new ToolRegistry(app)
  tools.registerTools([searchHandbook])
  app.agents.register(fromLegacyAgent(app, () => new SupportAgent(tools), { name: 'support' }))
  app.agents.register(fromLegacyAgent(app, ResearchAgent, { name: 'research' }))
  app.agents.register(fromLegacyAgent(app, ReportAgent, { name: 'report' }))

  const ownSide = new OwnSide()
  const registry = new RegistrySwitch(app, { legacy: ownSide, useMasterRegistry, shadow: true })
  ownSide.wire(registry)
  addServices(app, registry, ownSide)
  return { app, registry, ownSide }
}

/** The three services and the socket: what they did with four registries, done with the switch. */
export function addServices (app: FastifyInstance, registry: RegistrySwitch, { manager }: OwnSide): void {
  app.get<{ Querystring: { threadId: string } }>('/chat', { websocket: true }, (socket, { query: { threadId } }) => {
    manager.connect(threadId, socket)
  })
  for (const name of ['support', 'research', 'report']) {
    app.post<{ Body: Question, Headers: { 'x-user-id': string } }>(`/${name}`, async ({ body: { message, threadId }, headers }) => {
      const runId = makeRunId(threadId)
      const agent = await registry.create(name, { userId: headers['x-user-id'], threadId, runId })
      const result = await agent.execute({ message })
      // The service names its run now; nobody takes the id apart.
      if (name === 'report') await registry.sendMessage(threadId, { type: 'report_ready', run_id: runId, title: result })
      return { runId, side: agent.side, result }
    })
  }
}
