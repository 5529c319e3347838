import { formatCursor, newEpoch } from '../../schemas/index.js'
import { decodeHeader, eachBody, wireBytes, type Addition, type ChunkHeader } from './lmdb-chunk.js'
import type { KeyRow, LmdbFiles, PositionRow } from './lmdb-files.js'
import type { Commit } from './lmdb-writer.js'
import { EPOCHS, PAGE_BYTES, type Entry, type Epoch, type Retention, type ThreadRecord, type ThreadState, type Watcher } from './store.js'

/**
 * One thread in memory, while somebody uses it. Two heads: `head` is what was decided, `committed` is what the disk has;
 * nobody outside is told of more than that.
 */
export class LmdbThread {
  readonly no: number
  readonly record: ThreadRecord
  epochs: readonly Epoch[] = []
  head = 0
  committed = 0
  /** seq of the oldest retained event. */
  first = 1
  /** Bytes retained and committed. */
  bytes = 0
  /** When the oldest retained event was stored. */
  oldestAt = 0
  touchedAt = 0
  watchers: readonly Watcher[] = []
  /** The last commit that has something of this thread, until it is done. */
  commit: Commit | undefined
  /** Not on disk yet, or its new epoch is not: nobody is told of it before. */
  isUnborn = false
  isDeleted = false
  usedAt = 0
  /** Keys that were decided and are not on disk yet. */
  readonly keys = new Map<string, KeyRow>()
  /** Decided since the last commit began. */
  addition: Addition | undefined
  /** What of the log is to be removed with the next commit. */
  trimmed: ChunkHeader[] = []
  #oldest: ChunkHeader | undefined

  constructor (no: number, record: ThreadRecord) {
    this.no = no
    this.record = record
  }

  get epoch (): string { return this.epochs[this.epochs.length - 1]!.epoch }
  /** As it is on disk. */
  get state (): ThreadState { return { record: this.record, epoch: this.epoch, head: this.committed } }
  get size (): number { return this.committed - this.first + 1 }

  begin (previous: string | undefined, now: number): void {
    this.epochs = [{ epoch: newEpoch(previous), from: 1 }]
    this.touchedAt = now
    this.isUnborn = true
  }

  /** Takes what the disk has, and nothing else. @returns whether this is a later generation of the data, with a new epoch */
  restore (row: PositionRow, generation: number): boolean {
    this.head = this.committed = row.h
    this.first = row.f
    this.bytes = row.b
    this.oldestAt = row.o
    this.touchedAt = row.t
    this.epochs = row.e.map(([epoch, from]) => ({ epoch, from }))
    this.keys.clear()
    this.addition = this.commit = this.#oldest = undefined
    this.trimmed = []
    this.isDeleted = false
    this.isUnborn = row.g !== generation
    if (this.isUnborn) this.epochs = [...this.epochs, { epoch: newEpoch(this.epoch), from: this.head + 1 }].slice(-EPOCHS)
    return this.isUnborn
  }

  /** @param added bytes that the commit adds */
  row (generation: number, added: number, now: number): PositionRow {
    const isEmpty = this.first > this.committed
    return {
      h: this.head,
      f: this.first,
      b: this.bytes + added,
      o: isEmpty && added > 0 ? now : this.oldestAt,
      t: added > 0 ? now : this.touchedAt,
      g: generation,
      e: this.epochs.map(({ epoch, from }) => [epoch, from] as const)
    }
  }

  /** @returns seq of the first of them */
  push (bodies: readonly string[]): number {
    const first = this.head + 1
    const { bodies: all } = this.addition ??= { first, bodies: [], keys: [], ended: [] }
    for (const body of bodies) all.push(body)
    this.head += bodies.length
    return first
  }

  /** The disk has it now. */
  added ({ first, bodies, keys }: Addition, bytes: number, now: number): void {
    if (this.first > this.committed) this.oldestAt = now
    this.committed = first + bodies.length - 1
    this.bytes += bytes
    this.touchedAt = now
    for (const [keyHash, seq] of keys) if (this.keys.get(keyHash)?.last === seq) this.keys.delete(keyHash)
  }

  entry (seq: number, body: string): Entry {
    return { seq, json: `{"id":"${formatCursor(this.epoch, seq)}","seq":${seq},${body.slice(1)}` }
  }

  /** Whether retention asks for a trim, as far as that can be said without looking at the log. */
  exceeds ({ maxEvents, maxBytes, maxAgeMs }: Retention, now: number): boolean {
    return this.size > 0 && (this.size > maxEvents || this.bytes > maxBytes || this.oldestAt < now - maxAgeMs)
  }

  /**
   * Forgets what retention no longer covers, looking at no more than `budget` chunks.
   * @returns whether anything was forgotten: then the thread is part of the next commit
   */
  trim (retention: Retention, now: number, log: LmdbFiles['log'], budget: number): boolean {
    const before = this.first
    for (let left = budget; left > 0 && this.exceeds(retention, now);) {
      const oldest = this.#oldest ??= this.#loadOldest(log)
      this.oldestAt = oldest.at
      const isOld = oldest.at < now - retention.maxAgeMs
      if (!isOld && this.size <= retention.maxEvents && this.bytes <= retention.maxBytes) break
      const end = oldest.first + oldest.sizes.length
      const until = isOld ? end : Math.min(end, this.committed - retention.maxEvents + 1)
      while (this.first < until || (this.first < end && this.bytes > retention.maxBytes)) {
        this.bytes -= wireBytes(this.first, oldest.sizes[this.first - oldest.first]!)
        this.first++
      }
      if (this.first < end) break
      this.trimmed.push(oldest)
      this.#oldest = undefined
      left--
    }
    return this.first !== before
  }

  /** Events after `afterSeq` that are on disk, as many as a page takes. */
  read (log: LmdbFiles['log'], afterSeq: number, limit: number): Entry[] {
    const entries: Entry[] = []
    const from = Math.max(afterSeq + 1, this.first)
    if (from > this.committed || limit < 1) return entries
    let bytes = 0
    const visit = (seq: number, body: string, size: number): boolean => {
      if (seq > this.committed) return false
      entries.push(this.entry(seq, body))
      bytes += size
      return entries.length < limit && bytes < PAGE_BYTES
    }
    const start = this.#chunkOf(log, from)
    for (const { key: [, first], value } of log.getRange({ start: [this.no, start], end: [this.no, Number.MAX_SAFE_INTEGER] })) {
      if (!eachBody(first, value, from, visit)) break
    }
    return entries
  }

  #loadOldest (log: LmdbFiles['log']): ChunkHeader {
    const first = this.#chunkOf(log, this.first)
    return decodeHeader(first, log.get([this.no, first])!)
  }

  /** seq under which the chunk lies that holds `seq`. */
  #chunkOf (log: LmdbFiles['log'], seq: number): number {
    const [key] = log.getKeys({ start: [this.no, seq], end: [this.no, 0], reverse: true, limit: 1 })
    return key?.[1] ?? seq
  }
}
