import { isIPv4 } from 'node:net'
import type { FastifyRequest } from 'fastify'

const maxUserIdLength = 100
const printableAscii = /^[\x20-\x7e]+$/

/**
 * AUTH=none: whoever asks is who they say. The header `x-user-id` counts first (printable ASCII, since
 * headers carry nothing else reliably), then the query parameter `userId` (any characters but control
 * characters), then everybody is `local`.
 *
 * @returns null, which every door answers with 401, for an id that is empty, longer than 100 characters,
 * malformed or given twice
 */
export async function authenticateNone (request: FastifyRequest): Promise<{ userId: string } | null> {
  const header = request.headers['x-user-id']
  if (header !== undefined) return typeof header === 'string' && printableAscii.test(header) ? user(header) : null
  const query = (request.query as Record<string, unknown> | undefined)?.['userId']
  if (query !== undefined) return user(query)
  return { userId: 'local' }
}

function user (userId: unknown): { userId: string } | null {
  if (typeof userId !== 'string' || userId === '' || userId.length > maxUserIdLength) return null
  return /\p{Cc}|\p{Cs}/u.test(userId) ? null : { userId }
}

/** True for 127.0.0.0/8, ::1 and localhost, with or without brackets. */
export function isLoopback (host: string): boolean {
  const name = host.replace(/^\[(.*)\]$/, '$1').toLowerCase()
  return name === 'localhost' || name === '::1' || (isIPv4(name) && name.startsWith('127.'))
}

/**
 * True when the request names a loopback host and comes from no page, or from a page on a loopback host.
 * Without authentication this is what keeps a web page that the developer happens to visit from reading
 * the local server: browsers apply no CORS to WebSockets, and DNS rebinding gets around it over HTTP.
 */
export function isLocalRequest (headers: { host?: string | undefined, origin?: string | undefined }): boolean {
  if (!isLoopback(hostnameOf(`http://${headers.host ?? ''}`))) return false
  return headers.origin === undefined || isLoopback(hostnameOf(headers.origin))
}

function hostnameOf (url: string): string {
  return URL.canParse(url) ? new URL(url).hostname : ''
}
