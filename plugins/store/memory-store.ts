import { randomUUID } from 'node:crypto'
import { FAE_ERR_RUN_LIMIT, FAE_ERR_STORE_CLOSED, FAE_ERR_THREAD_LIMIT, FAE_ERR_THREAD_NOT_FOUND } from '../../errors.js'
import { newEpoch } from '../../schemas/index.js'
import { newNodeName } from './node-name.js'
import { applyStep, checkStart, checkStep, isLive, isRoot, startRun, type MutableRun } from './run-ledger.js'
import {
  PAGE_EVENTS, defaultRetention,
  type Appended, type AppendOptions, type Entry, type Page, type Presence, type Retention, type RunRecord, type Store, type ThreadRecord, type ThreadState, type Watcher
} from './store.js'
import { MemoryThread } from './memory-thread.js'
import { MemoryThreads, UserThreads } from './memory-threads.js'
import { Tickets } from './tickets.js'

/** How many threads one sweep looks at, so that expiry never holds the event loop. */
const SWEEP_THREADS = 100
const SWEEP_EVERY_MS = 1_500

interface Tombstone { readonly userId: string, readonly epoch: string, readonly until: number }

/** Everything in this process and nothing beyond it: for tests and first steps. */
export class MemoryStore implements Store {
  readonly name = 'memory'
  readonly node = newNodeName()
  readonly #tickets = new Tickets()
  readonly availability = { available: true, reason: 'in this process' }
  readonly #retention: Retention
  readonly #threads: MemoryThreads
  readonly #userThreads = new UserThreads()
  readonly #inboxes = new Map<string, string>()
  readonly #tombstones = new Map<string, Tombstone>()
  /** Ids of threads by those of their runs. */
  readonly #runThread = new Map<string, string>()
  /** Live and waiting runs by user. */
  readonly #liveRuns = new Map<string, number>()
  #sweep: NodeJS.Timeout | undefined
  #sweepAt: Iterator<string> | undefined
  #closed = false

  /** @param maxAwake how many threads in which nothing happens are kept ready for use */
  constructor (retention: Partial<Retention> = {}, maxAwake = 1_000) {
    this.#threads = new MemoryThreads(maxAwake)
    this.#retention = { ...defaultRetention, ...retention }
  }

  async open (): Promise<void> {
    this.#sweep = setInterval(() => { this.sweep() }, SWEEP_EVERY_MS).unref()
  }

  async close (): Promise<void> {
    this.#closed = true
    clearInterval(this.#sweep)
  }

  async putThread (record: ThreadRecord, maxThreads = Infinity): Promise<ThreadState & { created: boolean }> {
    this.#assertOpen()
    const known = this.#threads.state(record.threadId)
    if (known !== undefined) return { ...known, created: false }
    const tombstone = this.#tombstone(record.threadId)
    if (tombstone !== undefined && tombstone.userId !== record.userId) {
      return { record: { ...record, userId: tombstone.userId }, epoch: tombstone.epoch, head: 0, created: false }
    }
    // Its metadata stays what it is now, whatever is done with the object later.
    const { metadata } = record
    const kept = metadata === undefined ? record : { ...record, metadata: JSON.parse(JSON.stringify(metadata)) as typeof metadata }
    if (record.inbox !== true) {
      if (this.#userThreads.of(record.userId).length >= maxThreads) throw new FAE_ERR_THREAD_LIMIT(maxThreads)
      this.#userThreads.add(record)
    }
    this.#tombstones.delete(record.threadId)
    const thread = new MemoryThread(kept, newEpoch(tombstone?.epoch), Date.now())
    this.#threads.set(thread)
    return { ...thread.state, created: true }
  }

  async getThread (threadId: string): Promise<ThreadState | undefined> {
    this.#assertOpen()
    return this.#threads.state(threadId)
  }

  async inbox (userId: string): Promise<ThreadState> {
    this.#assertOpen()
    const known = this.#inboxes.get(userId)
    if (known !== undefined) return this.#threads.state(known)!
    const threadId = `inbox_${randomUUID()}`
    this.#inboxes.set(userId, threadId)
    return this.putThread({ threadId, userId, createdAt: new Date().toISOString(), inbox: true })
  }

  async listThreads (userId: string, { after, limit }: { after?: string, limit: number }): Promise<readonly ThreadState[]> {
    this.#assertOpen()
    const ids = [...this.#userThreads.of(userId)].sort()
    const from = after === undefined ? 0 : ids.findIndex((id) => id > after)
    return from < 0 ? [] : ids.slice(from, from + limit).map((id) => this.#threads.state(id)!)
  }

  async deleteThread (threadId: string): Promise<boolean> {
    this.#assertOpen()
    const thread = this.#threads.get(threadId)
    if (thread === undefined) return false
    this.#forget(thread)
    this.#tombstones.set(threadId, { userId: thread.record.userId, epoch: thread.epoch, until: Date.now() + this.#retention.positionMs })
    for (const watcher of thread.watchers) watcher.deleted()
    return true
  }

  async append (threadId: string, bodies: readonly string[], { key, start, run: step }: AppendOptions = {}): Promise<Appended> {
    const thread = this.#thread(threadId)
    if (key !== undefined) {
      const known = thread.keys?.get(key)
      if (known !== undefined) {
        const run = known.runId === undefined ? undefined : thread.runs!.get(known.runId)!
        return {
          first: { epoch: thread.epoch, seq: known.first },
          last: { epoch: thread.epoch, seq: known.last },
          repeated: true,
          ...(run !== undefined && { run: snapshot(run) })
        }
      }
    }
    // Everything that can be refused is refused before anything is stored.
    let run: MutableRun | undefined
    let state: 'running' | 'queued' | undefined
    if (step !== undefined) {
      run = thread.runs?.get(step.runId)
      if (checkStep(run, step, thread.epoch)) {
        const next = run!.next === undefined ? undefined : thread.runs!.get(run!.next)
        return {
          first: { epoch: thread.epoch, seq: run!.callFirst },
          last: { epoch: thread.epoch, seq: run!.lastSeq },
          repeated: true,
          ...(next?.state === 'running' && next.n === 1 && { next: snapshot(next) })
        }
      }
    }
    const before = start === undefined ? undefined : thread.roots
    if (start !== undefined && (this.#liveRuns.get(start.info.userId) ?? 0) >= start.maxRuns) throw new FAE_ERR_RUN_LIMIT(start.maxRuns)
    if (start !== undefined) state = checkStart(start, this.#run(start.runId), before!.map((runId) => thread.runs!.get(runId)!))

    const now = Date.now()
    const first = thread.log.head + 1
    const entries: Entry[] = []
    for (const body of bodies) entries.push(thread.push(body, now))
    const last = thread.log.head
    thread.touchedAt = now
    // The key goes with the last event of its call: until then all of the answer is known.
    if (key !== undefined) (thread.keys ??= new Map()).set(key, { first, last, runId: start?.runId })
    let next: MutableRun | undefined
    if (start !== undefined) {
      run = startRun(threadId, start, state!, thread.epoch, first, last)
      ;(thread.runs ??= new Map()).set(run.runId, run)
      this.#runThread.set(run.runId, threadId)
      if (isRoot(run)) thread.roots = [...thread.roots, run.runId]
      this.#countRun(run, 1)
    } else if (step !== undefined) {
      applyStep(run!, step, thread.epoch, first, last)
      if (step.ends !== undefined) next = this.#ended(thread, run!)
      if (next !== undefined) run!.next = next.runId
    }
    this.#trim(thread, now)
    for (const watcher of thread.watchers) watcher.events(entries)
    const appended = { first: { epoch: thread.epoch, seq: first }, last: { epoch: thread.epoch, seq: last } }
    if (start !== undefined) return { ...appended, run: snapshot(run!), before: before! }
    return next === undefined ? appended : { ...appended, next: snapshot(next) }
  }

  async read (threadId: string, afterSeq: number, limit = PAGE_EVENTS): Promise<Page> {
    const thread = this.#thread(threadId)
    this.#trim(thread, Date.now())
    return {
      entries: thread.log.slice(afterSeq, Math.min(limit, PAGE_EVENTS)),
      head: thread.log.head,
      first: thread.log.first,
      epochs: [{ epoch: thread.epoch, from: 1 }]
    }
  }

  async watch (threadId: string, watcher: Watcher): Promise<() => void> {
    const thread = this.#thread(threadId)
    thread.watchers = [...thread.watchers, watcher]
    return () => {
      thread.watchers = thread.watchers.filter((other) => other !== watcher)
      this.#threads.mayBeIdle(thread)
    }
  }

  async getRun (runId: string): Promise<RunRecord | undefined> {
    this.#assertOpen()
    const run = this.#run(runId)
    return run === undefined ? undefined : snapshot(run)
  }

  async putTicket (ticket: string, value: string, ttlMs: number): Promise<void> {
    this.#tickets.put(ticket, value, ttlMs)
  }

  async takeTicket (ticket: string): Promise<string | undefined> {
    return this.#tickets.take(ticket)
  }

  async claimNext (threadId: string): Promise<RunRecord | undefined> {
    const next = this.#thread(threadId).claimNext()
    /* c8 ignore next -- a memory forgets no run that is running, so nothing here ever waits behind none */
    return next === undefined ? undefined : snapshot(next)
  }

  onAvailability (): void {
    // Always available.
  }

  async ask (): Promise<readonly unknown[]> {
    return [] // nobody shares this memory
  }

  async nodes (): Promise<readonly Presence[]> {
    return [{ node: this.node, seenMs: 0 }]
  }

  onQuestion (): void {
    // Nobody asks.
  }

  onOrphan (): void {
    // The owner of every run here is this process: whoever could take a run over is gone with it.
  }

  /** One bounded slice of expiry. */
  sweep (now = Date.now()): void {
    for (const [threadId, { until }] of this.#tombstones) {
      if (until > now) break
      this.#tombstones.delete(threadId)
    }
    this.#sweepAt ??= this.#threads.ids()
    for (let i = 0; i < SWEEP_THREADS; i++) {
      const { value: threadId, done } = this.#sweepAt.next()
      if (done === true) {
        this.#sweepAt = undefined
        return
      }
      if (!this.#threads.isDue(threadId, this.#retention, now)) continue
      const thread = this.#threads.get(threadId)!
      const { first } = thread.log
      this.#trim(thread, now)
      // A long log may have become a short one.
      if (thread.log.first !== first) this.#threads.mayBeIdle(thread)
      const isIdle = thread.log.size === 0 && thread.roots.length === 0 && thread.watchers.length === 0
      if (isIdle && thread.touchedAt + this.#retention.positionMs < now) this.#forget(thread)
    }
  }

  #ended (thread: MemoryThread, run: MutableRun): MutableRun | undefined {
    ;(thread.ended ??= []).push(run)
    this.#countRun(run, -1)
    this.#threads.mayBeIdle(thread)
    if (!isRoot(run)) return undefined
    thread.roots = thread.roots.filter((runId) => runId !== run.runId)
    return thread.claimNext()
  }

  #trim (thread: MemoryThread, now: number): void {
    for (const run of thread.trim(this.#retention, now)) this.#runThread.delete(run.runId)
  }

  #run (runId: string): MutableRun | undefined {
    const threadId = this.#runThread.get(runId)
    return threadId === undefined ? undefined : this.#threads.run(threadId, runId)
  }

  #countRun ({ info: { userId } }: RunRecord, change: 1 | -1): void {
    const runs = (this.#liveRuns.get(userId) ?? 0) + change
    if (runs === 0) this.#liveRuns.delete(userId)
    else this.#liveRuns.set(userId, runs)
  }

  #forget (thread: MemoryThread): void {
    this.#threads.delete(thread)
    for (const run of thread.runs?.values() ?? []) {
      this.#runThread.delete(run.runId)
      if (isLive(run)) this.#countRun(run, -1)
    }
    if (thread.record.inbox === true) this.#inboxes.delete(thread.record.userId)
    else this.#userThreads.delete(thread.record)
  }

  #tombstone (threadId: string): Tombstone | undefined {
    const tombstone = this.#tombstones.get(threadId)
    return tombstone !== undefined && tombstone.until > Date.now() ? tombstone : undefined
  }

  #thread (threadId: string): MemoryThread {
    this.#assertOpen()
    const thread = this.#threads.get(threadId)
    if (thread === undefined) throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
    return thread
  }

  #assertOpen (): void {
    if (this.#closed) throw new FAE_ERR_STORE_CLOSED()
  }
}

function snapshot (run: MutableRun): RunRecord {
  const { threadId, runId, state, fence, n, firstSeq, lastSeq, open, info } = run
  return { threadId, runId, state, fence, n, firstSeq, lastSeq, open: { ...open }, info }
}
