import { MemoryThread, type Asleep } from './memory-thread.js'
import type { MutableRun } from './run-ledger.js'
import type { Retention, ThreadRecord, ThreadState } from './store.js'

/** All threads by id. Of those without watchers, live runs and long logs all but the newest sleep, until something is done in them. */
export class MemoryThreads {
  readonly #maxAwake: number
  readonly #threads = new Map<string, MemoryThread | Asleep>()
  /** Those that may be able to sleep, in the order in which they came. */
  readonly #awake = new Set<MemoryThread>()

  /** @param maxAwake how many that could sleep do not, at least 1 */
  constructor (maxAwake: number) {
    this.#maxAwake = maxAwake
  }

  /** To read and to write in; it may sleep again when another one is got. */
  get (threadId: string): MemoryThread | undefined {
    const thread = this.#threads.get(threadId)
    return thread === undefined || thread instanceof MemoryThread ? thread : this.set(MemoryThread.wake(thread))
  }

  /** What sleeps goes on sleeping. */
  state (threadId: string): ThreadState | undefined {
    const thread = this.#threads.get(threadId)
    if (thread === undefined) return undefined
    return thread instanceof MemoryThread ? thread.state : MemoryThread.stateOf(thread)
  }

  /** Whether it is awake, or has something to forget. */
  isDue (threadId: string, retention: Retention, now: number): boolean {
    const thread = this.#threads.get(threadId)!
    return thread instanceof MemoryThread || MemoryThread.isDue(thread, retention, now)
  }

  /** What sleeps goes on sleeping. */
  run (threadId: string, runId: string): MutableRun | undefined {
    const thread = this.#threads.get(threadId)!
    return thread instanceof MemoryThread ? thread.runs!.get(runId) : MemoryThread.runOf(thread, runId)
  }

  set (thread: MemoryThread): MemoryThread {
    this.#threads.set(thread.record.threadId, thread)
    this.mayBeIdle(thread)
    return thread
  }

  delete (thread: MemoryThread): void {
    thread.log.drop()
    this.#threads.delete(thread.record.threadId)
    this.#awake.delete(thread)
  }

  ids (): Iterator<string> {
    return this.#threads.keys()
  }

  /** Called wherever a thread may have come to be able to sleep. */
  mayBeIdle (thread: MemoryThread): void {
    // A watcher may leave after its thread was deleted.
    if (this.#threads.get(thread.record.threadId) !== thread) return
    this.#awake.add(thread)
    if (this.#awake.size <= this.#maxAwake) return
    const [oldest] = this.#awake as Set<MemoryThread> & readonly [MemoryThread]
    this.#awake.delete(oldest)
    if (oldest.canSleep) this.#threads.set(oldest.record.threadId, oldest.sleep())
  }
}

/** Which threads a user has. Most have one: the list is made for the second. */
export class UserThreads {
  readonly #ids = new Map<string, string | string[]>()

  /** @returns ids in the order in which they came */
  of (userId: string): readonly string[] {
    const ids = this.#ids.get(userId) ?? []
    return typeof ids === 'string' ? [ids] : ids
  }

  add ({ userId, threadId }: ThreadRecord): void {
    const ids = this.#ids.get(userId)
    if (ids === undefined) this.#ids.set(userId, threadId)
    else if (typeof ids === 'string') this.#ids.set(userId, [ids, threadId])
    else ids.push(threadId)
  }

  delete ({ userId, threadId }: ThreadRecord): void {
    const ids = this.#ids.get(userId)
    if (ids === undefined) return
    if (ids === threadId || (ids.length === 1 && ids[0] === threadId)) this.#ids.delete(userId)
    else if (typeof ids !== 'string' && ids.includes(threadId)) ids.splice(ids.indexOf(threadId), 1)
  }
}
