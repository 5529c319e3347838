import type { Door } from './door.js'
import type { SocketAddress } from './socket.js'
import type { FetchLike, FetchOptions, FetchResponse } from './types.js'

/*
 * Loaded when something is asked by HTTP. Like ./fallback.ts it shares no code with what every page loads, so that a bundler
 * has nothing to take apart: the numbers below are those of schemas/close-codes.ts.
 */
const NOT_AUTHENTICATED = 4401
const FORBIDDEN = 4403

/** An answer that is not a success. */
export class HttpError extends Error {
  readonly status: number
  /** Undefined where it was not our server that answered. */
  readonly code: string | undefined
  /** What it is for a connection; undefined for bad luck. */
  readonly closeCode: number | undefined

  constructor (status: number, code: unknown, message: unknown) {
    super(typeof message === 'string' ? message : `The server answered ${status}`)
    this.status = status
    this.code = typeof code === 'string' && code.startsWith('FAE_') ? code : undefined
    this.closeCode = status === 401 ? NOT_AUTHENTICATED : code === 'FAE_ERR_FORBIDDEN' ? FORBIDDEN : undefined
  }
}

export interface HttpRequest {
  readonly method?: string
  readonly query?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  readonly body?: object
  readonly signal: AbortSignal
}

/** @throws HttpError, and what fetch throws */
export async function request (door: Door, path: string, { method = 'POST', query = {}, body, signal }: HttpRequest): Promise<FetchResponse> {
  const url = door.url(path)
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
  const options: FetchOptions = { method, signal, cache: 'no-store', headers: { ...await headersOf(door, signal) } }
  if (body) {
    options.headers['content-type'] = 'application/json'
    options.body = JSON.stringify(body)
  }
  // not called as a method: browsers want theirs to be a function of its own
  const { fetch = globalThis.fetch as FetchLike } = door.options
  const response = await fetch(url.href, options)
  if (response.ok) return response
  const { code, message } = await response.json().catch(() => ({})) as Record<string, unknown>
  throw new HttpError(response.status, code, message)
}

/** Asked anew each time, so that a token may be renewed meanwhile; which may take for ever, and then nobody waits. */
async function headersOf ({ options: { headers }, report }: Door, signal: AbortSignal): Promise<Readonly<Record<string, string>> | undefined> {
  if (typeof headers !== 'function') return headers
  let abort!: () => void
  const aborted = new Promise<never>((_resolve, reject) => { abort = () => { reject(signal.reason) } })
  signal.addEventListener('abort', abort)
  try {
    return await Promise.race([headers(), aborted])
  } catch (error) {
    if (!signal.aborted) report(error)
    throw error
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/** Where a WebSocket goes that is to show headers: a constructor of the host's sends them itself. */
export async function addressOf (door: Door, signal: AbortSignal): Promise<SocketAddress> {
  const url = door.url('ws')
  if (door.options.WebSocket) return { url, headers: await headersOf(door, signal) }
  const { ticket } = await askTicket(door, signal)
  url.searchParams.set('ticket', ticket)
  return { url }
}

/** Asks who we are, and for a ticket that is good for one WebSocket. */
export async function askTicket (door: Door, signal: AbortSignal): Promise<{ ticket: string, userId: string, inbox: string }> {
  const response = await request(door, 'tickets', { signal })
  return await response.json() as { ticket: string, userId: string, inbox: string }
}
