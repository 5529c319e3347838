/**
 * Who is asking: what `authenticate` returns and agents and tools see as `ctx.user`.
 * Hosts add their own fields through `declare module`. A run that waits for its turn keeps them as JSON, in the store: no
 * secrets and nothing that JSON cannot say.
 */
export interface User {
  /** A well-formed string without control characters. It is part of every agentId and so visible to whoever may read the thread. */
  readonly userId: string
  /** When the authentication ends, in milliseconds since 1970. The connection is then refreshed or closed. @default never */
  readonly expiresAt?: number
}
