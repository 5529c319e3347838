import { randomBytes } from 'node:crypto'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { ResearchAgent, SupportAgent, searchHandbook } from './agents.js'
import { WebSocketManager } from './manager.js'
import { AgentRegistry, ToolRegistry, UniversalRegistry, agentInstanceFactory } from './registries.js'

/*
 * A support desk with four registries and one socket. Three services; users of all three have reported an empty chat.
 */

export interface Question { message: string, threadId: string }

/** As this app has always made them: a run's id begins with its thread's. */
export function makeRunId (threadId: string): string {
  return `${threadId}_run_${Date.now()}_${randomBytes(4).toString('hex')}`
}

export async function buildDesk (): Promise<{ app: FastifyInstance, manager: WebSocketManager }> {
  const app: FastifyInstance = Fastify()
  const manager = new WebSocketManager()

  const toolRegistry = new ToolRegistry()
  toolRegistry.registerTools([searchHandbook])
  const agentRegistry = new AgentRegistry()
  agentRegistry.registerAgent('support', new SupportAgent(toolRegistry))
  agentRegistry.setWebSocketManager(manager)
  // The other team's registry. It has a setWebSocketManager, too.
  const universalRegistry = new UniversalRegistry()
  universalRegistry.registerAgent('research', new ResearchAgent())

  await app.register(websocket)
  app.get<{ Querystring: { threadId: string } }>('/chat', { websocket: true }, (socket, { query: { threadId } }) => {
    manager.connect(threadId, socket)
    socket.send(JSON.stringify({ type: 'agent_thinking', thought: 'Welcome back' }))
  })

  app.post<{ Body: Question }>('/support', async ({ body: { message, threadId } }) => {
    const runId = makeRunId(threadId)
    return { runId, result: await agentRegistry.getAgent('support')!.execute({ message }, { threadId, runId }) }
  })
  app.post<{ Body: Question }>('/research', async ({ body: { message, threadId } }) => {
    const runId = makeRunId(threadId)
    return { runId, result: await universalRegistry.getAgent('research')!.execute({ message }, { threadId, runId }) }
  })
  app.post<{ Body: Question }>('/report', async ({ body: { message, threadId } }) => {
    const runId = makeRunId(threadId)
    const result = await agentInstanceFactory.create(manager).execute({ message }, { threadId, runId })
    await manager.sendMessage(runId.split('_run_')[0]!, { type: 'report_ready', run_id: runId, title: result })
    return { runId, result }
  })
  return { app, manager }
}

if (process.argv[1] === import.meta.filename) {
  const { app } = await buildDesk()
  process.stdout.write(`the desk is at ${await app.listen({ port: Number(process.env['PORT'] ?? 3000) })}\n`)
}
