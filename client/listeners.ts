export type Listener<Args extends unknown[]> = (...args: Args) => unknown

/** Functions that want to be told. One that throws or rejects is reported and does not keep the others from being called. */
export class Listeners<Args extends unknown[]> {
  readonly #entries = new Set<{ listener: Listener<Args> }>()
  readonly #report: (error: unknown, ...args: Args) => void

  constructor (report: (error: unknown, ...args: Args) => void) {
    this.#report = report
  }

  get size (): number { return this.#entries.size }

  /** @returns removes it again; the same function may be added twice */
  add (listener: Listener<Args>): () => void {
    const entry = { listener }
    this.#entries.add(entry)
    return () => { this.#entries.delete(entry) }
  }

  /** @returns undefined if all are done already, else a promise that never rejects and resolves when all have settled */
  call (...args: Args): Promise<unknown> | undefined {
    const report = (error: unknown) => { this.#report(error, ...args) }
    const pending: Promise<unknown>[] = []
    for (const entry of [...this.#entries]) {
      if (!this.#entries.has(entry)) continue
      try {
        const result = entry.listener(...args) as Partial<Promise<unknown>> | null | undefined
        if (typeof result?.then === 'function') pending.push(Promise.resolve(result).catch(report))
      } catch (error) {
        report(error)
      }
    }
    return pending.length === 0 ? undefined : Promise.all(pending)
  }

  clear (): void { this.#entries.clear() }
}
