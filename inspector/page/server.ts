import { createClient, type Client } from '../../client/index.js'
import type { Line } from './line.js'

/** What the host has said in the page. */
export interface Settings {
  readonly base: string
  readonly identify: 'session' | 'userId' | 'bearer'
  readonly suggestions: readonly string[]
}

export interface ThreadInfo { readonly threadId: string, readonly head: number, readonly createdAt: string, readonly metadata?: { readonly title?: unknown } }
export interface AgentInfo { readonly name: string, readonly description: string, readonly default: boolean }
export interface RunInfo { readonly runId: string, readonly threadId: string }

const NOT_AUTHENTICATED = 4401

/** An answer that says no. */
export class Refusal extends Error {
  readonly status: number
  readonly code: string
  /** What the same answer would be on a socket. */
  readonly closeCode: number | undefined

  constructor (status: number, code: string, message: string) {
    super(message)
    this.status = status
    this.code = code
    if (status === 401) this.closeCode = NOT_AUTHENTICATED
  }
}

/** The host's routes, as the person who is asking. */
export class Server {
  readonly settings: Settings
  /** The name or the token of the person, see Settings.identify. */
  readonly who: string

  constructor (settings: Settings, who: string) {
    this.settings = settings
    this.who = who
  }

  /** @param token instead of the person's, where the identity is a token */
  async get<Body> (path: string, token?: string): Promise<Body> {
    return this.#ask<Body>(path, { headers: this.#headers(token) })
  }

  async post<Body> (path: string, body: unknown): Promise<Body> {
    return this.#ask<Body>(path, { method: 'POST', headers: { ...this.#headers(), 'content-type': 'application/json' }, body: JSON.stringify(body) })
  }

  /** @param line see addressOf */
  client (line: Line): Client {
    return createClient({
      url: this.settings.base + '/',
      WebSocket: line.WebSocket,
      fetch: line.fetch,
      ...this.settings.identify === 'bearer' && { headers: this.#headers() },
      ...this.settings.identify === 'userId' && { query: { userId: this.who } },
      backoff: { maxMs: 5_000 }
    })
  }

  /** The address of a new socket: a ticket is part of it, because a page cannot give a socket headers. */
  readonly addressOf = async (url: string): Promise<string> => {
    const address = new URL(url)
    if (this.settings.identify === 'bearer') address.searchParams.set('ticket', (await this.post<{ ticket: string }>('/tickets', {})).ticket)
    return address.href
  }

  #headers (token = this.who): Record<string, string> {
    return this.settings.identify === 'bearer' && token !== '' ? { authorization: `Bearer ${token}` } : {}
  }

  async #ask<Body> (path: string, init: RequestInit): Promise<Body> {
    const url = new URL(this.settings.base + path, location.href)
    if (this.settings.identify === 'userId') url.searchParams.set('userId', this.who)
    const response = await fetch(url, init)
    const text = await response.text()
    if (response.ok) return JSON.parse(text) as Body
    let body: { code?: string, message?: string } = {}
    try {
      body = JSON.parse(text) as typeof body
    } catch {
      // not ours: a proxy, or nothing at all
    }
    throw new Refusal(response.status, body.code ?? '', body.message ?? `The server answered ${response.status}`)
  }
}
