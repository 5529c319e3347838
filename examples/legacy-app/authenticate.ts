import type { FastifyRequest } from 'fastify'

/** Whoever asks: here a header, in an app of yours its session. */
export function authenticate ({ headers }: FastifyRequest): { userId: string } | null {
  return typeof headers['x-user-id'] === 'string' ? { userId: headers['x-user-id'] } : null
}
