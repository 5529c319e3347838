import { formatCursor, type Position } from '../../schemas/index.js'
import type { Entry, Epoch, Page, Store, Watcher } from '../store/index.js'
import { frameEntries, type Batch } from './frame.js'
import type { Timing } from './stats.js'

/** Somebody who follows a thread through its feed. */
export interface FeedReader {
  /** The events of one tick, in order, without gaps since the last batch. */
  onBatch (batch: Batch): void
  /** What follows does not join on: read from where you are. */
  onGap (): void
  onDeleted (): void
}

export interface FramedPage extends Page { readonly batch: Batch }

/** One thread as this process sees it: one watch on the store, shared by everybody who follows the thread here. */
export class Feed implements Watcher {
  readonly threadId: string
  readonly readers = new Set<FeedReader>()
  /** seq of the newest event the watch has told of. */
  head = 0
  /** Its thread is gone, and the watch with it: who comes now needs another. */
  isDeleted = false
  /** Raised by every gap: who read before it has not seen what it hides. */
  generation = 0
  epochs: readonly Epoch[] = []
  readonly #store: Store
  readonly #schedule: (feed: Feed) => void
  /** Under way, by the seq they begin after. */
  #reads: Map<number, Promise<FramedPage>> | undefined
  readonly #ready: Promise<() => void>
  /** The same array always, as a lane's queue is. */
  readonly #pending: Entry[] = []
  /** An event whose way to the sockets is timed, and the newest that went this way. */
  #timed: { readonly seq: number, readonly at: number } | undefined
  #written = { seq: 0, at: 0 }

  /** @param schedule called once per tick in which there is something to flush */
  constructor (store: Store, threadId: string, schedule: (feed: Feed) => void) {
    this.#store = store
    this.threadId = threadId
    this.#schedule = schedule
    this.#ready = store.watch(threadId, this)
    this.#ready.catch(() => {})
  }

  /** Resolves once every later event is certain to arrive. @throws FAE_ERR_THREAD_NOT_FOUND */
  async ready (): Promise<void> {
    await this.#ready
  }

  close (): void {
    this.#ready.then((unwatch) => { unwatch() }, () => {})
    this.#pending.length = 0
  }

  /** A page after `seq`, framed; readers that ask for the same while it is under way share it. */
  read (seq: number): Promise<FramedPage> {
    const reads = this.#reads ??= new Map()
    let page = reads.get(seq)
    if (page === undefined) {
      page = this.#read(seq)
      reads.set(seq, page)
      const done = (): void => {
        reads.delete(seq)
        if (reads.size === 0 && this.#reads === reads) this.#reads = undefined
      }
      page.then(done, done)
    }
    return page
  }

  async #read (seq: number): Promise<FramedPage> {
    const page = await this.#store.read(this.threadId, seq)
    // An answer may be overtaken by a later one; whoever is shown this page may name every position in it at once.
    const known = this.epochs.at(-1)
    if (known === undefined || page.epochs.at(-1)!.epoch >= known.epoch) this.epochs = page.epochs
    return { ...page, batch: frameEntries(page.entries) }
  }

  events (entries: readonly Entry[]): void {
    if (this.#pending.length === 0) this.#schedule(this)
    for (const entry of entries) this.#pending.push(entry)
    this.head = entries[entries.length - 1]!.seq
  }

  gap (): void {
    this.generation++
    // The log may have lost its tail: who waited for the old head would wait, and read, for ever.
    this.head = 0
    this.#pending.length = 0
    this.#reads = undefined
    for (const reader of this.readers) reader.onGap()
  }

  deleted (): void {
    this.isDeleted = true
    // The ends of the runs that were live in it: nobody can read them again.
    this.flush()
    for (const reader of this.readers) reader.onDeleted()
  }

  /** What was flushed is in the sockets: called only while somebody times. */
  written (timing: Timing): void {
    const at = performance.now()
    this.#written = { seq: this.head, at }
    if (this.#timed === undefined || this.#timed.seq > this.head) return
    timing.delivery((at - this.#timed.at) / 1_000)
    this.#timed = undefined
  }

  /** An append that was begun at `at` has given this seq; its events may be in the sockets already. */
  time (seq: number, at: number, timing: Timing): void {
    if (this.#written.seq < seq) this.#timed = { seq, at }
    else timing.delivery(Math.max(0, this.#written.at - at) / 1_000)
  }

  /** Hands the events of this tick to every reader, framed once. */
  flush (): void {
    if (this.#pending.length === 0) return
    const batch = frameEntries(this.#pending.splice(0))
    for (const reader of this.readers) reader.onBatch(batch)
  }
}

/** Whether a position still counts: its epoch is known, and the next one began after it. */
export function isInPlace ({ epochs, head, first }: Page, { epoch, seq }: Position): boolean {
  const index = epochs.findIndex((known) => known.epoch === epoch)
  if (index < 0 || seq < first - 1) return false
  const next = epochs[index + 1]
  return next === undefined ? seq <= head : seq < next.from
}

export function epochOf (epochs: readonly Epoch[], seq: number): string {
  for (let i = epochs.length - 1; i > 0; i--) if (epochs[i]!.from <= seq) return epochs[i]!.epoch
  return epochs[0]!.epoch
}

export function cursorAt (epochs: readonly Epoch[], seq: number): string {
  return formatCursor(epochOf(epochs, seq), seq)
}
