import type { FastifyRequest } from 'fastify'

/** Which pages may open the WebSocket: '*' for all, else a list like ['https://app.example']; the app's own is always one. */
export type OriginsOption = '*' | readonly string[]

/** CORS does not protect WebSockets. Who sends no Origin is no page: programs are checked by authenticate alone. */
export function isAllowedOrigin (request: FastifyRequest, origins: OriginsOption): boolean {
  const { origin } = request.headers
  if (origin === undefined || origins === '*') return true
  if (origins.includes(origin)) return true
  return URL.canParse(origin) && new URL(origin).host === request.host
}
