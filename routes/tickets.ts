import { createHash, randomBytes } from 'node:crypto'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { User } from '../plugins/thread-registry/user.js'
import { Ticket } from '../schemas/index.js'
import { userOf } from './scope.js'

/** How long a ticket is good for. */
const TTL_MS = 30_000

/**
 * POST /tickets: a browser's WebSocket cannot send headers, so it shows a ticket that was fetched with them. Good once,
 * for 30 s, for this user, on any node. The store keeps its hash.
 */
export const ticketRoutes: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/tickets', { schema: { response: { 201: Ticket } } }, async (request, reply) => {
    const ticket = randomBytes(32).toString('base64url')
    const user = userOf(request)
    await app.threads.store.putTicket(hash(ticket), JSON.stringify(user), TTL_MS)
    const { record: { threadId: inbox } } = await app.threads.inbox(user.userId)
    return reply.code(201).header('cache-control', 'no-store').send({ ticket, expiresAt: new Date(Date.now() + TTL_MS).toISOString(), userId: user.userId, inbox })
  })
}

/** The user of the request's ticket; undefined if it shows none, null if it is not, or no longer, one. */
export async function userOfTicket (request: FastifyRequest): Promise<User | null | undefined> {
  const { ticket } = request.query as { ticket?: unknown }
  if (ticket === undefined) return undefined
  if (typeof ticket !== 'string') return null
  const user = await request.server.threads.store.takeTicket(hash(ticket))
  return user === undefined ? null : JSON.parse(user) as User
}

function hash (ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64url')
}
