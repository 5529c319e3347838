import type { FastifyInstance } from 'fastify'

/** What a supervisor asks; no authentication. */
export async function operationRoutes (app: FastifyInstance): Promise<void> {
  app.get('/health', async () => ({ status: 'ok', store: app.threads.store.name, connections: app.notifier.hub.connections.size }))

  app.get('/ready', async (_request, reply) => {
    const { name, availability: { available, reason } } = app.threads.store
    // Fastify answers so by itself, unless the host has turned that off.
    if (app.notifier.hub.isClosing) return reply.code(503).send({ status: 'closing', reason: 'the server is shutting down' })
    if (!available) return reply.code(503).send({ status: 'unavailable', reason: `the ${name} store is not available: ${reason}` })
    return { status: 'ready', store: name }
  })
}
