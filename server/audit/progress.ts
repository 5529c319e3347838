const WIDTH = 30
const EVERY_MS = 80

/** A bar on a terminal; nothing elsewhere. */
export class Progress {
  readonly #stream: NodeJS.WriteStream
  #shownAt = 0

  constructor (stream: NodeJS.WriteStream) {
    this.#stream = stream
  }

  show (done: number, total: number): void {
    const now = Date.now()
    if (!this.#stream.isTTY || (now - this.#shownAt < EVERY_MS && done < total)) return
    this.#shownAt = now
    const filled = total === 0 ? WIDTH : Math.round(done / total * WIDTH)
    this.#stream.write(`\r[${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}] ${done}/${total} files`)
  }

  /** Leaves the line empty. */
  clear (): void {
    if (this.#stream.isTTY) this.#stream.write('\r\u001B[K')
  }
}
