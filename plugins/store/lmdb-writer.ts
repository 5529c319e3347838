import type { Database, Key } from 'lmdb'
import { encodeChunks, type Addition, type ChunkHeader } from './lmdb-chunk.js'
import { idKey, type KeyRow, type LmdbFiles, type RunRow } from './lmdb-files.js'
import type { LmdbRun } from './lmdb-runs.js'
import type { LmdbThread } from './lmdb-thread.js'
import { isLive } from './run-ledger.js'
import type { Retention } from './store.js'

/** How many chunks of a thread a commit removes beyond as many as it adds. */
const TRIM_CHUNKS = 2

/** Small commits that come in a row before they are paced, and how far apart they are then. */
const BURST = 64
const PACE_MS = 2
/** A commit with so much in it is not small. */
const MANY = 32

interface Write { readonly db: Database<unknown, Key>, readonly key: Key, readonly value: unknown }
interface Added { readonly thread: LmdbThread, readonly addition: Addition, readonly bytes: number }

/** What is decided in memory and goes to disk together: everything of it or nothing. */
export class Commit {
  /** Whose position, and events if there are any, are written. */
  readonly threads = new Set<LmdbThread>()
  /** Deleted in it. */
  readonly deleted: LmdbThread[] = []
  readonly runs = new Set<LmdbRun>()
  readonly writes: Write[] = []
  readonly added: Added[] = []
  /** Resolves when the disk has it. */
  readonly done: Promise<void>
  resolve!: () => void
  reject!: (error: Error) => void

  constructor () {
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
    // Not everybody who changes something waits for it.
    this.done.catch(() => {})
  }

  /** How much was decided for it. */
  size = 0

  touch (thread: LmdbThread): void {
    this.size++
    this.threads.add(thread)
    thread.commit = this
  }

  put<Value, RowKey extends Key> (db: Database<Value, RowKey>, key: RowKey, value: Value): void {
    this.writes.push({ db: db as unknown as Database<unknown, Key>, key, value })
  }

  remove<Value, RowKey extends Key> (db: Database<Value, RowKey>, key: RowKey): void {
    this.writes.push({ db: db as unknown as Database<unknown, Key>, key, value: undefined })
  }
}

export interface WriterEvents {
  /** The disk has it; whoever waits is told after this. */
  onDone (commit: Commit): void
  /** Nothing of them was stored, the first failed and the other was built upon it. Whoever waits is told after this. */
  onFailed (commits: readonly Commit[], error: Error): void
}

/**
 * Group commit: one commit is on its way to the disk, the next one gathers meanwhile. Many appends share one flush, and
 * of every thread and run that they change only the last state is written.
 */
export class LmdbWriter {
  readonly #files: LmdbFiles
  readonly #retention: Retention
  readonly #events: WriterEvents
  /** How many small commits need not wait. */
  #credit = BURST
  #creditAt = performance.now()
  #next: Commit | undefined
  #inFlight: Commit | undefined

  constructor (files: LmdbFiles, retention: Retention, events: WriterEvents) {
    this.#files = files
    this.#retention = retention
    this.#events = events
  }

  /** The commit that takes what is decided now. */
  get next (): Commit {
    if (this.#next === undefined) {
      this.#next = new Commit()
      if (this.#inFlight === undefined) this.#schedule()
    }
    return this.#next
  }

  /** Resolves when nothing is left to write. */
  async idle (): Promise<void> {
    for (let commit = this.#next ?? this.#inFlight; commit !== undefined; commit = this.#next ?? this.#inFlight) {
      await commit.done.catch(() => {})
    }
  }

  #schedule (): void {
    // What one turn of the event loop decides goes together.
    setImmediate(() => { this.#pace() })
  }

  /**
   * A flush costs the same processor time for one append and for a hundred, more than all the rest of a single one. So
   * small commits may come in bursts, for those who wait for their answer, but not at every turn for ever.
   */
  #pace (): void {
    const now = performance.now()
    this.#credit = Math.min(BURST, this.#credit + (now - this.#creditAt) / PACE_MS)
    this.#creditAt = now
    if (this.#credit < 1 && this.#next!.size < MANY) {
      setTimeout(() => { this.#pace() }, Math.ceil((1 - this.#credit) * PACE_MS))
      return
    }
    this.#credit = Math.max(0, this.#credit - 1)
    this.#write()
  }

  #write (): void {
    const commit = this.#inFlight = this.#next!
    this.#next = undefined
    const now = Date.now()
    for (const thread of commit.threads) this.#encodeThread(commit, thread, now)
    for (const run of commit.runs) this.#encodeRun(commit, run)
    const written = this.#files.root.batch(() => {
      for (const { db, key, value } of commit.writes) {
        if (value === undefined) db.remove(key)
        else db.put(key, value)
      }
    })
    written.then(() => { this.#done(commit, now) }, (error: Error & { commitError?: Promise<never> }) => { this.#explain(commit, error) })
  }

  #encodeThread (commit: Commit, thread: LmdbThread, now: number): void {
    const { log, positions, generation } = this.#files
    const { addition } = thread
    let added = 0
    // As much as comes goes, in the same commit: a log that grows fast is trimmed as fast.
    let budget = TRIM_CHUNKS
    if (addition !== undefined) {
      thread.addition = undefined
      const { chunks, bytes } = encodeChunks(addition, now)
      for (const { first, value } of chunks) commit.put(log, [thread.no, first], value)
      commit.added.push({ thread, addition, bytes })
      added = bytes
      budget += chunks.length
    }
    thread.trim(this.#retention, now, log, budget)
    for (const chunk of thread.trimmed) this.removeChunk(commit, thread.no, chunk, thread.keys)
    thread.trimmed = []
    commit.put(positions, thread.no, thread.row(generation, added, now))
  }

  #encodeRun (commit: Commit, run: LmdbRun): void {
    const { info, ...row } = run
    const key = idKey(run.runId)
    commit.put(this.#files.runs, key, row)
    if (!isLive(run)) commit.remove(this.#files.live, key)
  }

  /** Removes events with the keys and the ended runs that live as long as they do. */
  removeChunk (commit: Commit, no: number, { first, sizes, keys: keysHere, ended }: ChunkHeader, undecided?: ReadonlyMap<string, KeyRow>): void {
    const { log, keys, runs, infos } = this.#files
    commit.remove(log, [no, first])
    for (const [keyHash, seq] of keysHere) {
      // Used again meanwhile, it is another event's.
      if (undecided?.has(keyHash) !== true && keys.get([no, keyHash])?.last === seq) commit.remove(keys, [no, keyHash])
    }
    for (const [runId] of ended) {
      const row: RunRow | undefined = runs.get(idKey(runId))
      if (row === undefined || row.no !== no || row.lastSeq >= first + sizes.length) continue
      commit.remove(runs, idKey(runId))
      commit.remove(infos, idKey(runId))
    }
  }

  #done (commit: Commit, now: number): void {
    this.#inFlight = undefined
    for (const { thread, addition, bytes } of commit.added) thread.added(addition, bytes, now)
    for (const thread of commit.threads) {
      if (thread.commit !== commit) continue
      thread.commit = undefined
      thread.isUnborn = false
    }
    try {
      this.#events.onDone(commit)
    } finally {
      // Whatever a watcher does, it is stored. Whoever is told may have more to say in this turn.
      commit.resolve()
      if (this.#next !== undefined) this.#schedule()
    }
  }

  /** lmdb-js keeps the cause in a promise of its own. */
  #explain (commit: Commit, error: Error & { commitError?: Promise<never> }): void {
    if (error.commitError === undefined) this.#failed(commit, error)
    else error.commitError.catch((cause: Error) => { this.#failed(commit, cause) })
  }

  #failed (commit: Commit, error: Error): void {
    const commits = this.#next === undefined ? [commit] : [commit, this.#next]
    this.#inFlight = this.#next = undefined
    this.#events.onFailed(commits, error)
    for (const each of commits) each.reject(error)
  }
}
