import { randomUUID } from 'node:crypto'
import { FAE_ERR_RUN_LIMIT, FAE_ERR_STORE_CLOSED, FAE_ERR_STORE_UNAVAILABLE, FAE_ERR_THREAD_LIMIT, FAE_ERR_THREAD_NOT_FOUND } from '../../errors.js'
import { hash, openFiles, prepareFolder, type KeyRow, type LmdbFiles } from './lmdb-files.js'
import { lockFolder } from './lmdb-lock.js'
import { LmdbRuns, snapshot, type LmdbRun } from './lmdb-runs.js'
import { LmdbSweeper } from './lmdb-sweeper.js'
import type { LmdbThread } from './lmdb-thread.js'
import { LmdbThreads } from './lmdb-threads.js'
import { LmdbWriter, type Commit } from './lmdb-writer.js'
import { newNodeName } from './node-name.js'
import { applyStep, checkStart, checkStep, isLive, startRun } from './run-ledger.js'
import {
  PAGE_EVENTS, defaultRetention,
  type Appended, type AppendOptions, type Availability, type Page, type Presence, type Retention, type RunRecord, type Store, type ThreadRecord, type ThreadState, type Watcher
} from './store.js'
import { Tickets } from './tickets.js'

/** How often the disk is tried while it refuses writes. */
const PROBE_MS = 1_000
/** How often the folder's marker follows the data. */
const MARK_MS = 10_000
/** A run whose end as lost did not succeed is told of again. */
const ORPHAN_MS = 30_000

export interface LmdbStoreOptions {
  /** Made if it is missing. */
  readonly folder: string
  readonly retention?: Partial<Retention>
}

interface Opened { readonly files: LmdbFiles, readonly writer: LmdbWriter, readonly threads: LmdbThreads, readonly runs: LmdbRuns, readonly sweeper: LmdbSweeper }

/**
 * One process and one folder, and everything lasts: what was confirmed or delivered is on disk, flushed, before anybody
 * hears of it, so that neither kill -9 nor a loss of power takes it back.
 *
 * Appends are decided in memory, in order, by the same rules as everywhere, and written in groups; answers and watchers
 * wait for the write. Reads see what is written and no more: lmdb shows a commit before it is flushed.
 */
export class LmdbStore implements Store {
  readonly name = 'lmdb'
  readonly node = newNodeName()
  readonly #tickets = new Tickets()
  readonly #folder: string
  readonly #retention: Retention
  #availability: Availability = { available: true, reason: 'on this disk' }
  #onAvailability: ((availability: Availability) => void) | undefined
  #opened: Opened | undefined
  #unlock: (() => Promise<void>) | undefined
  #closing: Promise<void> | undefined
  #probe: NodeJS.Timeout | undefined
  #mark: NodeJS.Timeout | undefined
  #isMarked = true
  /** Live runs of the process before this one, in the order in which they are told of. */
  #orphans = new Map<string, RunRecord>()
  #onOrphan: ((run: RunRecord) => void) | undefined
  #orphanTimer: NodeJS.Timeout | undefined

  constructor ({ folder, retention = {} }: LmdbStoreOptions) {
    this.#folder = folder
    this.#retention = { ...defaultRetention, ...retention }
  }

  get availability (): Availability { return this.#availability }

  /** @throws FAE_ERR_STORE_FOLDER, FAE_ERR_STORE_LOCKED, FAE_ERR_STORE_FORMAT, FAE_ERR_PACKAGE_MISSING */
  async open (): Promise<void> {
    await prepareFolder(this.#folder)
    this.#unlock = await lockFolder(this.#folder)
    try {
      const files = await openFiles(this.#folder)
      const writer = new LmdbWriter(files, this.#retention, {
        onDone: (commit) => { this.#done(commit) },
        onFailed: (commits, error) => { this.#failed(commits, error) }
      })
      const runs = new LmdbRuns(files)
      const threads = new LmdbThreads(files, writer)
      const sweeper = new LmdbSweeper(files, writer, threads, runs, this.#retention)
      this.#opened = { files, writer, threads, runs, sweeper }
    } catch (error) {
      await this.#unlock()
      throw error
    }
    this.#findOrphans()
    this.#opened.sweeper.start(() => this.#availability.available)
    this.#mark = setInterval(() => { this.#updateMark().catch(() => {}) }, MARK_MS).unref()
  }

  close (): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close (): Promise<void> {
    const opened = this.#opened
    if (opened === undefined) return
    clearInterval(this.#mark)
    clearTimeout(this.#probe)
    clearTimeout(this.#orphanTimer)
    opened.sweeper.stop()
    await opened.writer.idle()
    await this.#updateMark().catch(() => {})
    await opened.files.root.close()
    await this.#unlock!()
  }

  async putThread (record: ThreadRecord, maxThreads = Infinity): Promise<ThreadState & { created: boolean }> {
    const { threads, writer } = this.#state()
    const now = Date.now()
    const known = threads.get(record.threadId, now)
    if (known !== undefined) {
      await this.#born(known)
      return { ...known.state, created: false }
    }
    const tombstone = threads.tombstone(record.threadId, now)
    if (tombstone !== undefined && tombstone.userId !== record.userId) {
      return { record: { ...record, userId: tombstone.userId }, epoch: tombstone.epoch, head: 0, created: false }
    }
    this.#assertWritable()
    if (record.inbox !== true && maxThreads < Infinity && threads.count(record.userId) >= maxThreads) throw new FAE_ERR_THREAD_LIMIT(maxThreads)
    const commit = writer.next
    const { state } = threads.create(commit, record, tombstone, now)
    await this.#stored(commit)
    return { ...state, created: true }
  }

  async getThread (threadId: string): Promise<ThreadState | undefined> {
    const thread = this.#state().threads.get(threadId, Date.now())
    if (thread === undefined) return undefined
    await this.#born(thread)
    return thread.state
  }

  async inbox (userId: string): Promise<ThreadState> {
    const known = this.#state().threads.inbox(userId)
    return this.putThread({ threadId: known ?? `inbox_${randomUUID()}`, userId, createdAt: new Date().toISOString(), inbox: true })
  }

  async listThreads (userId: string, { after, limit }: { after?: string, limit: number }): Promise<readonly ThreadState[]> {
    const { threads } = this.#state()
    const now = Date.now()
    const listed: ThreadState[] = []
    for (const threadId of threads.list(userId, after, limit)) {
      const thread = threads.get(threadId, now)
      if (thread === undefined) continue
      if (thread.isUnborn) await this.#born(thread)
      listed.push(thread.state)
    }
    return listed
  }

  async deleteThread (threadId: string): Promise<boolean> {
    const { threads, runs, writer } = this.#state()
    const now = Date.now()
    const thread = threads.get(threadId, now)
    if (thread === undefined) return false
    this.#assertWritable()
    const commit = writer.next
    runs.forget(commit, thread)
    threads.remove(commit, thread, now + this.#retention.positionMs)
    await this.#stored(commit)
    return true
  }

  async append (threadId: string, bodies: readonly string[], { key, start, run: step }: AppendOptions = {}): Promise<Appended> {
    const { runs, writer, files } = this.#state()
    const thread = this.#thread(threadId)
    this.#assertWritable()
    const keyHash = key === undefined ? undefined : hash(key)
    if (keyHash !== undefined) {
      const known: KeyRow | undefined = thread.keys.get(keyHash) ?? files.keys.get([thread.no, keyHash])
      if (known !== undefined && known.last >= thread.first) {
        const run = known.runId === undefined ? undefined : this.#findRun(known.runId)
        return this.#repeated(thread, known.first, known.last, run === undefined ? {} : { run: snapshot(run) })
      }
    }
    // Everything that can be refused is refused before anything is changed.
    let run: LmdbRun | undefined
    let state: 'running' | 'queued' | undefined
    if (step !== undefined) {
      const found = this.#findRun(step.runId)
      run = found?.no === thread.no ? found : undefined
      if (checkStep(run, step, thread.epoch)) {
        const next = run!.next === undefined ? undefined : runs.find(run!.next)
        return this.#repeated(thread, run!.callFirst, run!.lastSeq, next?.state === 'running' && next.n === 1 ? { next: snapshot(next) } : {})
      }
    }
    const roots = start === undefined ? undefined : runs.roots(thread.no)
    if (start !== undefined) {
      if (runs.liveOf(start.info.userId) >= start.maxRuns) throw new FAE_ERR_RUN_LIMIT(start.maxRuns)
      state = checkStart(start, this.#findRun(start.runId), roots!)
    }

    const { epoch } = thread
    const before = roots?.map(({ runId }) => runId)
    const commit = writer.next
    commit.touch(thread)
    const first = thread.push(bodies)
    const last = thread.head
    const addition = thread.addition!
    if (keyHash !== undefined) {
      const row: KeyRow = { first, last, ...(start !== undefined && { runId: start.runId }) }
      thread.keys.set(keyHash, row)
      addition.keys.push([keyHash, last])
      commit.put(files.keys, [thread.no, keyHash], row)
    }
    let next: LmdbRun | undefined
    if (start !== undefined) {
      run = runs.start(commit, thread, startRun(threadId, start, state!, epoch, first, last))
    } else if (step !== undefined) {
      applyStep(run!, step, epoch, first, last)
      commit.runs.add(run!)
      if (step.ends !== undefined) {
        addition.ended.push([run!.runId, last])
        next = runs.ended(commit, run!)
        if (next !== undefined) run!.next = next.runId
      }
    }
    const appended: Appended = {
      first: { epoch, seq: first },
      last: { epoch, seq: last },
      ...(start !== undefined && { run: snapshot(run!), before: before! }),
      ...(next !== undefined && { next: snapshot(next) })
    }
    await this.#stored(commit)
    return appended
  }

  async read (threadId: string, afterSeq: number, limit = PAGE_EVENTS): Promise<Page> {
    const thread = this.#thread(threadId)
    if (thread.isUnborn) await this.#born(thread)
    const { sweeper, files } = this.#state()
    if (this.#availability.available) sweeper.trim(thread, Date.now())
    return {
      entries: thread.read(files.log, afterSeq, Math.min(limit, PAGE_EVENTS)),
      head: thread.committed,
      first: thread.first,
      epochs: thread.epochs
    }
  }

  async watch (threadId: string, watcher: Watcher): Promise<() => void> {
    const thread = this.#thread(threadId)
    thread.watchers = [...thread.watchers, watcher]
    const unwatch = (): void => { thread.watchers = thread.watchers.filter((other) => other !== watcher) }
    try {
      await this.#born(thread)
    } catch (error) {
      unwatch()
      throw error
    }
    return unwatch
  }

  async getRun (runId: string): Promise<RunRecord | undefined> {
    this.#state()
    const run = this.#findRun(runId)
    if (run === undefined) return undefined
    const record = snapshot(run)
    const commit = this.#state().threads.get(run.threadId, Date.now())?.commit
    if (commit === undefined) return record
    // What the disk refused never was.
    return commit.done.then(() => record, () => this.getRun(runId))
  }

  async putTicket (ticket: string, value: string, ttlMs: number): Promise<void> {
    this.#tickets.put(ticket, value, ttlMs)
  }

  async takeTicket (ticket: string): Promise<string | undefined> {
    return this.#tickets.take(ticket)
  }

  async claimNext (threadId: string): Promise<RunRecord | undefined> {
    const { runs, writer } = this.#state()
    const thread = this.#thread(threadId)
    if (runs.roots(thread.no).length === 0) return undefined
    this.#assertWritable()
    const commit = writer.next
    const next = runs.claimNext(commit, thread.no)
    if (next === undefined) return undefined
    commit.touch(thread)
    const record = snapshot(next)
    await this.#stored(commit)
    return record
  }

  onAvailability (listener: (availability: Availability) => void): void {
    this.#onAvailability = listener
  }

  async ask (): Promise<readonly unknown[]> {
    return [] // nobody shares the folder
  }

  async nodes (): Promise<readonly Presence[]> {
    return [{ node: this.node, seenMs: 0 }]
  }

  onQuestion (): void {
    // Nobody asks.
  }

  onOrphan (listener: (run: RunRecord) => void): void {
    this.#onOrphan = listener
    this.#tellOrphans()
  }

  /** How many threads are in use; the others cost nothing but disk. */
  get threadsInMemory (): number { return this.#state().threads.size }

  /** One bounded slice of trimming, expiry and eviction, as it also happens four times a second. */
  sweep (now = Date.now()): void {
    this.#state().sweeper.sweep(now)
  }

  #done (commit: Commit): void {
    const { threads, runs, sweeper } = this.#opened!
    this.#isMarked = false
    runs.onDone(commit)
    threads.onDone(commit)
    const now = Date.now()
    for (const { thread, addition: { first, bodies } } of commit.added) {
      if (thread.watchers.length > 0 && !commit.deleted.includes(thread)) {
        const entries = bodies.map((body, i) => thread.entry(first + i, body))
        for (const watcher of thread.watchers) watcher.events(entries)
      }
      if (thread.exceeds(this.#retention, now)) sweeper.onGrown(thread)
    }
    for (const thread of commit.deleted) {
      for (const watcher of thread.watchers) watcher.deleted()
      thread.watchers = []
    }
  }

  /** The disk refused: memory goes back to what it has. Until it takes writes again they are refused here, reads go on. */
  #failed (commits: readonly Commit[], error: Error): void {
    const { files, threads, runs } = this.#opened!
    files.root.resetReadTxn()
    threads.restore(commits)
    runs.restore()
    this.#setAvailability({ available: false, reason: `the disk refuses writes: ${error.message}` })
    if (this.#closing === undefined) this.#probeSoon()
  }

  #probeSoon (): void {
    clearTimeout(this.#probe)
    this.#probe = setTimeout(() => {
      const commit = this.#opened!.writer.next
      commit.put(this.#opened!.files.root, 'probe', Date.now())
      // What fails comes back through #failed.
      commit.done.then(() => { this.#setAvailability({ available: true, reason: 'on this disk' }) }, () => {})
    }, PROBE_MS).unref()
  }

  #setAvailability (availability: Availability): void {
    const isChange = availability.available !== this.#availability.available
    this.#availability = availability
    if (isChange) this.#onAvailability?.(availability)
  }

  #findOrphans (): void {
    const { runs } = this.#opened!
    // Children before the run they work for: what is open is closed before what opened it.
    for (const run of runs.live().reverse()) {
      // A queued run is handed out when the one before it ends, and that one is told of.
      const roots = runs.roots(run.no)
      if (run.state === 'queued' && (roots[0] !== run || roots.some(({ state }) => state === 'running'))) continue
      this.#orphans.set(run.runId, snapshot(run))
    }
  }

  #tellOrphans (): void {
    clearTimeout(this.#orphanTimer)
    if (this.#orphans.size === 0 || this.#onOrphan === undefined) return
    // Not before everybody who is being set up now can answer.
    this.#orphanTimer = setTimeout(() => {
      for (const [runId, { fence }] of this.#orphans) {
        const run = this.#closing === undefined ? this.#findRun(runId) : undefined
        const isTaken = run === undefined || !isLive(run) || run.fence !== fence
        // One that never began is told of once: whoever heard may be waiting for its agent.
        if (isTaken || run.firstSeq === 0) this.#orphans.delete(runId)
        if (!isTaken) this.#onOrphan!(snapshot(run))
      }
      this.#orphanTimer = setTimeout(() => { this.#tellOrphans() }, ORPHAN_MS).unref()
    }, 0)
  }

  #findRun (runId: string): LmdbRun | undefined {
    const { runs, threads } = this.#opened!
    const run = runs.find(runId)
    if (run === undefined) return undefined
    const thread = threads.get(run.threadId, Date.now())
    return thread?.no === run.no && (isLive(run) || run.lastSeq >= thread.first) ? run : undefined
  }

  async #repeated (thread: LmdbThread, first: number, last: number, more: Pick<Appended, 'run' | 'next'>): Promise<Appended> {
    const { epoch, commit } = thread
    if (commit !== undefined) await this.#stored(commit)
    return { first: { epoch, seq: first }, last: { epoch, seq: last }, repeated: true, ...more }
  }

  /** Nobody hears of a thread, or of an epoch, that the disk may not keep. */
  async #born (thread: LmdbThread): Promise<void> {
    if (!thread.isUnborn) return
    if (thread.commit === undefined) this.#state().writer.next.touch(thread)
    await this.#stored(thread.commit!)
  }

  async #stored (commit: Commit): Promise<void> {
    try {
      await commit.done
    } catch (error) {
      throw new FAE_ERR_STORE_UNAVAILABLE((error as Error).message)
    }
  }

  async #updateMark (): Promise<void> {
    if (this.#isMarked) return
    this.#isMarked = true
    await this.#opened!.files.mark()
  }

  #thread (threadId: string): LmdbThread {
    const thread = this.#state().threads.get(threadId, Date.now())
    if (thread === undefined) throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
    return thread
  }

  #assertWritable (): void {
    const { available, reason } = this.#availability
    if (!available) throw new FAE_ERR_STORE_UNAVAILABLE(reason)
  }

  #state (): Opened {
    if (this.#opened === undefined || this.#closing !== undefined) throw new FAE_ERR_STORE_CLOSED()
    return this.#opened
  }
}
