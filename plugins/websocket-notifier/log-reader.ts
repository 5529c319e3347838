import type { Position } from '../../schemas/index.js'
import type { Entry, Page } from '../store/index.js'
import { cursorAt, epochOf, isInPlace, type Feed, type FeedReader } from './feed.js'

/** What comes next for a reader that asks for it. */
export type Step =
  | { type: 'events', entries: readonly Entry[], cursor: string, upToDate: boolean }
  /** The place is lost: everything retained follows. */
  | { type: 'reset', cursor: string }
  /** Nothing new within the time given. */
  | { type: 'timeout', cursor: string }
  | { type: 'deleted' }

/** A cursor on a log that is pulled: nothing is read before the last step is through, so that a slow peer costs nothing. */
export class LogReader implements FeedReader {
  readonly feed: Feed
  #position: Position | undefined
  #isDeleted = false
  #isCancelled = false
  #isStale = true
  #isFirst = true
  #wake: (() => void) | undefined
  /** What follows a reset. */
  #next: Page | undefined

  /** @param position where to go on; its epoch may be of an earlier history; undefined begins with the first retained event */
  constructor (feed: Feed, position: Position | undefined) {
    this.feed = feed
    this.#position = position
  }

  onBatch (): void { this.#awake() }
  onGap (): void { this.#awake() }
  /** No further step: the next one says deleted. */
  end (): void { this.onDeleted() }

  onDeleted (): void {
    this.#isDeleted = true
    this.#awake()
  }

  /** Nobody waits any more: what waits now or would wait later is a timeout at once. */
  cancel (): void {
    this.#isCancelled = true
    this.#wake?.()
  }

  /** As if nobody waited any more, but what is stored by now is read before. */
  finish (): void {
    this.#isStale = true
    this.cancel()
  }

  /**
   * The events after the last step's; at the end of the log it waits for more. The first step always answers at once.
   * @param waitMs how long to wait
   * @throws FAE_ERR_STORE_UNAVAILABLE
   */
  async next (waitMs: number): Promise<Step> {
    await this.feed.ready()
    for (;;) {
      if (this.#isDeleted) return { type: 'deleted' }
      if (this.#isStale) {
        this.#isStale = false
        const step = await this.#read()
        if (step !== undefined) return step
      }
      if (!this.#isStale && !await this.#wait(waitMs)) return { type: 'timeout', cursor: cursorAt(this.feed.epochs, this.#position!.seq) }
    }
  }

  async #read (): Promise<Step | undefined> {
    let page = this.#next ?? await this.feed.read(this.#position?.seq ?? 0)
    this.#next = undefined
    this.#position ??= { epoch: epochOf(page.epochs, page.first - 1), seq: page.first - 1 }
    if (!isInPlace(page, this.#position)) {
      // Kept for the next step: on a busy thread at its limit what is first now is gone by the next read, and so on for ever.
      if (page.entries[0]?.seq !== page.first) page = await this.feed.read(page.first - 1)
      this.#next = page
      const seq = page.first - 1
      this.#position = { epoch: epochOf(page.epochs, seq), seq }
      this.#isStale = true
      return { type: 'reset', cursor: cursorAt(page.epochs, seq) }
    }
    const from = this.#position.seq
    const entries = page.entries.filter(({ seq }) => seq > from)
    const seq = entries.at(-1)?.seq ?? from
    this.#position = { epoch: epochOf(page.epochs, seq), seq }
    const upToDate = seq >= page.head && seq >= this.feed.head
    this.#isStale ||= !upToDate
    const isFirst = this.#isFirst
    this.#isFirst = false
    return entries.length > 0 || isFirst ? { type: 'events', entries, cursor: cursorAt(page.epochs, seq), upToDate } : undefined
  }

  /** @returns false when nothing came */
  async #wait (waitMs: number): Promise<boolean> {
    if (this.#isCancelled) return false
    return new Promise((resolve) => {
      const settle = (): void => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve(this.#isStale || this.#isDeleted)
      }
      const timer = setTimeout(settle, waitMs)
      this.#wake = settle
    })
  }

  #awake (): void {
    this.#isStale = true
    this.#wake?.()
  }
}
