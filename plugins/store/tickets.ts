/** Most tickets that wait at once: the oldest go first. */
const MOST = 100_000

/** One-time tickets of a store that one process has to itself; they live for seconds, and die with it. */
export class Tickets {
  readonly #byTicket = new Map<string, { value: string, until: number }>()

  put (ticket: string, value: string, ttlMs: number): void {
    const now = Date.now()
    for (const [old, { until }] of this.#byTicket) {
      if (until > now && this.#byTicket.size < MOST) break
      this.#byTicket.delete(old)
    }
    this.#byTicket.set(ticket, { value, until: now + ttlMs })
  }

  take (ticket: string): string | undefined {
    const kept = this.#byTicket.get(ticket)
    this.#byTicket.delete(ticket)
    return kept !== undefined && kept.until > Date.now() ? kept.value : undefined
  }
}
