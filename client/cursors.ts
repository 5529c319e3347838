import type { CursorStorage } from './types.js'

/** A page that handles many events a second does not write as often. */
const WRITE_MS = 250

/** Keeps the threads' cursors for the next page. A storage that fails is reported once and then left alone. */
export class Cursors {
  #storage: CursorStorage | undefined
  readonly #prefix: string
  readonly #report: (error: unknown) => void
  readonly #unwritten = new Map<string, string | undefined>()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor (storage: CursorStorage | undefined, name: string, report: (error: unknown) => void) {
    this.#storage = storage
    this.#prefix = `agent-events ${name} `
    this.#report = report
  }

  /** What an earlier page kept; undefined for what is no cursor of ours. */
  get (threadId: string): string | undefined {
    const kept = this.#try((storage) => storage.getItem(this.#prefix + threadId))
    return kept && /^[0-9a-z]{12}-\d{10}$/.test(kept) ? kept : undefined
  }

  /** Soon; undefined removes it. */
  keep (threadId: string, cursor: string | undefined): void {
    if (this.#storage === undefined) return
    this.#unwritten.set(threadId, cursor)
    this.#timer ??= setTimeout(() => { this.flush() }, WRITE_MS)
  }

  flush (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const [threadId, cursor] of this.#unwritten) {
      this.#try((storage) => { cursor === undefined ? storage.removeItem(this.#prefix + threadId) : storage.setItem(this.#prefix + threadId, cursor) })
    }
    this.#unwritten.clear()
  }

  #try<Result> (use: (storage: CursorStorage) => Result): Result | undefined {
    try {
      return this.#storage && use(this.#storage)
    } catch (error) {
      this.#storage = undefined
      this.#report(error)
    }
  }
}
