import { FAE_ERR_RUN_EXISTS } from '../../errors.js'
import { Script, type RedisClient } from './redis-client.js'
import { OPEN, RUNS } from './redis-lua.js'
import { holdRun, readRun, type HeldRun, type RunReply } from './redis-run.js'
import type { RedisThreads } from './redis-threads.js'
import { applyStep } from './run-ledger.js'
import type { RunRecord, RunStart, RunStep, ThreadRecord } from './store.js'
import type { AppendOutcome } from './redis-log.js'

/*
 * KEYS   meta, log, keys, runs, live, ended   ARGV  1 run_id   2 candidate epoch   3 run
 * result {'run', run or {}} {'missing', …} {'epoch', …}
 */
const RUN = new Script(`${OPEN}${RUNS}
if not open() then return problem end
check_log()
local r = get_run(ARGV[3])
if not r or (not r.is_live and r.last < thread.first) then return {'run', {}} end
return {'run', describe(r)}
`)

/*
 * Hands the thread's oldest waiting run to a process, unless a root run is at work there.
 * KEYS   meta, log, keys, runs, live, ended   ARGV  1 run_id   2 candidate epoch   3 node
 * result {'claimed', run or {}, record} {'missing', …} {'epoch', …}
 */
const CLAIM = new Script(`${OPEN}${RUNS}
if not open() then return problem end
local r = hand_out(ARGV[3])
return {'claimed', r and describe(r) or {}, thread.record}
`)

/*
 * The live runs of one process in a thread, and whether anybody waits in vain.
 * KEYS   meta, log, keys, runs, live, ended   ARGV  1 run_id   2 candidate epoch   3 node
 * result {'live', runs of the process that are not waiting, number of waiting runs, number of running root runs}
 *        {'missing', …} {'epoch', …}
 */
const LOOK = new Script(`${OPEN}${RUNS}
if not open() then return problem end
local found, waiting, running = {}, 0, 0
for _, member in ipairs(call('ZRANGE', live, 0, -1)) do
  local r = get_run(string.sub(member, 2))
  if r and r.state == 'queued' then waiting = waiting + 1 end
  if r and r.state == 'running' and r.root == 'r' then running = running + 1 end
  if r and r.state == 'running' and r.node == ARGV[3] then found[#found + 1] = describe(r) end
end
return {'live', found, waiting, running}
`)

/*
 * Counts a live run of a user, unless there are too many.
 * KEYS   user_runs   ARGV  1 run   2 most   3 milliseconds   result 1 or 0
 */
const RESERVE = new Script(`
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`)

export const RUN_SCRIPTS = [RUN, CLAIM, LOOK, RESERVE]

/** What a look into a thread found. */
export interface Look { readonly runs: readonly RunRecord[], readonly waiting: number, readonly running: number }

/** Members of a user's index that are looked at before its limit is believed. */
const REPAIR_RUNS = 50

interface HeldThreadRuns { record: ThreadRecord, readonly runs: Map<string, HeldRun> }

/** Runs: where they are, whose they are, and what this process knows of its own. */
export class RedisRuns {
  readonly #client: RedisClient
  readonly #threads: RedisThreads
  readonly #node: string
  readonly #positionMs: number
  readonly #held = new Map<string, HeldThreadRuns>()
  /** Runs whose start is under way. */
  readonly #starting = new Set<string>()
  /** Threads in which a claim is under way. */
  readonly #claiming = new Set<string>()

  constructor (client: RedisClient, threads: RedisThreads, node: string, positionMs: number) {
    this.#client = client
    this.#threads = threads
    this.#node = node
    this.#positionMs = positionMs
    threads.onRunsDeleted = (threadId, runs) => {
      this.#held.delete(threadId)
      for (const { runId, userId } of runs) this.#uncount(userId, runId)
    }
  }

  /** Threads in which a run of this process is live. */
  get threadIds (): Iterable<string> { return this.#held.keys() }
  has (threadId: string): boolean { return this.#held.has(threadId) }

  heldIn (threadId: string): { record: ThreadRecord, runs: readonly HeldRun[] } | undefined {
    const held = this.#held.get(threadId)
    return held === undefined ? undefined : { record: held.record, runs: [...held.runs.values()] }
  }

  heldRun (threadId: string, runId: string): HeldRun | undefined {
    return this.#held.get(threadId)?.runs.get(runId)
  }

  async get (runId: string): Promise<RunRecord | undefined> {
    const threadId = await this.#client.command((client) => client.get(this.#threads.keys.runThread(runId)))
    return threadId === null ? undefined : this.#getIn(threadId, runId)
  }

  async #getIn (threadId: string, runId: string): Promise<RunRecord | undefined> {
    try {
      const [, run] = await this.#threads.run(RUN, threadId, [runId]) as [string, RunReply]
      return readRun(threadId, run)
    } catch (error) {
      if ((error as { code?: string }).code === 'FAE_ERR_THREAD_NOT_FOUND') return undefined
      throw error
    }
  }

  async claim (threadId: string): Promise<RunRecord | undefined> {
    this.#claiming.add(threadId)
    try {
      const [, reply, record] = await this.#threads.run(CLAIM, threadId, [this.#node]) as [string, RunReply, string]
      const run = readRun(threadId, reply)
      if (run !== undefined) this.#hold(JSON.parse(record) as ThreadRecord, run)
      return run
    } finally {
      this.#claiming.delete(threadId)
    }
  }

  /** @returns undefined when there is no such thread */
  async look (threadId: string, node: string): Promise<Look | undefined> {
    try {
      const [, runs, waiting, running] = await this.#threads.run(LOOK, threadId, [node]) as [string, RunReply[], number, number]
      return { runs: runs.map((run) => readRun(threadId, run)!), waiting, running }
    } catch (error) {
      if ((error as { code?: string }).code === 'FAE_ERR_THREAD_NOT_FOUND') return undefined
      throw error
    }
  }

  /**
   * Enters a run into the indexes before it is stored, so that it can be found whatever happens then.
   * @returns whether the user has too many
   * @throws FAE_ERR_RUN_EXISTS
   */
  async announce (threadId: string, { runId, info: { userId }, maxRuns }: RunStart): Promise<boolean> {
    const index = this.#threads.keys.runThread(runId)
    const [isReserved, previous] = await Promise.all([
      this.#reserve(userId, runId, maxRuns),
      this.#client.command((client) => client.set(index, threadId, 'PX', this.#positionMs, 'NX'))
    ])
    if (previous === null) {
      const other = await this.#client.command((client) => client.get(index))
      if (other !== null && other !== threadId && await this.#getIn(other, runId) !== undefined) {
        if (isReserved) this.#uncount(userId, runId)
        throw new FAE_ERR_RUN_EXISTS(runId)
      }
      if (other !== threadId) await this.#client.command((client) => client.set(index, threadId, 'PX', this.#positionMs))
    }
    this.#starting.add(runId)
    return !isReserved
  }

  /** The run of an announcement was not stored. @param isCertain false when the answer was lost: then it stays announced */
  withdraw ({ runId, info: { userId } }: RunStart, isCertain: boolean, isKnown: boolean): void {
    this.#starting.delete(runId)
    if (!isCertain || isKnown) return
    this.#uncount(userId, runId)
    this.#client.command((client) => client.del(this.#threads.keys.runThread(runId))).catch(() => {})
  }

  /** Before a step is sent. */
  stepping (threadId: string, { runId, ends }: RunStep): void {
    const run = this.#held.get(threadId)?.runs.get(runId)
    if (run !== undefined && ends !== undefined) run.isEnding = true
  }

  /** Enters what an append did. */
  stored (threadId: string, start: RunStart | undefined, step: RunStep | undefined, { appended, record, run, endedUser }: AppendOutcome): void {
    const { first, last, next, repeated } = appended
    if (start !== undefined) {
      this.#starting.delete(start.runId)
      // A waiting run is nobody's yet.
      if (appended.run?.state === 'running' && record !== undefined) this.#hold(record, appended.run)
    } else if (step !== undefined) {
      const held = this.#held.get(threadId)?.runs.get(step.runId)
      if (held !== undefined && repeated !== true) applyStep(held, step, last.epoch, first.seq, last.seq)
      else if (run?.state === 'running' && record !== undefined) this.#hold(record, run)
      if (next !== undefined) {
        const known = record ?? this.#held.get(threadId)?.record
        if (known !== undefined) this.#hold(known, next)
      }
      if (step.ends !== undefined) this.forget(threadId, step.runId)
    }
    if (endedUser !== undefined) this.#uncount(endedUser, step!.runId)
  }

  /** Somebody else's now, or gone. */
  forget (threadId: string, runId: string): void {
    const held = this.#held.get(threadId)
    held?.runs.delete(runId)
    if (held?.runs.size === 0) this.#held.delete(threadId)
  }

  /**
   * Runs that are this process's by their record, though it does not know them: the answer to their start or claim was
   * lost, or Redis lost their end.
   * @returns undefined while that cannot be said
   */
  async unknownIn (threadId: string): Promise<readonly RunRecord[] | undefined> {
    const found = await this.look(threadId, this.#node)
    if (found === undefined) return []
    if (this.#claiming.has(threadId)) return undefined
    const held = this.#held.get(threadId)?.runs
    // Its end is made again until it is answered, and that answer may carry another run.
    for (const run of held?.values() ?? []) if (run.isEnding) return undefined
    return found.runs.filter(({ runId }) => held?.has(runId) !== true && !this.#starting.has(runId))
  }

  #hold (record: ThreadRecord, run: RunRecord): void {
    let held = this.#held.get(record.threadId)
    if (held === undefined) this.#held.set(record.threadId, held = { record, runs: new Map() })
    if (!held.runs.has(run.runId)) held.runs.set(run.runId, holdRun(run))
  }

  async #reserve (userId: string, runId: string, maxRuns: number): Promise<boolean> {
    const index = this.#threads.keys.userRuns(userId)
    const most = Math.min(maxRuns, Number.MAX_SAFE_INTEGER)
    const reserve = async (): Promise<boolean> => await this.#client.run(RESERVE, [index], [runId, most, this.#positionMs]) === 1
    if (await reserve()) return true
    // An index is not believed: what ended without it leaves it now.
    const members = await this.#client.command((client) => client.srandmember(index, REPAIR_RUNS))
    const runs = await Promise.all(members.map((member) => this.get(member)))
    const ended = members.filter((member, i) => !this.#starting.has(member) && runs[i]?.state !== 'running' && runs[i]?.state !== 'queued')
    if (ended.length === 0) return false
    await this.#client.command((client) => client.srem(index, ...ended))
    return reserve()
  }

  #uncount (userId: string, runId: string): void {
    this.#client.command((client) => client.srem(this.#threads.keys.userRuns(userId), runId)).catch(() => {})
  }
}
