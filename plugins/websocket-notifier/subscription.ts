import { formatCursor, type Position } from '../../schemas/index.js'
import type { Connection } from './connection.js'
import { cursorAt, epochOf, isInPlace, type Feed, type FeedReader, type FramedPage } from './feed.js'
import type { Batch } from './frame.js'

/** How soon a read is tried again while the store is away. */
const READ_AGAIN_MS = 250

export type SubscriptionState = 'starting' | 'replaying' | 'live' | 'stalled' | 'closed'

/** A connection's cursor on a thread, with the pump that moves it: live from the feed, behind from the log. */
export class Subscription implements FeedReader {
  readonly connection: Connection
  readonly feed: Feed
  readonly since = Date.now()
  state: SubscriptionState = 'starting'
  /** seq of the last event sent. */
  seq = 0
  /** seq of the last event the client has processed. */
  acked = 0
  /** seq up to which the events were gone before this client could be shown them. */
  skipped = 0
  /** Of subscribes that came while the first one was not answered yet. */
  readonly refs: Array<string | undefined> = []
  #epoch = ''
  #pumping = false
  /** seq at the last loss of place: to lose it again without having moved is hopeless. */
  #lostAt = -1

  constructor (connection: Connection, feed: Feed) {
    this.connection = connection
    this.feed = feed
  }

  get threadId (): string { return this.feed.threadId }

  /** The position before the next event that will be sent; undefined while it has no place yet. */
  get cursor (): string | undefined { return this.state === 'starting' ? undefined : cursorAt(this.feed.epochs, this.seq) }

  /** Asked for once more on its socket: it is one subscription and goes on from where it is. */
  again (ref: string | undefined): void {
    if (this.state === 'starting') this.refs.push(ref)
    else this.#answer(ref, cursorAt(this.feed.epochs, this.seq), Math.max(this.feed.head, this.seq), true)
  }

  /**
   * Finds its place, answers `subscribed` and sets the pump going. Rejects, unanswered, when the thread cannot be read.
   * @param asked the client's position; undefined means from the first retained event
   */
  async start (asked: Position | undefined, ref: string | undefined): Promise<void> {
    this.#pumping = true
    await this.feed.ready()
    const generation = this.feed.generation
    let page = await this.feed.read(asked?.seq ?? 0)
    if (this.#isClosed()) return
    const recovered = asked === undefined ? page.first === 1 : isInPlace(page, asked)
    if (recovered && asked !== undefined) {
      this.seq = this.acked = asked.seq
      this.#epoch = asked.epoch
    } else {
      if (page.first - 1 !== (asked?.seq ?? 0)) page = await this.feed.read(page.first - 1)
      if (this.#isClosed()) return
      this.#placeAtFirst(page)
    }
    const cursor = recovered && asked !== undefined ? formatCursor(asked.epoch, asked.seq) : cursorAt(page.epochs, this.seq)
    for (const each of [ref, ...this.refs.splice(0)]) this.#answer(each, cursor, page.head, recovered)
    this.#log(recovered, page)
    this.state = 'replaying'
    this.#pump(page, generation).catch((error: Error) => { this.connection.failSubscription(this, error) })
  }

  onBatch (batch: Batch): void {
    if (this.state !== 'live') return
    const { entries, buffer, offsets } = batch
    const first = entries[0]!.seq
    const last = entries[entries.length - 1]!.seq
    if (last <= this.seq) return
    if (first > this.seq + 1) {
      this.#replay()
    } else if (this.connection.congested) {
      this.#stall()
    } else {
      this.connection.write(first === this.seq + 1 ? buffer : buffer.subarray(offsets[this.seq + 1 - first]))
      this.connection.delivered += last - this.seq
      this.seq = last
    }
  }

  onGap (): void {
    if (this.state === 'live') this.#replay()
  }

  onDeleted (): void {
    this.connection.unsubscribe(this.threadId, 'deleted')
  }

  /** The socket has drained: go on from the log. */
  resume (): void {
    if (this.state === 'stalled') this.#replay()
  }

  close (): void {
    this.state = 'closed'
  }

  #isClosed (): boolean { return this.state === 'closed' }

  #replay (): void {
    this.state = 'replaying'
    this.connection.stats.replays++
    if (!this.#pumping) this.#pump().catch((error: Error) => { this.connection.failSubscription(this, error) })
  }

  #stall (): void {
    this.state = 'stalled'
    this.connection.whenDrained(this)
  }

  async #pump (firstPage?: FramedPage, firstGeneration?: number): Promise<void> {
    this.#pumping = true
    try {
      let page = firstPage
      let generation = firstGeneration ?? this.feed.generation
      for (;;) {
        if (page === undefined) {
          if (this.connection.congested) return this.#stall()
          generation = this.feed.generation
          page = await this.#read()
          if (page === undefined) return
        }
        // Others may have filled the socket meanwhile: this page is read again when it has drained.
        if (this.connection.congested) return this.#stall()
        if (!isInPlace(page, { epoch: this.#epoch, seq: this.seq })) {
          page = await this.#lose(page)
          if (page === undefined) return
        }
        this.#write(page)
        if (this.seq >= page.head && this.seq >= this.feed.head && generation === this.feed.generation) {
          this.state = 'live'
          this.#lostAt = -1
          return
        }
        page = undefined
      }
    } finally {
      this.#pumping = false
    }
  }

  /** The next page, however long the store is away; undefined when the subscription closed meanwhile. */
  async #read (): Promise<FramedPage | undefined> {
    while (!this.#isClosed()) {
      try {
        const page = await this.feed.read(this.seq)
        return this.#isClosed() ? undefined : page
      } catch (error) {
        if ((error as { code?: string }).code !== 'FAE_ERR_STORE_UNAVAILABLE') throw error
        await new Promise((resolve) => { setTimeout(resolve, READ_AGAIN_MS).unref() })
      }
    }
    return undefined
  }

  #write ({ entries, batch, epochs }: FramedPage): void {
    // A shared page may begin before our place: what was sent is not sent again.
    const last = entries.at(-1)?.seq ?? this.seq
    if (last > this.seq) {
      const offset = batch.offsets[this.seq + 1 - entries[0]!.seq]!
      this.connection.write(offset === 0 ? batch.buffer : batch.buffer.subarray(offset))
      this.connection.delivered += last - this.seq
      this.seq = last
    }
    this.#epoch = epochOf(epochs, this.seq)
  }

  /**
   * Trimmed past, or another epoch: the client is told, and everything retained follows.
   * @returns the page that begins with the first retained event: by the next read that one may be gone, and the place with it; undefined when that is hopeless
   */
  async #lose (page: FramedPage): Promise<FramedPage | undefined> {
    if (this.#lostAt === this.seq) {
      this.connection.close('slowConsumer')
      return undefined
    }
    if (page.entries[0]?.seq !== page.first) page = await this.feed.read(page.first - 1)
    if (this.#isClosed()) return undefined
    this.#placeAtFirst(page)
    this.#lostAt = this.seq
    this.#answer(undefined, cursorAt(page.epochs, this.seq), page.head, false)
    this.#log(false, page)
    return page
  }

  #answer (ref: string | undefined, cursor: string, head: number, recovered: boolean): void {
    this.connection.send({ type: 'subscribed', ...(ref !== undefined && { ref }), threadId: this.threadId, cursor, head, recovered })
  }

  #placeAtFirst (page: FramedPage): void {
    this.seq = page.first - 1
    this.acked = this.skipped = this.seq
    this.#epoch = epochOf(page.epochs, this.seq)
  }

  #log (recovered: boolean, { head }: FramedPage): void {
    const { id: connectionId, user: { userId }, log, stats } = this.connection
    stats.subscribed[recovered ? 'recovered' : 'reset']++
    log.info({ threadId: this.threadId, connectionId, userId, recovered, seq: this.seq, head }, 'subscribed')
  }
}
