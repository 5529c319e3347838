import { idKey, type LmdbFiles } from './lmdb-files.js'
import type { LmdbThread } from './lmdb-thread.js'
import type { Commit } from './lmdb-writer.js'
import { isLive, isRoot, type MutableRun } from './run-ledger.js'
import type { RunRecord } from './store.js'

export type LmdbRun = MutableRun & {
  /** Number of its thread. */
  no: number
  /** Place among all runs in the order in which they were started. */
  order: number
}

/** The runs that have not ended, all of them in memory; ended ones are looked up. */
export class LmdbRuns {
  readonly #files: LmdbFiles
  /** Live, or ended and not yet on disk. */
  readonly #runs = new Map<string, LmdbRun>()
  /** Live root runs by the number of their thread, oldest first. */
  readonly #roots = new Map<number, LmdbRun[]>()
  /** How many each user has, live or waiting. */
  readonly #liveOf = new Map<string, number>()
  #order = 0

  constructor (files: LmdbFiles) {
    this.#files = files
    this.restore()
  }

  /** Takes what the disk has, and nothing else. */
  restore (): void {
    this.#runs.clear()
    this.#roots.clear()
    this.#liveOf.clear()
    const live: LmdbRun[] = []
    for (const { value: runId } of this.#files.live.getRange()) {
      const run = this.#load(runId)
      if (run !== undefined && isLive(run)) live.push(run)
    }
    live.sort((a, b) => a.order - b.order)
    for (const run of live) this.#enter(run)
    this.#order = (live.at(-1)?.order ?? this.#order) + 1
  }

  /** Live runs in the order of their start. */
  live (): LmdbRun[] {
    return [...this.#runs.values()].filter(isLive)
  }

  liveOf (userId: string): number {
    return this.#liveOf.get(userId) ?? 0
  }

  roots (no: number): readonly LmdbRun[] {
    return this.#roots.get(no) ?? []
  }

  find (runId: string): LmdbRun | undefined {
    return this.#runs.get(runId) ?? this.#load(runId)
  }

  start (commit: Commit, thread: LmdbThread, started: MutableRun): LmdbRun {
    const run: LmdbRun = { ...started, no: thread.no, order: this.#order++ }
    const key = idKey(run.runId)
    commit.put(this.#files.infos, key, run.info)
    commit.put(this.#files.live, key, run.runId)
    commit.runs.add(run)
    this.#enter(run)
    return run
  }

  /** @returns the thread's next run, if its turn has come */
  ended (commit: Commit, run: LmdbRun): LmdbRun | undefined {
    this.#count(run, -1)
    if (!isRoot(run)) return undefined
    this.#leave(run)
    return this.claimNext(commit, run.no)
  }

  /** The oldest queued run of a thread becomes ours if none is running there. */
  claimNext (commit: Commit, no: number): LmdbRun | undefined {
    const roots = this.roots(no)
    const oldest = roots[0]
    if (oldest === undefined || roots.some(({ state }) => state === 'running')) return undefined
    oldest.state = 'running'
    oldest.fence++
    commit.runs.add(oldest)
    return oldest
  }

  /** What has ended and is on disk need not be remembered. */
  onDone (commit: Commit): void {
    for (const run of commit.runs) if (!isLive(run)) this.#runs.delete(run.runId)
  }

  /** Removes the live runs of a thread; ended ones go with its log. */
  forget (commit: Commit, thread: LmdbThread): void {
    for (const run of this.#runs.values()) {
      if (run.no !== thread.no) continue
      this.#runs.delete(run.runId)
      commit.runs.delete(run)
      if (isLive(run)) this.#count(run, -1)
      const key = idKey(run.runId)
      commit.remove(this.#files.runs, key)
      commit.remove(this.#files.infos, key)
      commit.remove(this.#files.live, key)
    }
    this.#roots.delete(thread.no)
  }

  #load (runId: string): LmdbRun | undefined {
    const key = idKey(runId)
    const row = this.#files.runs.get(key)
    const info = row === undefined ? undefined : this.#files.infos.get(key)
    return row === undefined || info === undefined ? undefined : { ...row, info }
  }

  #enter (run: LmdbRun): void {
    this.#runs.set(run.runId, run)
    this.#count(run, 1)
    if (!isRoot(run)) return
    const roots = this.#roots.get(run.no)
    if (roots === undefined) this.#roots.set(run.no, [run])
    else roots.push(run)
  }

  #leave (run: LmdbRun): void {
    const roots = this.#roots.get(run.no)!
    if (roots.length === 1) this.#roots.delete(run.no)
    else roots.splice(roots.indexOf(run), 1)
  }

  #count ({ info: { userId } }: RunRecord, change: 1 | -1): void {
    const runs = this.liveOf(userId) + change
    if (runs === 0) this.#liveOf.delete(userId)
    else this.#liveOf.set(userId, runs)
  }
}

export function snapshot ({ threadId, runId, state, fence, n, firstSeq, lastSeq, open, info }: RunRecord): RunRecord {
  return { threadId, runId, state, fence, n, firstSeq, lastSeq, open: { ...open }, info }
}
