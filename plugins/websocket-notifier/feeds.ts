import type { Store } from '../store/index.js'
import { Feed, type FeedReader } from './feed.js'

export type WatchersListener = (threadId: string, watched: boolean) => void

/** The threads that somebody follows here: one feed each, from the first reader to the last. */
export class Feeds {
  readonly #store: Store
  readonly #schedule: (feed: Feed) => void
  readonly #byThread = new Map<string, Feed>()
  readonly #onWatchers: WatchersListener[] = []

  /** @param schedule called when a feed has something to flush */
  constructor (store: Store, schedule: (feed: Feed) => void) {
    this.#store = store
    this.#schedule = schedule
  }

  get size (): number { return this.#byThread.size }
  get (threadId: string): Feed | undefined { return this.#byThread.get(threadId) }
  keys (): IterableIterator<string> { return this.#byThread.keys() }
  isWatched (threadId: string): boolean { return this.#byThread.has(threadId) }

  /** Called when the first reader of a thread comes and when the last one leaves. */
  onWatchers (listener: WatchersListener): void {
    this.#onWatchers.push(listener)
  }

  /** Joins the thread's feed; leave() must follow. @param makeReader what to make of the feed, before anything arrives */
  join<Reader extends FeedReader> (threadId: string, makeReader: (feed: Feed) => Reader): Reader {
    let feed = this.#byThread.get(threadId)
    if (feed === undefined || feed.isDeleted) this.#byThread.set(threadId, feed = new Feed(this.#store, threadId, this.#schedule))
    const reader = makeReader(feed)
    feed.readers.add(reader)
    if (feed.readers.size === 1) for (const listener of this.#onWatchers) listener(threadId, true)
    return reader
  }

  /** Idempotent. */
  leave (feed: Feed, reader: FeedReader): void {
    if (!feed.readers.delete(reader) || feed.readers.size > 0) return
    feed.close()
    // Another one may have its place: the thread was deleted, and registered again.
    if (this.#byThread.get(feed.threadId) !== feed) return
    this.#byThread.delete(feed.threadId)
    for (const listener of this.#onWatchers) listener(feed.threadId, false)
  }
}
