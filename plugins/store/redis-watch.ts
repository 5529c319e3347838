import type { RedisClient } from './redis-client.js'
import { makeEntries } from './redis-log.js'
import type { RedisSubscriber } from './redis-subscriber.js'
import type { RedisThreads } from './redis-threads.js'
import type { Entry, ThreadRecord, Watcher } from './store.js'

/** A channel that nobody needs any more is kept for so long: pages are reloaded. */
const LINGER_MS = 2_000
/** What may gather for a watcher that is about to go live. */
const MAX_HELD_ENTRIES = 1_000
const CHECK_BATCH = 100

/** Whoever was told of a gap reads what comes before the next event. */
const AFTER_GAP = -1

interface Watching {
  readonly watcher: Watcher
  /** seq of the last event told; undefined until its place is known; AFTER_GAP when the next one may be any. */
  seq: number | undefined
  epoch: string
  /** Events heard before that; undefined when there were too many. */
  held: Array<{ epoch: string, entries: readonly Entry[] }> | undefined
  heldCount: number
}

interface Channel {
  readonly threadId: string
  readonly name: string
  readonly watching: Set<Watching>
  record: ThreadRecord | undefined
  /** The newest position heard of or read. */
  epoch: string
  seq: number
  /** What a check has found to be ahead of us. */
  strike: { epoch: string, seq: number } | undefined
  idleSince: number | undefined
  live: Promise<void>
}

/** Every thread that is watched here: one channel each, however many watch it. */
export class RedisWatch {
  readonly #client: RedisClient
  readonly #threads: RedisThreads
  readonly #subscriber: RedisSubscriber
  readonly #checkMs: number
  readonly #channels = new Map<string, Channel>()
  #timer: NodeJS.Timeout | undefined
  #checkedAt = 0
  #isChecking = false
  #mustTellGap = false

  constructor (client: RedisClient, threads: RedisThreads, subscriber: RedisSubscriber, checkMs: number) {
    this.#client = client
    this.#threads = threads
    this.#subscriber = subscriber
    this.#checkMs = checkMs
  }

  start (): void {
    this.#timer = setInterval(() => { this.#tick() }, Math.min(this.#checkMs, LINGER_MS) / 2).unref()
  }

  stop (): void {
    clearInterval(this.#timer)
    this.#channels.clear()
  }

  /** What this process knows of a watched thread. */
  heldIn (threadId: string): { record: ThreadRecord, epoch: string } | undefined {
    const channel = this.#channels.get(threadId)
    return channel?.record === undefined || channel.watching.size === 0 ? undefined : { record: channel.record, epoch: channel.epoch }
  }

  get threadIds (): Iterable<string> { return this.#channels.keys() }

  /** Resolves once it is live. @throws FAE_ERR_THREAD_NOT_FOUND, FAE_ERR_STORE_UNAVAILABLE */
  async watch (threadId: string, watcher: Watcher): Promise<() => void> {
    const channel = this.#open(threadId)
    const watching: Watching = { watcher, seq: undefined, epoch: '', held: [], heldCount: 0 }
    channel.watching.add(watching)
    channel.idleSince = undefined
    const leave = (): void => { this.#leave(channel, watching) }
    try {
      await channel.live
      // Now everything new is heard; what came before this position is for the caller to read.
      const { record, epoch, head } = await this.#threads.state(threadId)
      channel.record = record
      this.#advance(channel, epoch, head)
      this.#place(watching, epoch, head)
      return leave
    } catch (error) {
      leave()
      throw error
    }
  }

  /** Something may have been missed in every thread: each watcher reads, as soon as it can. */
  gapAll (): void {
    this.#mustTellGap = true
    this.tellGap()
  }

  /** Tells of gaps that could not be told while nobody could have read. */
  tellGap (): void {
    if (!this.#mustTellGap || !this.#client.isAvailable || !this.#subscriber.isReady) return
    this.#mustTellGap = false
    for (const channel of this.#channels.values()) this.#gap(channel)
  }

  /** A publish of ours failed: nobody heard of the event. */
  missed (threadId: string): void {
    const channel = this.#channels.get(threadId)
    if (channel !== undefined) this.#gap(channel)
  }

  #open (threadId: string): Channel {
    const known = this.#channels.get(threadId)
    if (known !== undefined) return known
    const { channel: name } = this.#threads.keys.thread(threadId)
    const channel: Channel = { threadId, name, watching: new Set(), record: undefined, epoch: '', seq: -1, strike: undefined, idleSince: undefined, live: Promise.resolve() }
    channel.live = this.#subscriber.subscribe(name, this.#isSharded, (message) => { this.#heard(channel, message) })
    channel.live.catch(() => { this.#forget(channel) })
    this.#channels.set(threadId, channel)
    return channel
  }

  get #isSharded (): boolean { return this.#client.publishCommand === 'SPUBLISH' }

  #forget (channel: Channel): void {
    if (this.#channels.get(channel.threadId) === channel) this.#channels.delete(channel.threadId)
  }

  #leave (channel: Channel, watching: Watching): void {
    if (channel.watching.delete(watching) && channel.watching.size === 0) channel.idleSince = performance.now()
  }

  /** `E <epoch> <seq>` and a body per line, or `D <epoch> 0`. */
  #heard (channel: Channel, message: string): void {
    const [head, ...bodies] = message.split('\n')
    const [kind, epoch, seq] = head!.split(' ') as [string, string, string]
    // A late word of an earlier life of the thread.
    if (epoch < channel.epoch) return
    if (kind === 'D') {
      this.#deleted(channel)
      return
    }
    const entries = makeEntries([{ epoch, from: 1 }], Number(seq), bodies)
    this.#advance(channel, epoch, entries.at(-1)!.seq)
    for (const watching of [...channel.watching]) this.#tell(watching, epoch, entries)
  }

  #advance (channel: Channel, epoch: string, seq: number): void {
    if (epoch > channel.epoch) {
      channel.epoch = epoch
      channel.seq = seq
    } else if (epoch === channel.epoch && seq > channel.seq) {
      channel.seq = seq
    }
  }

  #place (watching: Watching, epoch: string, head: number): void {
    const { held } = watching
    watching.epoch = epoch
    watching.seq = head
    watching.held = []
    watching.heldCount = 0
    if (held === undefined) watching.watcher.gap()
    else for (const { epoch: heardEpoch, entries } of held) this.#tell(watching, heardEpoch, entries)
  }

  #tell (watching: Watching, epoch: string, entries: readonly Entry[]): void {
    const last = entries.at(-1)!.seq
    const first = entries[0]!.seq
    if (watching.seq === undefined) {
      watching.heldCount += entries.length
      if (watching.heldCount > MAX_HELD_ENTRIES) watching.held = undefined
      watching.held?.push({ epoch, entries })
      return
    }
    if (epoch < watching.epoch) return
    if (watching.seq === AFTER_GAP && epoch === watching.epoch) watching.seq = first - 1
    if (epoch !== watching.epoch || first > watching.seq + 1) {
      watching.epoch = epoch
      watching.seq = last
      watching.watcher.gap()
      return
    }
    if (last <= watching.seq) return
    const fresh = first === watching.seq + 1 ? entries : entries.slice(watching.seq + 1 - first)
    watching.seq = last
    watching.watcher.events(fresh)
  }

  #gap (channel: Channel): void {
    channel.strike = undefined
    for (const watching of [...channel.watching]) {
      if (watching.seq === undefined) {
        watching.held = undefined
      } else {
        watching.seq = AFTER_GAP
        watching.watcher.gap()
      }
    }
  }

  #deleted (channel: Channel): void {
    this.#forget(channel)
    this.#subscriber.unsubscribe([channel.name], this.#isSharded)
    for (const { watcher, seq } of [...channel.watching]) if (seq !== undefined) watcher.deleted()
    channel.watching.clear()
  }

  #tick (): void {
    const now = performance.now()
    const idle = [...this.#channels.values()].filter(({ idleSince }) => idleSince !== undefined && now - idleSince >= LINGER_MS)
    for (const channel of idle) this.#forget(channel)
    for (let i = 0; i < idle.length; i += CHECK_BATCH) {
      this.#subscriber.unsubscribe(idle.slice(i, i + CHECK_BATCH).map(({ name }) => name), this.#isSharded)
    }
    if (this.#isChecking || now - this.#checkedAt < this.#checkMs || !this.#client.isAvailable || !this.#subscriber.isReady) return
    this.#checkedAt = now
    this.#isChecking = true
    // Whatever fails here is checked again soon.
    this.#check().catch(() => {}).finally(() => { this.#isChecking = false })
  }

  async #check (): Promise<void> {
    const channels = [...this.#channels.values()].filter(({ watching, seq }) => watching.size > 0 && seq >= 0)
    for (let i = 0; i < channels.length; i += CHECK_BATCH) {
      await Promise.all(channels.slice(i, i + CHECK_BATCH).map((channel) => this.#checkOne(channel)))
    }
  }

  /** Two strikes: a message may still be under way at the first one. */
  async #checkOne (channel: Channel): Promise<void> {
    const { meta } = this.#threads.keys.thread(channel.threadId)
    const [seqText, epoch, tombstone] = await this.#client.command((client) => client.hmget(meta, 'seq', 'epoch', 'tombstone'))
    if (this.#channels.get(channel.threadId) !== channel) return
    const seq = Number(seqText ?? -1)
    const isAhead = epoch == null || tombstone != null || epoch > channel.epoch || (epoch === channel.epoch && seq > channel.seq)
    if (!isAhead) {
      channel.strike = undefined
      return
    }
    const found = { epoch: epoch ?? '', seq }
    const { strike } = channel
    if (strike === undefined || strike.epoch < channel.epoch || (strike.epoch === channel.epoch && strike.seq <= channel.seq)) {
      // Lost altogether is no matter of patience.
      channel.strike = found
      if (epoch != null || tombstone != null) return
    }
    if (tombstone != null) {
      this.#deleted(channel)
      return
    }
    if (epoch == null) await this.#threads.state(channel.threadId)
    else this.#advance(channel, epoch, seq)
    this.#gap(channel)
  }
}
