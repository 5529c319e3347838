import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import type { AddressInfo } from 'node:net'
import agentEvents, { type AgentEventsOptions } from '../../index.js'

export interface StartedApp { app: FastifyInstance, url: string, port: number }

interface Teardown { teardown (fn: () => unknown): void }

/**
 * A listening app with the umbrella at '/'; the user is the query parameter userId, else the header x-user-id. Closed with the test.
 * @param prepare what else the app gets before it listens
 * @param listenAt the port; any that is free when 0
 */
export async function startApp (t: Teardown, options: Partial<AgentEventsOptions> = {}, server: FastifyServerOptions = {}, prepare?: (app: FastifyInstance) => unknown, listenAt = 0): Promise<StartedApp> {
  const app = Fastify(server)
  t.teardown(() => app.close())
  await app.register(agentEvents, {
    prefix: '/',
    authenticate: async (request) => {
      const userId = (request.query as { userId?: string }).userId ?? request.headers['x-user-id']
      return typeof userId === 'string' ? { userId } : null
    },
    ...options
  })
  await prepare?.(app)
  await app.listen({ port: listenAt, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  return { app, url: `http://127.0.0.1:${port}`, port }
}
