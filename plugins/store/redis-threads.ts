import { randomUUID } from 'node:crypto'
import { FAE_ERR_STORE_UNAVAILABLE, FAE_ERR_THREAD_LIMIT, FAE_ERR_THREAD_NOT_FOUND } from '../../errors.js'
import { newEpoch } from '../../schemas/index.js'
import { Script, type RedisClient } from './redis-client.js'
import type { RedisKeys } from './redis-keys.js'
import { OPEN, RUNS } from './redis-lua.js'
import { splitInfo, stateWords, type HeldRun } from './redis-run.js'
import type { Retention, RunInfo, ThreadRecord, ThreadState } from './store.js'

/*
 * A thread's state.
 * KEYS   meta, log, keys, runs, live, ended   ARGV  1 run_id   2 candidate epoch
 * result {'state', record, epoch, head} {'missing', …} {'epoch', …}
 */
const STATE = new Script(`${OPEN}
if not open() then return problem end
return {'state', thread.record, thread.epoch, thread.seq}
`)

/*
 * Stores a record unless the id is taken; a tombstone keeps it for its late owner, with a new epoch.
 * KEYS   meta, log, keys, runs, live, ended
 * ARGV   1 run_id   2 candidate epoch   3 record   4 user   5 '1' if one more is allowed   6 positionMs
 * result {'created', epoch} {'state', record, epoch, head} {'buried', user, epoch} {'limit'} {'epoch', …}
 */
const PUT = new Script(`${OPEN}
local known = call('HMGET', meta, 'record', 'tombstone', 'epoch')
if known[1] then
  if not open() then return problem end
  call('PEXPIRE', meta, ARGV[6])
  return {'state', thread.record, thread.epoch, thread.seq}
end
if known[2] and known[2] ~= ARGV[4] then return {'buried', known[2], known[3]} end
if known[3] and not sorts_after(ARGV[2], known[3]) then return {'epoch', known[3]} end
if ARGV[5] ~= '1' then return {'limit'} end
call('DEL', log, keys, runs, live, ended, meta)
call('HSET', meta, 'record', ARGV[3], 'userId', ARGV[4], 'server', server_id(), 'epoch', ARGV[2], 'epochs', ARGV[2] .. ':1', 'seq', 0, 'first', 1, 'bytes', 0, 'at', 0, 'ttl', 0)
call('PEXPIRE', meta, ARGV[6])
return {'created', ARGV[2]}
`)

/*
 * Removes a thread, leaves a tombstone, tells who watches.
 * KEYS   meta, log, keys, runs, live, ended
 * ARGV   1 run_id   2 candidate epoch   3 channel   4 PUBLISH or SPUBLISH   5 positionMs
 * result {'deleted', record, live runs: id, info, …} {'missing', …} {'epoch', …}
 */
const DELETE = new Script(`${OPEN}${RUNS}
if not open() then return problem end
local found = {}
for _, member in ipairs(call('ZRANGE', live, 0, -1)) do
  local id = string.sub(member, 2)
  found[#found + 1] = id
  found[#found + 1] = call('HGET', runs, 'i:' .. id) or ''
end
local user = call('HGET', meta, 'userId')
call('DEL', log, keys, runs, live, ended, meta)
call('HSET', meta, 'tombstone', user, 'epoch', thread.epoch)
call('PEXPIRE', meta, ARGV[5])
redis.pcall(ARGV[4], ARGV[3], 'D ' .. thread.epoch .. ' 0')
return {'deleted', thread.record, found}
`)

/*
 * Puts back what a process holds of a thread that Redis has lost: its record, with a new history, and live runs. What is
 * there stays as it is.
 * KEYS   meta, log, keys, runs, live, ended
 * ARGV   1 run_id   2 candidate epoch   3 record   4 user   5 positionMs
 *        6 … of each run: id, state, info, open items or '', member of live, its place there, input or ''
 * result {'restored', 1 if the thread was gone} {'missing', user of the tombstone}
 */
const RESTORE = new Script(`${OPEN}
local known = call('HMGET', meta, 'record', 'tombstone')
if not known[1] then
  if known[2] then return {'missing', known[2]} end
  call('DEL', log, keys, runs, live, ended, meta)
  call('HSET', meta, 'record', ARGV[3], 'userId', ARGV[4], 'server', server_id(), 'epoch', ARGV[2], 'epochs', ARGV[2] .. ':1', 'seq', 0, 'first', 1, 'bytes', 0, 'at', 0, 'ttl', 0)
end
for i = 6, #ARGV, 7 do
  if call('HSETNX', meta, 's:' .. ARGV[i], ARGV[i + 1]) == 1 then
    call('HSET', runs, 'i:' .. ARGV[i], ARGV[i + 2])
    if ARGV[i + 3] ~= '' then call('HSET', runs, 'o:' .. ARGV[i], ARGV[i + 3]) end
    if ARGV[i + 6] ~= '' then call('HSET', runs, 'p:' .. ARGV[i], ARGV[i + 6]) end
    call('ZADD', live, ARGV[i + 5], ARGV[i + 4])
  end
end
for _, name in ipairs({meta, runs, live}) do call('PEXPIRE', name, ARGV[5]) end
return {'restored', known[1] and 0 or 1}
`)

export const THREAD_SCRIPTS = [STATE, PUT, DELETE, RESTORE]

/** What this process knows of a thread while it watches it or runs agents in it. */
export interface HeldThread { readonly record: ThreadRecord, readonly epoch: string, readonly runs: readonly HeldRun[] }

/** A thread whose entry in an index has no record behind it is looked for again after so long, then swept. */
const SWEEP_AGAIN_MS = 10_000
const SWEEP_ENTRIES = 100
const EPOCH_TRIES = 5

/** Records of threads, and the indexes that find them. */
export class RedisThreads {
  readonly keys: RedisKeys
  readonly #client: RedisClient
  readonly #positionMs: number
  readonly #node: string
  #candidate = ''
  #candidateAt = 0
  #sweepCursor = '0'
  readonly #suspects = new Map<string, number>()
  /** What this process could put back. */
  held: (threadId: string) => HeldThread | undefined = () => undefined
  /** Live runs went with their thread. */
  onRunsDeleted: (threadId: string, runs: ReadonlyArray<{ runId: string, userId: string }>) => void = () => {}

  constructor (client: RedisClient, keys: RedisKeys, retention: Retention, node: string) {
    this.#client = client
    this.keys = keys
    this.#positionMs = retention.positionMs
    this.#node = node
  }

  /** Calls a script of a thread, with another candidate where that one is too old. @throws FAE_ERR_THREAD_NOT_FOUND */
  async run (script: Script, threadId: string, args: ReadonlyArray<string | number>): Promise<unknown[]> {
    const reply = await this.#try(script, threadId, args)
    if (reply[0] !== 'missing') return reply
    if (reply[1] === '' && await this.#restoreHeld(threadId)) {
      const again = await this.#try(script, threadId, args)
      if (again[0] !== 'missing') return again
    }
    throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
  }

  async put (record: ThreadRecord, maxThreads: number): Promise<ThreadState & { created: boolean }> {
    const { threadId, userId } = record
    const isListed = record.inbox !== true
    const index = this.keys.userThreads(userId)
    const mayCreate = !isListed || await this.#client.command((client) => client.zcard(index)) < maxThreads || await this.#hasRoom(userId, maxThreads)
    const json = JSON.stringify(record)
    // The index first: a thread that no index knows could not be found, an entry without a thread is only swept.
    const [reply] = await Promise.all([
      this.#try(PUT, threadId, [json, userId, mayCreate ? '1' : '', this.#positionMs]),
      mayCreate && isListed && this.#client.command((client) => client.zadd(index, 0, threadId)),
      mayCreate && this.#client.command((client) => client.hsetnx(this.keys.registry, threadId, json))
    ])
    const [kind] = reply as [string]
    if (kind === 'created') {
      await this.#client.command((client) => client.hset(this.keys.registry, threadId, json))
      return { record, epoch: reply[1] as string, head: 0, created: true }
    }
    if (kind === 'limit') throw new FAE_ERR_THREAD_LIMIT(maxThreads)
    const state: ThreadState = kind === 'buried'
      ? { record: { ...record, userId: reply[1] as string }, epoch: reply[2] as string, head: 0 }
      : readState(reply)
    await this.#repair(state, kind !== 'buried', userId, mayCreate && isListed)
    return { ...state, created: false }
  }

  async get (threadId: string): Promise<ThreadState | undefined> {
    try {
      return readState(await this.run(STATE, threadId, []))
    } catch (error) {
      if ((error as { code?: string }).code === 'FAE_ERR_THREAD_NOT_FOUND') return undefined
      throw error
    }
  }

  /** @throws FAE_ERR_THREAD_NOT_FOUND */
  async state (threadId: string): Promise<ThreadState> {
    return readState(await this.run(STATE, threadId, []))
  }

  async inbox (userId: string): Promise<ThreadState> {
    const index = this.keys.userInbox(userId)
    let threadId = await this.#client.command((client) => client.getex(index, 'PX', this.#positionMs))
    for (let attempt = 0; attempt < 3; attempt++) {
      if (threadId !== null) {
        const known = await this.get(threadId)
        if (known?.record.userId === userId && known.record.inbox === true) return known
        const made = known ?? await this.put({ threadId, userId, createdAt: new Date().toISOString(), inbox: true }, Infinity)
        if (made.record.userId === userId && made.record.inbox === true) return { record: made.record, epoch: made.epoch, head: made.head }
        // The index named somebody else's thread.
        await this.#client.command((client) => client.del(index))
      }
      await this.#client.command((client) => client.set(index, `inbox_${randomUUID()}`, 'PX', this.#positionMs, 'NX'))
      threadId = await this.#client.command((client) => client.get(index))
    }
    throw new FAE_ERR_STORE_UNAVAILABLE('the index of inboxes keeps changing')
  }

  async list (userId: string, after: string | undefined, limit: number): Promise<readonly ThreadState[]> {
    const index = this.keys.userThreads(userId)
    const found: ThreadState[] = []
    for (let from = after === undefined ? '-' : `(${after}`; found.length < limit;) {
      const wanted = limit - found.length
      const ids = await this.#client.command((client) => client.zrange(index, from, '+', 'BYLEX', 'LIMIT', 0, wanted))
      const states = await Promise.all(ids.map((id) => this.get(id)))
      for (const state of states) if (state?.record.userId === userId && state.record.inbox !== true) found.push(state)
      if (ids.length < wanted) break
      from = `(${ids.at(-1)!}`
    }
    return found
  }

  async delete (threadId: string): Promise<boolean> {
    const { channel } = this.keys.thread(threadId)
    let reply
    try {
      reply = await this.run(DELETE, threadId, [channel, this.#client.publishCommand, this.#positionMs])
    } catch (error) {
      if ((error as { code?: string }).code === 'FAE_ERR_THREAD_NOT_FOUND') return false
      throw error
    }
    const record = JSON.parse(reply[1] as string) as ThreadRecord
    const found = reply[2] as string[]
    const runs = []
    for (let i = 0; i < found.length; i += 2) {
      if (found[i + 1] !== '') runs.push({ runId: found[i]!, userId: (JSON.parse(found[i + 1]!) as RunInfo).userId })
    }
    this.onRunsDeleted(threadId, runs)
    await this.#unlist(record)
    return true
  }

  /** Puts a held thread back where Redis has lost it, also before the store is available again. */
  async restore (threadId: string, { record, epoch, runs }: HeldThread): Promise<boolean> {
    const keys = this.keys.thread(threadId)
    const args: Array<string | number> = [this.#client.serverId, newEpoch(epoch === '' ? undefined : epoch), JSON.stringify(record), record.userId, this.#positionMs]
    for (const run of runs) {
      const root = run.info.parentRunId === undefined ? 'r' : 'c'
      const words = [stateWords({ ...run, epoch: run.epoch === '' ? '-' : run.epoch }, this.#node), run.firstSeq, 0, root, run.callFirst]
      const { info, input } = splitInfo(run.info)
      const open = Object.keys(run.open).length === 0 ? '' : JSON.stringify(run.open)
      args.push(run.runId, words.join(' '), info, open, root + run.runId, run.callFirst, input)
    }
    const [kind, isNew] = await this.#client.evaluate(RESTORE, keys.all, args) as [string, number]
    if (kind === 'missing') return false
    if (isNew === 1) await this.#enlist(record, runs)
    return true
  }

  /** One bounded step through thread_registry: entries whose thread is gone leave the indexes. */
  async sweep (now: number): Promise<void> {
    for (const [threadId, at] of this.#suspects) {
      if (now - at < SWEEP_AGAIN_MS) continue
      this.#suspects.delete(threadId)
      if (!await this.#isGone(threadId)) continue
      const json = await this.#client.command((client) => client.hget(this.keys.registry, threadId))
      if (json !== null) await this.#unlist(JSON.parse(json) as ThreadRecord)
    }
    const [cursor, entries] = await this.#client.command((client) => client.hscan(this.keys.registry, this.#sweepCursor, 'COUNT', SWEEP_ENTRIES))
    this.#sweepCursor = cursor
    const ids = entries.filter((_, i) => i % 2 === 0)
    const gone = await Promise.all(ids.map((id) => this.#isGone(id)))
    // It may be about to be stored: its index comes first.
    for (const [i, id] of ids.entries()) if (gone[i] === true && this.#suspects.size < 10 * SWEEP_ENTRIES) this.#suspects.set(id, this.#suspects.get(id) ?? now)
  }

  async #try (script: Script, threadId: string, args: ReadonlyArray<string | number>): Promise<unknown[]> {
    const { all } = this.keys.thread(threadId)
    let candidate = this.#newCandidate()
    for (let attempt = 0; attempt < EPOCH_TRIES; attempt++) {
      const reply = await this.#client.run(script, all, [this.#client.serverId, candidate, ...args]) as unknown[]
      if (reply[0] !== 'epoch') return reply
      candidate = newEpoch(reply[1] as string)
    }
    throw new FAE_ERR_STORE_UNAVAILABLE(`the history of thread '${threadId}' keeps changing`)
  }

  /** Never one from before: what was lost with its position must not come back under the same name. */
  #newCandidate (): string {
    const now = Date.now()
    if (now !== this.#candidateAt) {
      this.#candidateAt = now
      this.#candidate = newEpoch(undefined, now)
    }
    return this.#candidate
  }

  async #restoreHeld (threadId: string): Promise<boolean> {
    const held = this.held(threadId)
    if (held === undefined) return false
    try {
      return await this.restore(threadId, held)
    } catch {
      return false
    }
  }

  /** What expired still counts in the index until it is looked at. */
  async #hasRoom (userId: string, maxThreads: number): Promise<boolean> {
    const index = this.keys.userThreads(userId)
    const ids = await this.#client.command((client) => client.zrandmember(index, SWEEP_ENTRIES))
    const gone = await Promise.all(ids.map((id) => this.#isGone(id)))
    const swept = ids.filter((_, i) => gone[i])
    if (swept.length > 0) await this.#client.command((client) => client.zrem(index, ...swept))
    return await this.#client.command((client) => client.zcard(index)) < maxThreads
  }

  async #isGone (threadId: string): Promise<boolean> {
    const { meta } = this.keys.thread(threadId)
    return await this.#client.command((client) => client.hexists(meta, 'record')) === 0
  }

  /** The indexes say what the record says. @param isListed the asking user's index has got the thread just now */
  async #repair ({ record }: ThreadState, exists: boolean, userId: string, isListed: boolean): Promise<void> {
    const { threadId } = record
    const isOwn = exists && record.userId === userId && record.inbox !== true
    await Promise.all([
      isListed && !isOwn && this.#client.command((client) => client.zrem(this.keys.userThreads(userId), threadId)),
      isOwn && !isListed && this.#client.command((client) => client.zadd(this.keys.userThreads(userId), 0, threadId)),
      exists
        ? this.#client.command((client) => client.hset(this.keys.registry, threadId, JSON.stringify(record)))
        : this.#client.command((client) => client.hdel(this.keys.registry, threadId))
    ])
  }

  async #enlist (record: ThreadRecord, runs: readonly HeldRun[]): Promise<void> {
    const { threadId, userId } = record
    const client = this.#client.client
    await Promise.all([
      client.hset(this.keys.registry, threadId, JSON.stringify(record)),
      record.inbox === true
        ? client.set(this.keys.userInbox(userId), threadId, 'PX', this.#positionMs, 'NX')
        : client.zadd(this.keys.userThreads(userId), 0, threadId),
      ...runs.flatMap(({ runId, info }) => [
        client.set(this.keys.runThread(runId), threadId, 'PX', this.#positionMs),
        client.sadd(this.keys.userRuns(info.userId), runId)
      ])
    ])
  }

  async #unlist ({ threadId, userId, inbox }: ThreadRecord): Promise<void> {
    await Promise.all([
      this.#client.command((client) => client.hdel(this.keys.registry, threadId)),
      inbox === true
        ? this.#client.command((client) => client.del(this.keys.userInbox(userId)))
        : this.#client.command((client) => client.zrem(this.keys.userThreads(userId), threadId))
    ])
  }
}

function readState (reply: readonly unknown[]): ThreadState {
  const [, record, epoch, head] = reply as [string, string, string, number]
  return { record: JSON.parse(record) as ThreadRecord, epoch, head }
}
