import type { Connection } from './connection.js'

const LONGEST_TICK_MS = 1_000

export interface HeartbeatOptions {
  /** How often each connection is pinged. @default 25_000 */
  readonly intervalMs: number
  /** How long it may then stay silent. @default 10_000 */
  readonly timeoutMs: number
}

/**
 * One timer for all connections: a wheel with a slot per tick, each connection in one slot chosen at random, so that
 * pings are spread and an idle connection costs nothing between its pings.
 */
export class Heartbeat {
  readonly #slots: Array<Set<Connection>>
  readonly #slotOf = new Map<Connection, Set<Connection>>()
  readonly #tickMs: number
  readonly #timeoutTicks: number
  readonly #timeoutMs: number
  readonly #judgeMs: number
  readonly #ping: (connection: Connection) => void
  readonly #dead: (connection: Connection) => void
  #timer: NodeJS.Timeout | undefined
  #at = 0
  #lastTickAt = 0
  #trustFrom = 0

  constructor ({ intervalMs, timeoutMs }: HeartbeatOptions, ping: (connection: Connection) => void, dead: (connection: Connection) => void) {
    this.#tickMs = Math.max(5, Math.min(LONGEST_TICK_MS, intervalMs / 4, timeoutMs / 4))
    const slots = Math.max(2, Math.round(intervalMs / this.#tickMs))
    this.#slots = Array.from({ length: slots }, () => new Set())
    // Silence is looked at before the next ping of the same slot.
    this.#timeoutTicks = Math.min(slots - 1, Math.ceil(timeoutMs / this.#tickMs))
    this.#timeoutMs = timeoutMs
    // Timers may come a little early.
    this.#judgeMs = timeoutMs - this.#tickMs / 2
    this.#ping = ping
    this.#dead = dead
  }

  add (connection: Connection): void {
    const slot = this.#slots[Math.floor(Math.random() * this.#slots.length)]!
    slot.add(connection)
    this.#slotOf.set(connection, slot)
    if (this.#timer === undefined) {
      this.#lastTickAt = Date.now()
      this.#timer = setInterval(() => { this.#tick(Date.now()) }, this.#tickMs).unref()
    }
  }

  remove (connection: Connection): void {
    this.#slotOf.get(connection)?.delete(connection)
    this.#slotOf.delete(connection)
    if (this.#slotOf.size === 0) this.close()
  }

  close (): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #tick (now: number): void {
    // After a stall of this process the answers are still in the sockets: nobody is judged before they were read.
    if (now - this.#lastTickAt > this.#tickMs + this.#timeoutMs / 4) this.#trustFrom = now + this.#timeoutMs
    this.#lastTickAt = now
    const slots = this.#slots.length
    const silent = this.#slots[(this.#at + slots - this.#timeoutTicks) % slots]!
    if (now >= this.#trustFrom) {
      for (const connection of silent) if (connection.isSilent(now, this.#judgeMs)) this.#dead(connection)
    }
    for (const connection of this.#slots[this.#at]!) {
      connection.pinged(now)
      this.#ping(connection)
    }
    this.#at = (this.#at + 1) % slots
  }
}
