import type { FastifyInstance, FastifyRequest } from 'fastify'
import { FAE_ERR_FORBIDDEN } from '../errors.js'
import { DebugView } from './debug-view.js'
import { requireUser, userOf, type Authenticate } from './scope.js'

/**
 * true: open to everybody who reaches the app. 'authorize': to authenticated users to whom `authorize` allows the action
 * debug. A function: asked for every request.
 */
export type DebugOption = true | 'authorize' | ((request: FastifyRequest) => boolean | Promise<boolean>)

/** What an operator needs to see of connections, threads and runs. */
export async function debugRoutes (app: FastifyInstance, { debug, authenticate }: { debug: DebugOption, authenticate: Authenticate }): Promise<void> {
  const view = new DebugView(app)
  if (debug === 'authorize') {
    requireUser(app, authenticate)
    app.addHook('preHandler', async (request) => {
      if (!await app.threads.mayDebug(userOf(request))) throw new FAE_ERR_FORBIDDEN()
    })
  }
  if (typeof debug === 'function') {
    app.addHook('onRequest', async (request) => {
      if (await debug(request) !== true) throw new FAE_ERR_FORBIDDEN()
    })
  }

  app.get('/debug/websocket/connections', () => view.connections())
  app.get('/debug/websocket/threads', () => view.threads())
  app.get('/debug/websocket/mappings', () => view.mappings())
  app.get('/debug/registry', async () => ({
    agents: app.agents.list(),
    tools: app.tools.list(),
    runs: app.agents.active(),
    mermaid: app.agents.mermaid()
  }))
}
