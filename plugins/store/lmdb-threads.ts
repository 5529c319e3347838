import { hash, idKey, type LmdbFiles, type TombstoneRow } from './lmdb-files.js'
import { LmdbThread } from './lmdb-thread.js'
import type { Commit, LmdbWriter } from './lmdb-writer.js'
import type { ThreadRecord } from './store.js'

/** Threads that nobody uses leave memory after this. */
const IDLE_MS = 60_000
/** Above this many they need not be idle for so long. */
const MANY_THREADS = 20_000

/** The threads that are in use, and how the others are found. What was decided and is not on disk yet overlays the disk. */
export class LmdbThreads {
  readonly #files: LmdbFiles
  readonly #writer: LmdbWriter
  readonly #threads = new Map<string, LmdbThread>()
  /** Deleted, and the disk does not know yet. */
  readonly #deleted = new Map<string, { readonly commit: Commit, readonly tombstone: TombstoneRow }>()
  /** Made, and the disk does not know yet. */
  readonly #inboxes = new Map<string, string>()
  readonly #countOf = new Map<string, number>()
  #nextNo: number
  #evictAt: Iterator<LmdbThread> | undefined

  constructor (files: LmdbFiles, writer: LmdbWriter) {
    this.#files = files
    this.#writer = writer
    const newest = { reverse: true, limit: 1 }
    this.#nextNo = 1 + Math.max(0, ...files.positions.getKeys(newest), ...files.garbage.getKeys(newest))
  }

  get (threadId: string, now: number): LmdbThread | undefined {
    const thread = this.#threads.get(threadId) ?? this.#load(threadId)
    if (thread !== undefined) thread.usedAt = now
    return thread
  }

  /** Whether this is still the one object that stands for its thread. */
  holds (thread: LmdbThread): boolean {
    return this.#threads.get(thread.record.threadId) === thread
  }

  inbox (userId: string): string | undefined {
    return this.#inboxes.get(userId) ?? this.#files.inboxes.get(hash(userId))
  }

  tombstone (threadId: string, now: number): TombstoneRow | undefined {
    const tombstone = this.#deleted.get(threadId)?.tombstone ?? this.#files.tombstones.get(idKey(threadId))
    return tombstone !== undefined && tombstone.until > now ? tombstone : undefined
  }

  /** How many threads a user has, without the inbox. */
  count (userId: string): number {
    let count = this.#countOf.get(userId)
    if (count === undefined) {
      const user = hash(userId)
      count = this.#files.users.getKeysCount({ start: [user, ''], end: [user, '\u{10ffff}'] })
      this.#countOf.set(userId, count)
    }
    return count
  }

  /** Ids of a user's threads on disk, in order. */
  list (userId: string, after: string | undefined, limit: number): string[] {
    const user = hash(userId)
    const ids: string[] = []
    for (const { value } of this.#files.users.getRange({ start: [user, after === undefined ? '' : idKey(after)], end: [user, '\u{10ffff}'], limit: limit + 1 })) {
      if (value !== after && ids.length < limit) ids.push(value)
    }
    return ids
  }

  create (commit: Commit, record: ThreadRecord, previous: TombstoneRow | undefined, now: number): LmdbThread {
    const { threads, users, inboxes } = this.#files
    const { threadId, userId } = record
    const count = record.inbox === true ? 0 : this.count(userId) + 1
    const thread = new LmdbThread(this.#nextNo++, record)
    const key = idKey(threadId)
    thread.begin(previous?.epoch, now)
    thread.usedAt = now
    this.#threads.set(threadId, thread)
    if (previous !== undefined) this.#removeTombstone(commit, threadId, previous)
    commit.put(threads, key, { no: thread.no, record })
    if (record.inbox === true) {
      commit.put(inboxes, hash(userId), threadId)
      this.#inboxes.set(userId, threadId)
    } else {
      commit.put(users, [hash(userId), key], threadId)
      this.#countOf.set(userId, count)
    }
    commit.touch(thread)
    return thread
  }

  /** @param until when its tombstone ends; without it there is none */
  remove (commit: Commit, thread: LmdbThread, until?: number): void {
    const { threads, positions, users, inboxes, tombstones, expiry, garbage } = this.#files
    const { threadId, userId, inbox } = thread.record
    const key = idKey(threadId)
    const count = inbox === true ? 0 : this.count(userId) - 1
    thread.isDeleted = true
    commit.threads.delete(thread)
    commit.deleted.push(thread)
    this.#threads.delete(threadId)
    const tombstone = { userId, epoch: thread.epoch, until: until ?? 0 }
    this.#deleted.set(threadId, { commit, tombstone })
    commit.remove(threads, key)
    commit.remove(positions, thread.no)
    commit.put(garbage, thread.no, 1)
    if (until !== undefined) {
      commit.put(tombstones, key, tombstone)
      commit.put(expiry, [until, key], threadId)
    }
    if (inbox === true) {
      commit.remove(inboxes, hash(userId))
      this.#inboxes.delete(userId)
    } else {
      commit.remove(users, [hash(userId), key])
      this.#countOf.set(userId, count)
    }
  }

  onDone (commit: Commit): void {
    for (const { record: { threadId } } of commit.deleted) if (this.#deleted.get(threadId)?.commit === commit) this.#deleted.delete(threadId)
    for (const { record: { userId, inbox } } of commit.threads) if (inbox === true) this.#inboxes.delete(userId)
  }

  /** Takes what the disk has, and nothing else, for all threads that these commits would have changed. */
  restore (commits: readonly Commit[]): void {
    this.#deleted.clear()
    this.#inboxes.clear()
    this.#countOf.clear()
    for (const thread of commits.flatMap(({ threads, deleted }) => [...threads, ...deleted])) {
      const { threadId } = thread.record
      const row = this.#files.positions.get(thread.no)
      if (row === undefined) {
        if (this.#threads.get(threadId) === thread) this.#threads.delete(threadId)
      } else {
        thread.restore(row, this.#files.generation)
        this.#threads.set(threadId, thread)
      }
    }
  }

  /** Every thread that nobody uses leaves memory: one slice. */
  evict (slice: number, now: number): void {
    const idleMs = this.#threads.size > MANY_THREADS ? IDLE_MS / 20 : IDLE_MS
    this.#evictAt ??= this.#threads.values()
    for (let i = 0; i < slice; i++) {
      const { value: thread, done } = this.#evictAt.next()
      if (done === true) {
        this.#evictAt = undefined
        break
      }
      if (thread.commit === undefined && thread.watchers.length === 0 && thread.usedAt + idleMs < now) this.#threads.delete(thread.record.threadId)
    }
    if (this.#countOf.size > MANY_THREADS && this.#deleted.size === 0) this.#countOf.clear()
  }

  get size (): number { return this.#threads.size }

  #load (threadId: string): LmdbThread | undefined {
    if (this.#deleted.has(threadId)) return undefined
    const row = this.#files.threads.get(idKey(threadId))
    const position = row === undefined ? undefined : this.#files.positions.get(row.no)
    if (row === undefined || position === undefined) return undefined
    const thread = new LmdbThread(row.no, row.record)
    this.#threads.set(threadId, thread)
    // Nobody may hold a position in the new epoch before the disk has it.
    if (thread.restore(position, this.#files.generation)) this.#writer.next.touch(thread)
    return thread
  }

  #removeTombstone (commit: Commit, threadId: string, { until }: TombstoneRow): void {
    const key = idKey(threadId)
    commit.remove(this.#files.tombstones, key)
    commit.remove(this.#files.expiry, [until, key])
    this.#deleted.delete(threadId)
  }
}
