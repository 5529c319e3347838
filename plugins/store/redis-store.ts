import { newNodeName } from './node-name.js'
import { RedisClient } from './redis-client.js'
import { RedisControl } from './redis-control.js'
import { RedisKeys } from './redis-keys.js'
import { LOG_SCRIPTS, RedisLog } from './redis-log.js'
import { checkRedisOptions, type RedisStoreOptions } from './redis-options.js'
import type { HeldRun } from './redis-run.js'
import { RedisRunners, RUNNER_SCRIPTS } from './redis-runners.js'
import { RedisRuns, RUN_SCRIPTS } from './redis-runs.js'
import { RedisSubscriber } from './redis-subscriber.js'
import { RedisThreads, THREAD_SCRIPTS, type HeldThread } from './redis-threads.js'
import { RedisWatch } from './redis-watch.js'
import {
  PAGE_EVENTS, defaultRetention,
  type Appended, type AppendOptions, type Availability, type Page, type Presence, type Question, type RunRecord, type Store, type ThreadRecord, type ThreadState, type Watcher
} from './store.js'

const SWEEP_EVERY_MS = 10_000
const RESTORE_BATCH = 100

/** Many nodes over one Redis: one server, one with Sentinel, or a Cluster; 6.2 or newer, or Valkey. */
export class RedisStore implements Store {
  readonly name = 'redis'
  readonly node = newNodeName()
  readonly #leaseMs: number
  readonly #keys: RedisKeys
  readonly #client: RedisClient
  readonly #threads: RedisThreads
  readonly #log: RedisLog
  readonly #runs: RedisRuns
  readonly #runners: RedisRunners
  readonly #subscriber: RedisSubscriber
  readonly #watch: RedisWatch
  readonly #control: RedisControl
  readonly #lookAgain = new Set<NodeJS.Timeout>()
  #sweptAt = 0
  #isSweeping = false
  #onAvailability: (availability: Availability) => void = () => {}
  #onOrphan: (run: RunRecord) => void = () => {}
  #closing: Promise<void> | undefined

  /** @throws FAE_ERR_OPTION_INVALID */
  constructor (options: RedisStoreOptions) {
    checkRedisOptions(options)
    const { redis, prefix = '', leaseMs = 5_000, probeMs = 5_000, checkMs = 3_000 } = options
    const retention = { ...defaultRetention, ...options.retention }
    const keys = this.#keys = new RedisKeys(prefix)
    this.#leaseMs = leaseMs
    this.#client = new RedisClient(redis, [...LOG_SCRIPTS, ...THREAD_SCRIPTS, ...RUN_SCRIPTS, ...RUNNER_SCRIPTS], (isOtherServer) => this.#connected(isOtherServer))
    this.#client.onAvailability = (availability) => { this.#availabilityChanged(availability) }
    this.#threads = new RedisThreads(this.#client, keys, retention, this.node)
    this.#threads.held = (threadId) => this.#held(threadId)
    this.#log = new RedisLog(this.#client, this.#threads, retention, this.node)
    this.#runs = new RedisRuns(this.#client, this.#threads, this.node, retention.positionMs)
    this.#runners = new RedisRunners(this.#client, keys, this.#runs, this.node, leaseMs, {
      orphan: (run) => { this.#onOrphan(run) },
      waiting: (threadId) => { this.#control.tell({ type: 'queued', threadId }) },
      beat: (now) => { this.#sweep(now) }
    })
    this.#subscriber = new RedisSubscriber(this.#client, `${keys.answers(this.node)}:probe`, probeMs)
    this.#control = new RedisControl(this.#client, this.#subscriber, keys, this.node)
    this.#watch = new RedisWatch(this.#client, this.#threads, this.#subscriber, checkMs)
    this.#subscriber.onRestored = () => {
      this.#watch.gapAll()
      this.#control.missed()
    }
  }

  get availability (): Availability { return this.#client.availability }

  onAvailability (listener: (availability: Availability) => void): void {
    this.#onAvailability = listener
  }

  /**
   * Resolves once Redis answers, or soon if it does not: then availability says why, and it is tried again and again.
   * @throws FAE_ERR_PACKAGE_MISSING without ioredis, FAE_ERR_STORE_CLOSED when it was closed meanwhile
   */
  async open (): Promise<void> {
    await this.#client.open()
    this.#subscriber.open()
    this.#runners.start()
    this.#watch.start()
    await this.#settled()
  }

  close (): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close (): Promise<void> {
    await this.#runners.stop()
    for (const timer of this.#lookAgain) clearTimeout(timer)
    this.#watch.stop()
    this.#control.close()
    await Promise.all([this.#subscriber.close(), this.#client.close()])
  }

  async putThread (record: ThreadRecord, maxThreads = Infinity): Promise<ThreadState & { created: boolean }> {
    this.#assertOpen()
    return this.#threads.put(record, maxThreads)
  }

  async getThread (threadId: string): Promise<ThreadState | undefined> {
    this.#assertOpen()
    return this.#threads.get(threadId)
  }

  async inbox (userId: string): Promise<ThreadState> {
    this.#assertOpen()
    return this.#threads.inbox(userId)
  }

  async listThreads (userId: string, { after, limit }: { after?: string, limit: number }): Promise<readonly ThreadState[]> {
    this.#assertOpen()
    return this.#threads.list(userId, after, limit)
  }

  async deleteThread (threadId: string): Promise<boolean> {
    this.#assertOpen()
    return this.#threads.delete(threadId)
  }

  async append (threadId: string, bodies: readonly string[], options: AppendOptions = {}): Promise<Appended> {
    this.#assertOpen()
    const { start, run: step } = options
    if (start !== undefined) return this.#start(threadId, bodies, options)
    if (step === undefined) return this.#append(threadId, bodies, options, false)
    const held = this.#runs.heldRun(threadId, step.runId)
    if (held !== undefined) return this.#append(threadId, bodies, options, false, held)
    // It may become this process's, or hand another one to it: whoever looks for them must find them here.
    const decided = await this.#runners.join(threadId, false)
    return decide(this.#append(threadId, bodies, options, false), decided)
  }

  async read (threadId: string, afterSeq: number, limit = PAGE_EVENTS): Promise<Page> {
    this.#assertOpen()
    return this.#log.read(threadId, afterSeq, limit)
  }

  async watch (threadId: string, watcher: Watcher): Promise<() => void> {
    this.#assertOpen()
    return this.#watch.watch(threadId, watcher)
  }

  async getRun (runId: string): Promise<RunRecord | undefined> {
    this.#assertOpen()
    return this.#runs.get(runId)
  }

  async putTicket (ticket: string, value: string, ttlMs: number): Promise<void> {
    this.#assertOpen()
    await this.#client.command((client) => client.set(this.#keys.ticket(ticket), value, 'PX', ttlMs))
  }

  async takeTicket (ticket: string): Promise<string | undefined> {
    this.#assertOpen()
    return await this.#client.command((client) => client.getdel(this.#keys.ticket(ticket))) ?? undefined
  }

  async claimNext (threadId: string): Promise<RunRecord | undefined> {
    this.#assertOpen()
    const decided = await this.#runners.join(threadId, false)
    return decide(this.#runs.claim(threadId), decided)
  }

  onOrphan (listener: (run: RunRecord) => void): void {
    this.#onOrphan = listener
  }

  ask (question: Question, options: { timeoutMs: number, answers: 'none' | 'first' | 'all' }): Promise<readonly unknown[]> {
    return this.#control.ask(question, options)
  }

  async nodes (): Promise<readonly Presence[]> {
    this.#assertOpen()
    return this.#runners.nodes()
  }

  onQuestion (handler: (question: Question) => Promise<unknown>): void {
    this.#control.handler = handler
  }

  async #start (threadId: string, bodies: readonly string[], options: AppendOptions): Promise<Appended> {
    const start = options.start!
    const joining = this.#runners.join(threadId, start.mode === 'enqueue')
    const announcing = this.#runs.announce(threadId, start)
    const [joined, announced] = await Promise.allSettled([joining, announcing])
    const decided = joined.status === 'fulfilled' ? joined.value : () => {}
    let isAnswered = true
    try {
      if (announced.status === 'rejected') throw announced.reason
      if (joined.status === 'rejected') throw joined.reason
      const isOverLimit = announced.value
      const appended = await this.#append(threadId, bodies, options, isOverLimit)
      if (appended.repeated === true && appended.run?.runId !== start.runId) this.#runs.withdraw(start, true, false)
      return appended
    } catch (error) {
      const { code } = error as { code?: string }
      isAnswered = code !== 'FAE_ERR_STORE_UNAVAILABLE'
      this.#runs.withdraw(start, isAnswered, code === 'FAE_ERR_RUN_EXISTS')
      throw error
    } finally {
      decided(isAnswered)
    }
  }

  async #append (threadId: string, bodies: readonly string[], options: AppendOptions, isOverLimit: boolean, held?: HeldRun): Promise<Appended> {
    const { start, run: step } = options
    if (step !== undefined) this.#runs.stepping(threadId, step)
    try {
      const outcome = await this.#log.append(threadId, bodies, options, isOverLimit, held)
      this.#runs.stored(threadId, start, step, outcome)
      if (!outcome.isPublished) this.#watch.missed(threadId)
      return outcome.appended
    } catch (error) {
      if (step !== undefined && NOT_OURS.has((error as { code?: string }).code ?? '')) this.#runs.forget(threadId, step.runId)
      throw error
    }
  }

  #held (threadId: string): HeldThread | undefined {
    const watched = this.#watch.heldIn(threadId)
    const owned = this.#runs.heldIn(threadId)
    const record = watched?.record ?? owned?.record
    if (record === undefined) return undefined
    const runs = owned?.runs ?? []
    const epochs = [watched?.epoch ?? '', ...runs.map(({ epoch }) => epoch)].sort()
    return { record, epoch: epochs.at(-1)!, runs }
  }

  /** Before anything is let through on a new connection. */
  async #connected (isOtherServer: boolean): Promise<void> {
    this.#runners.forgetObservations()
    await this.#runners.announce()
    if (!isOtherServer) return
    // It may have come back empty: what is held here is put back where it is missing.
    const threadIds = [...new Set([...this.#watch.threadIds, ...this.#runs.threadIds])]
    for (let i = 0; i < threadIds.length; i += RESTORE_BATCH) {
      await Promise.all(threadIds.slice(i, i + RESTORE_BATCH).map(async (threadId) => {
        const held = this.#held(threadId)
        if (held !== undefined) await this.#threads.restore(threadId, held)
      }))
    }
    await this.#runners.joinAgain()
    this.#watch.gapAll()
  }

  #availabilityChanged (availability: Availability): void {
    if (availability.available) {
      this.#watch.tellGap()
      this.#lookAtOwn(0)
      // What was sent on the lost connection may still be carried out.
      this.#lookAtOwn(this.#leaseMs)
    }
    this.#onAvailability(availability)
  }

  #lookAtOwn (inMs: number): void {
    const timer = setTimeout(() => {
      this.#lookAgain.delete(timer)
      if (this.#client.isAvailable) this.#runners.lookAtOwn().catch(() => {})
    }, inMs).unref()
    this.#lookAgain.add(timer)
  }

  #sweep (now: number): void {
    if (now - this.#sweptAt < SWEEP_EVERY_MS || this.#isSweeping) return
    this.#sweptAt = now
    this.#isSweeping = true
    this.#threads.sweep(now).catch(() => {}).finally(() => { this.#isSweeping = false })
  }

  /** A short wait at the start, so that a store that can be there is there. */
  async #settled (): Promise<void> {
    const deadline = performance.now() + OPEN_MS
    while (performance.now() < deadline && !(this.#client.isAvailable && this.#subscriber.isReady) && this.#closing === undefined) {
      await new Promise((resolve) => { setTimeout(resolve, 5) })
    }
  }

  #assertOpen (): void {
    this.#client.assertOpen()
  }
}

/** How long open() waits for Redis before it goes on without it. */
const OPEN_MS = 2_000
/** After these a run is not this process's any more. */
const NOT_OURS = new Set(['FAE_ERR_RUN_STALE', 'FAE_ERR_RUN_ENDED', 'FAE_ERR_RUN_NOT_FOUND', 'FAE_ERR_THREAD_NOT_FOUND'])

/** @param decided told whether the call was answered */
async function decide<T> (call: Promise<T>, decided: (isAnswered: boolean) => void): Promise<T> {
  let isAnswered = true
  try {
    return await call
  } catch (error) {
    isAnswered = (error as { code?: string }).code !== 'FAE_ERR_STORE_UNAVAILABLE'
    throw error
  } finally {
    decided(isAnswered)
  }
}
