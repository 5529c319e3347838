import { clientError } from './client-error.js'
import type { ClientOptions } from './types.js'

/** Where the server is and what is shown there. */
export class Door {
  readonly options: ClientOptions
  /** For what the host's functions throw. */
  readonly report: (error: unknown) => void
  readonly #base: URL

  /** @throws AgentEventsError FAE_ERR_OPTION_INVALID, for an url that is none */
  constructor (options: ClientOptions, report: (error: unknown) => void) {
    const { url, query } = this.options = options
    this.report = report
    const page = (globalThis as { location?: { href: string } }).location?.href
    if (!URL.canParse(url, page)) throw clientError('FAE_ERR_OPTION_INVALID', `Invalid url, or outside of a page not absolute: ${url}`)
    const base = this.#base = new URL(url, page)
    base.pathname = base.pathname.replace(/\/*$/, '/')
    base.hash = ''
    for (const [name, value] of Object.entries(query ?? {})) base.searchParams.set(name, value)
  }

  /** What tells this server from others, without what a query may hold of secrets. */
  get name (): string { return this.#base.origin + this.#base.pathname }

  url (path: string): URL {
    const url = new URL(this.#base)
    url.pathname += path
    return url
  }
}
