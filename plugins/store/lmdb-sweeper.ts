import { decodeHeader } from './lmdb-chunk.js'
import type { LmdbFiles } from './lmdb-files.js'
import type { LmdbRuns } from './lmdb-runs.js'
import type { LmdbThread } from './lmdb-thread.js'
import type { LmdbThreads } from './lmdb-threads.js'
import type { LmdbWriter } from './lmdb-writer.js'
import type { Retention } from './store.js'

/** How often there is a slice of each. */
const SLICE_MS = 250
/** How long to rest when all threads have been looked at. */
const REST_MS = 60_000
/** Per slice: threads that appends let grow, and chunks of each. */
const TRIM_THREADS = 100
const TRIM_CHUNKS = 64
/** Per slice: chunks of deleted threads. */
const GARBAGE_CHUNKS = 500
/** Per slice: all threads by turns, for their age. */
const AGE_THREADS = 250
const TOMBSTONES = 100
const EVICT_THREADS = 2_000

/** Trimming, expiry and eviction: in slices that never hold the event loop, away from appends and reads. */
export class LmdbSweeper {
  readonly #files: LmdbFiles
  readonly #writer: LmdbWriter
  readonly #threads: LmdbThreads
  readonly #runs: LmdbRuns
  readonly #retention: Retention
  readonly #growing = new Set<LmdbThread>()
  #timer: NodeJS.Timeout | undefined
  #lastKey: string | undefined
  #restUntil = 0

  constructor (files: LmdbFiles, writer: LmdbWriter, threads: LmdbThreads, runs: LmdbRuns, retention: Retention) {
    this.#files = files
    this.#writer = writer
    this.#threads = threads
    this.#runs = runs
    this.#retention = retention
  }

  /** @param isWritable while the disk refuses writes there is nothing to sweep */
  start (isWritable: () => boolean): void {
    this.#timer = setInterval(() => { if (isWritable()) this.sweep() }, SLICE_MS).unref()
  }

  stop (): void {
    clearInterval(this.#timer)
  }

  /** Its log has more than it may have. */
  onGrown (thread: LmdbThread): void {
    this.#growing.add(thread)
  }

  sweep (now = Date.now()): void {
    this.#trimGrown(now)
    this.#expire(now)
    this.#removeTombstones(now)
    this.#removeGarbage()
    this.#threads.evict(EVICT_THREADS, now)
  }

  trim (thread: LmdbThread, now: number): void {
    if (thread.trim(this.#retention, now, this.#files.log, TRIM_CHUNKS)) this.#writer.next.touch(thread)
  }

  #trimGrown (now: number): void {
    let left = TRIM_THREADS
    for (const thread of this.#growing) {
      if (left-- === 0) break
      // One that left memory meanwhile is found by its age, or when it grows again.
      const isInUse = this.#threads.holds(thread)
      if (isInUse) this.trim(thread, now)
      // One that has more to trim than a slice allows stays for the next one.
      if (!isInUse || !thread.exceeds(this.#retention, now)) this.#growing.delete(thread)
    }
  }

  #expire (now: number): void {
    if (now < this.#restUntil) return
    const { threads, positions } = this.#files
    const start = this.#lastKey === undefined ? {} : { start: this.#lastKey, exclusiveStart: true }
    let looked = 0
    for (const { key, value: { no, record } } of threads.getRange({ ...start, limit: AGE_THREADS })) {
      looked++
      this.#lastKey = key
      const position = positions.get(no)
      if (position === undefined) continue
      const isEmpty = position.f > position.h
      if (isEmpty ? position.t < now - this.#retention.positionMs : position.o < now - this.#retention.maxAgeMs) this.#expireThread(record.threadId, no, now)
    }
    if (looked === AGE_THREADS) return
    this.#lastKey = undefined
    this.#restUntil = now + REST_MS
  }

  #expireThread (threadId: string, no: number, now: number): void {
    const thread = this.#threads.get(threadId, now)
    if (thread?.no !== no) return
    this.trim(thread, now)
    if (thread.exceeds(this.#retention, now)) this.#growing.add(thread)
    const isUsed = thread.size > 0 || thread.addition !== undefined || thread.commit !== undefined || thread.watchers.length > 0 || this.#runs.roots(no).length > 0
    if (!isUsed && thread.touchedAt < now - this.#retention.positionMs) this.#threads.remove(this.#writer.next, thread)
  }

  #removeTombstones (now: number): void {
    const { tombstones, expiry } = this.#files
    for (const key of expiry.getKeys({ end: [now, ''], limit: TOMBSTONES })) {
      const commit = this.#writer.next
      commit.remove(expiry, key)
      if (tombstones.get(key[1])?.until === key[0]) commit.remove(tombstones, key[1])
    }
  }

  #removeGarbage (): void {
    const { garbage, log } = this.#files
    let left = GARBAGE_CHUNKS
    for (const no of garbage.getKeys({ limit: 10 })) {
      const commit = this.#writer.next
      for (const { key: [, first], value } of log.getRange({ start: [no, 0], end: [no, Number.MAX_SAFE_INTEGER], limit: left })) {
        this.#writer.removeChunk(commit, no, decodeHeader(first, value))
        left--
      }
      if (left === 0) return
      commit.remove(garbage, no)
    }
  }
}
