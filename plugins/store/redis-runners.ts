import { Script, type RedisClient } from './redis-client.js'
import type { RedisRuns } from './redis-runs.js'
import type { RedisKeys } from './redis-keys.js'
import { LONGEST_RETRY_MS } from './redis-options.js'
import type { Presence, RunRecord } from './store.js'

/*
 * This process may have a live run in these threads. The counter moves with it: who saw it stand still sees that it does not.
 * KEYS   {runners}, threads of the process, {runners}:queued
 * ARGV   1 node   2 '1' if a run may wait in them   3 … threads   result 1
 */
const JOIN = new Script(`
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
local time = redis.call('TIME')
for i = 3, #ARGV do
  redis.call('SADD', KEYS[2], ARGV[i])
  if ARGV[2] == '1' then redis.call('ZADD', KEYS[3], tonumber(time[1]) * 1000000 + tonumber(time[2]), ARGV[i]) end
end
return 1
`)

/*
 * One beat of a process: says that it is there, renews its counter while it has runs, and tells all counters.
 * KEYS   {runners}, threads of the process, {runners}:nodes
 * ARGV   1 node   2 how long it is known without another beat   3 … threads in which it has no live run any more
 * result node, counter, …
 */
const BEAT = new Script(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
for i = 3, #ARGV do redis.call('SREM', KEYS[2], ARGV[i]) end
if redis.call('SCARD', KEYS[2]) > 0 then redis.call('HINCRBY', KEYS[1], ARGV[1], 1) else redis.call('HDEL', KEYS[1], ARGV[1]) end
return redis.call('HGETALL', KEYS[1])
`)

/*
 * Threads in which a gone process has no run left leave its list, and it leaves with the last one; unless it moved.
 * KEYS   {runners}, threads of the process   ARGV  1 node   2 its counter   3 … threads   result 1 or 0
 */
const BURY = new Script(`
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
for i = 3, #ARGV do redis.call('SREM', KEYS[2], ARGV[i]) end
if redis.call('SCARD', KEYS[2]) == 0 then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1
`)

/* KEYS  {runners}:nodes   result now, node, when it was there, … */
const NODES = new Script(`
local time = redis.call('TIME')
local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
table.insert(found, 1, tostring(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)))
return found
`)

/*
 * A process that closes: its runs are anybody's at once.
 * KEYS   {runners}, threads of the process, {runners}:nodes   ARGV  1 node   result 1
 */
const LEAVE = new Script(`
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('SCARD', KEYS[2]) > 0 then redis.call('HSET', KEYS[1], ARGV[1], 'gone') else redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1
`)

/*
 * A thread where runs may wait was looked at. KEYS  {runners}:queued   ARGV  1 thread   2 its score then   3 '1' if nobody waits there
 * result 1 or 0, when it was entered again meanwhile
 */
const LOOKED = new Script(`
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local time = redis.call('TIME')
if ARGV[3] == '1' then redis.call('ZREM', KEYS[1], ARGV[1]) else redis.call('ZADD', KEYS[1], tonumber(time[1]) * 1000000 + tonumber(time[2]), ARGV[1]) end
return 1
`)

/* KEYS  {runners}:queued   ARGV  1 most   result thread, score, … of those not looked at for longest */
const QUEUES = new Script("return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')")

export const RUNNER_SCRIPTS = [JOIN, BEAT, NODES, BURY, LEAVE, LOOKED, QUEUES]

/** How much of the indexes one call takes. */
const LOOK_THREADS = 100
const LOOK_QUEUES = 20
/** Without an answer for so many stalls the connection is given up. */
const STALLS = 5
/** How long others know of a process that does not say any more that it is there. */
const PRESENCE_MS = 60_000

interface Observed { readonly counter: string, readonly since: number }

export interface RunnersEvents {
  orphan (run: RunRecord): void
  /** Runs wait in this thread, and no root run is at work there. */
  waiting (threadId: string): void
  /** On every beat that Redis answered. */
  beat (now: number): void
}

/**
 * Which process is alive. Each renews one counter for all its runs; the others give its runs away once they have seen
 * that counter stand still for the lease, by their own clock and with Redis answering all the while: an outage or a
 * stall of Redis, or of themselves, begins the observation anew.
 */
export class RedisRunners {
  readonly #client: RedisClient
  readonly #keys: RedisKeys
  readonly #runs: RedisRuns
  readonly #node: string
  readonly #leaseMs: number
  readonly #stallMs: number
  readonly #tickMs: number
  readonly #events: RunnersEvents
  readonly #observed = new Map<string, Observed>()
  /** Threads that this process is entered for. */
  readonly #joined = new Set<string>()
  /** Of these, where a run may be this process's without its knowing. */
  readonly #suspects = new Set<string>()
  /** Since the connection was made it was asked where this process is entered: before that it may have runs that it does not know. */
  #hasLooked = false
  /** How many calls are under way that may make a run of the thread this process's. */
  readonly #wanted = new Map<string, number>()
  #timer: NodeJS.Timeout | undefined
  #sentAt = 0
  #observesFrom = 0
  #ticks = 0
  #answeredAt = 0
  #lookedAt = 0
  #isBeating = false
  #isLooking = false
  #isClosed = false

  constructor (client: RedisClient, keys: RedisKeys, runs: RedisRuns, node: string, leaseMs: number, events: RunnersEvents) {
    this.#client = client
    this.#keys = keys
    this.#runs = runs
    this.#node = node
    this.#leaseMs = leaseMs
    this.#tickMs = Math.min(1_000, leaseMs / 5)
    this.#stallMs = Math.max(1_000, leaseMs * 0.4)
    this.#events = events
  }

  start (): void {
    this.#timer = setInterval(() => { this.#tick() }, this.#tickMs).unref()
  }

  async stop (): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#timer)
    if (!this.#client.isAvailable) return
    await this.#client.run(BEAT, this.#beatKeys(), [this.#node, PRESENCE_MS, ...this.#left()]).catch(() => {})
    await this.#client.run(LEAVE, this.#beatKeys(), [this.#node]).catch(() => {})
  }

  /** Others know of this process from now on, before the store is available. A Redis that is full still answers who reads. */
  async announce (): Promise<void> {
    await this.#client.evaluate(BEAT, this.#beatKeys(), [this.#node, PRESENCE_MS]).catch(() => {})
  }

  /** Every process that has said within the last minute that it is there. */
  async nodes (): Promise<readonly Presence[]> {
    const [now, ...found] = await this.#client.run(NODES, [this.#keys.nodes], []) as string[]
    const nodes: Presence[] = [{ node: this.#node, seenMs: 0 }]
    for (let i = 0; i < found.length; i += 2) {
      const seenMs = Math.max(0, Number(now) - Number(found[i + 1]))
      // The last one to go leaves nobody behind who would sweep.
      if (found[i] !== this.#node && seenMs < PRESENCE_MS) nodes.push({ node: found[i]!, seenMs })
    }
    return nodes
  }

  /**
   * Before a call that may make a run of the thread this process's: from then on others can find it.
   * @returns called when that is decided, with whether it was answered: if not, the run may be this process's
   */
  async join (threadId: string, mayWait: boolean): Promise<(isAnswered: boolean) => void> {
    this.#wanted.set(threadId, (this.#wanted.get(threadId) ?? 0) + 1)
    const done = (isAnswered: boolean): void => {
      if (!isAnswered) this.#suspects.add(threadId)
      const count = this.#wanted.get(threadId)! - 1
      if (count === 0) this.#wanted.delete(threadId)
      else this.#wanted.set(threadId, count)
    }
    try {
      await this.#client.run(JOIN, this.#joinKeys(), [this.#node, mayWait ? '1' : '', threadId])
      this.#joined.add(threadId)
      return done
    } catch (error) {
      done(true)
      throw error
    }
  }

  /** Redis may have lost what it was told: told again, also before the store is available. */
  async joinAgain (): Promise<void> {
    const threadIds = [...this.#joined]
    for (let i = 0; i < threadIds.length; i += LOOK_THREADS) {
      await this.#client.evaluate(JOIN, this.#joinKeys(), [this.#node, '', ...threadIds.slice(i, i + LOOK_THREADS)])
    }
  }

  /** Looks for runs that are this process's without its knowing: now and with every beat, until there are none. */
  async lookAtOwn (): Promise<void> {
    const own = this.#keys.runnerThreads(this.#node)
    for (const threadId of await this.#client.command((client) => client.smembers(own))) {
      this.#joined.add(threadId)
      this.#suspects.add(threadId)
    }
    this.#hasLooked = true
    await this.#lookAtSuspects()
  }

  async #lookAtSuspects (): Promise<void> {
    for (const threadId of [...this.#suspects]) {
      // A call is under way whose answer may make a run this process's.
      if (this.#wanted.has(threadId)) continue
      const unknown = await this.#runs.unknownIn(threadId)
      if (unknown?.length === 0) this.#suspects.delete(threadId)
      for (const run of unknown ?? []) this.#events.orphan(run)
    }
  }

  #joinKeys (): string[] {
    return [this.#keys.runners, this.#keys.runnerThreads(this.#node), this.#keys.queued]
  }

  #beatKeys (): string[] {
    return [this.#keys.runners, this.#keys.runnerThreads(this.#node), this.#keys.nodes]
  }

  /** Threads that this process is entered for and in which it certainly has no run any more. */
  #left (): string[] {
    if (!this.#hasLooked || !this.#client.isAvailable) return []
    return [...this.#joined].filter((threadId) => !this.#runs.has(threadId) && !this.#wanted.has(threadId) && !this.#suspects.has(threadId))
  }

  #tick (): void {
    const now = performance.now()
    if (this.#isBeating) {
      // In ticks, not in time: a stall of our own is none of Redis'.
      const waited = ++this.#ticks * this.#tickMs
      if (waited > this.#stallMs) this.#client.stalled()
      if (waited > STALLS * this.#stallMs) {
        this.#isBeating = false
        this.#client.reconnect()
      }
      return
    }
    if (this.#client.client.status !== 'ready') return
    this.#isBeating = true
    this.#sentAt = now
    this.#ticks = 0
    this.#beat(now).catch((error: Error) => {
      if (!this.#isClosed) this.#client.failed(error)
    }).finally(() => { if (this.#sentAt === now) this.#isBeating = false })
  }

  async #beat (sentAt: number): Promise<void> {
    const left = this.#left().slice(0, LOOK_THREADS)
    for (const threadId of left) this.#joined.delete(threadId)
    let reply: string[]
    try {
      const [counters] = await Promise.all([this.#client.evaluate(BEAT, this.#beatKeys(), [this.#node, PRESENCE_MS, ...left]), this.#client.ping()])
      reply = counters as string[]
    } catch (error) {
      for (const threadId of left) this.#joined.add(threadId)
      throw error
    }
    if (this.#isClosed || this.#sentAt !== sentAt) return
    this.#client.answered()
    const now = performance.now()
    this.#observe(reply, now)
    // These keys alone may be lost: evicted, or with their shard of a Cluster.
    if (this.#joined.size > 0 && !this.#isNamedIn(reply)) await this.joinAgain()
    if (!this.#client.isAvailable) return
    this.#events.beat(now)
    if (!this.#isLooking) {
      this.#isLooking = true
      // What fails here is looked at again with the next beat.
      this.#lookAround(now).catch(() => {}).finally(() => { this.#isLooking = false })
    }
  }

  /** Called on every connect: what was seen before does not count, and others may come back later than this process. */
  forgetObservations (): void {
    this.#hasLooked = false
    this.#observed.clear()
    this.#observesFrom = performance.now() + LONGEST_RETRY_MS
  }

  #observe (reply: readonly string[], now: number): void {
    if (now - this.#answeredAt > this.#leaseMs / 2) this.#observed.clear()
    this.#answeredAt = now
    const seen = new Set<string>()
    for (let i = 0; i < reply.length; i += 2) {
      const node = reply[i]!
      const counter = reply[i + 1]!
      if (node === this.#node) continue
      seen.add(node)
      const observed = this.#observed.get(node)
      if (observed === undefined || observed.counter !== counter) this.#observed.set(node, { counter, since: Math.max(now, this.#observesFrom) })
    }
    for (const node of this.#observed.keys()) if (!seen.has(node)) this.#observed.delete(node)
  }

  #isNamedIn (reply: readonly string[]): boolean {
    return reply.some((word, i) => i % 2 === 0 && word === this.#node)
  }

  async #lookAround (now: number): Promise<void> {
    if (this.#hasLooked) await this.#lookAtSuspects()
    else await this.lookAtOwn()
    for (const [node, { counter, since }] of [...this.#observed]) {
      if (counter === 'gone' || now - since >= this.#leaseMs) await this.#adopt(node, counter)
    }
    if (now - this.#lookedAt <= this.#leaseMs / 2) return
    this.#lookedAt = now
    await this.#lookAtQueues()
  }

  /** All of its runs, in pages: whoever left many behind shall not be waited for longer than others. */
  async #adopt (node: string, counter: string): Promise<void> {
    const key = this.#keys.runnerThreads(node)
    let cursor = '0'
    do {
      const [next, threadIds] = await this.#client.command((client) => client.sscan(key, cursor, 'COUNT', LOOK_THREADS))
      cursor = next
      const empty: string[] = []
      for (const threadId of threadIds) {
        const found = await this.#runs.look(threadId, node)
        if (found === undefined || found.runs.length === 0) empty.push(threadId)
        else if (this.#observed.get(node)?.counter === counter) for (const run of found.runs) this.#events.orphan(run)
      }
      if (empty.length > 0 || threadIds.length === 0) await this.#client.run(BURY, [this.#keys.runners, key], [node, counter, ...empty])
    } while (cursor !== '0' && this.#observed.get(node)?.counter === counter)
  }

  async #lookAtQueues (): Promise<void> {
    const { queued } = this.#keys
    const entries = await this.#client.run(QUEUES, [queued], [LOOK_QUEUES]) as string[]
    for (let i = 0; i < entries.length; i += 2) {
      const threadId = entries[i]!
      const found = await this.#runs.look(threadId, '')
      const isEmpty = found === undefined || found.waiting === 0
      if (!isEmpty && found.running === 0) this.#events.waiting(threadId)
      await this.#client.run(LOOKED, [queued], [threadId, entries[i + 1]!, isEmpty ? '1' : ''])
    }
  }
}
