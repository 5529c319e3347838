import {
  FAE_ERR_RUN_ENDED, FAE_ERR_RUN_EXISTS, FAE_ERR_RUN_HOLE, FAE_ERR_RUN_LIMIT, FAE_ERR_RUN_NOT_FOUND, FAE_ERR_RUN_QUEUE_FULL, FAE_ERR_RUN_STALE, FAE_ERR_THREAD_BUSY
} from '../../errors.js'
import { formatCursor } from '../../schemas/index.js'
import { Script, type RedisClient } from './redis-client.js'
import { OPEN, RUNS, SERVER_ID, TRIM } from './redis-lua.js'
import { readRun, splitInfo, stateWords, type HeldRun, type RunReply } from './redis-run.js'
import type { RedisThreads } from './redis-threads.js'
import {
  MAX_WAITING_RUNS, PAGE_BYTES, PAGE_EVENTS,
  type Appended, type AppendOptions, type Entry, type Epoch, type Page, type Retention, type RunRecord, type RunStep, type ThreadRecord
} from './store.js'

/** How many of the oldest events one call drops beyond as many as it adds. */
const TRIM_EVENTS = 32

/** How far the short way lets a log grow beyond its retention: so much the long way, or a reader, drops at once. */
const SLACK = { events: TRIM_EVENTS, bytes: 1 / 256, ageMs: 1 / 256 }
/** Expiry is renewed now and then, with that much of the retention to spare. */
const RENEW = 1 / 64

/*
 * The short way of APPEND, for most calls: its owner goes on with a run in the same history, and nothing begins, ends,
 * opens, closes, is dropped or must be kept for longer.
 * KEYS   meta, log
 * ARGV   1 run_id   2 channel   3 PUBLISH or SPUBLISH   4 most events   5 most bytes   6 most age of the oldest event, ms
 *        7 most age of the expiry, ms   8 epoch   9 field of the run's state   10 how it begins, as this process left it
 *        11 its first words from now on   12 and this node   13 … bodies
 * result seq of the first event, negative when it could not be published; 0 when nothing was done: by the long way
 */
const STEP = new Script(`${SERVER_ID}
local f = call('HMGET', KEYS[1], 'server', 'epoch', 'seq', 'first', 'bytes', 'at', 'ttl', ARGV[9])
local state, known = f[8], ARGV[10]
if not state or string.sub(state, 1, #known) ~= known or f[2] ~= ARGV[8] or f[1] ~= server_id() then return 0 end
local seq, bytes = tonumber(f[3]), tonumber(f[5])
for i = 13, #ARGV do bytes = bytes + #ARGV[i] end
local last, most_events = seq + #ARGV - 12, tonumber(ARGV[4])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if last - f[4] >= most_events or bytes > tonumber(ARGV[5]) or now - f[6] > tonumber(ARGV[6]) or now - f[7] > tonumber(ARGV[7]) then return 0 end

for i = 13, #ARGV do
  -- Without a log everything before was trimmed.
  if not call('XADD', KEYS[2], 'NOMKSTREAM', seq + i - 12 .. '-0', 'b', ARGV[i], 't', now) then return 0 end
end
local first = seq + 1
call('HSET', KEYS[1], 'seq', last, 'bytes', bytes, ARGV[9], ARGV[11] .. ' ' .. first .. ' ' .. last .. ' ' .. ARGV[12] .. string.sub(state, #known + 1))
local bodies = #ARGV == 13 and ARGV[13] or table.concat(ARGV, '\\n', 13)
local published = redis.pcall(ARGV[3], ARGV[2], 'E ' .. ARGV[8] .. ' ' .. first .. '\\n' .. bodies)
return type(published) == 'table' and -first or first
`)

/*
 * Appends all bodies or none.
 * KEYS   meta, log, keys, runs, live, ended
 * ARGV   1 run_id   2 candidate epoch   3 channel   4 PUBLISH or SPUBLISH
 *        5 maxEvents   6 maxBytes   7 maxAgeMs   8 positionMs   9 most events to drop
 *        10 'k' and the idempotency key, or ''   11 this node   12 '-', 'start' or 'step'   13 run
 *        start: 14 '1' if the bodies hold its agent_started   15 now, enqueue, reject   16 '1' if over the user's limit
 *               17 r (root) or c (child)   18 nonce of this call   19 most waiting runs   20 info   21 its input or ''
 *        step:  14 fence   15 n   16 '1' if starts   17 '1' if it takes over   18 status if it ends, or ''
 *               19 opens, [[id, item]] or ''   20 closes, [id] or ''   21 '1' to be told of the run
 *        22 … bodies
 * result {'stored', epoch, first, last, error of the publish or '', record, state, before, run, next, info}
 *        {'repeated', epochs, first, last, run, next}
 *        {'limit'} {'exists'} {'busy'} {'full'} {'unknown'} {'stale'} {'ended'} {'hole', expected}
 *        {'missing', …} {'epoch', …}
 * Nothing is rolled back: what can be refused comes first, then XADD, which fails where the server takes no writes,
 * then what counts, and last PUBLISH, whose failure the position check heals.
 */
const APPEND = new Script(`${OPEN}${RUNS}${TRIM}
if not open() then return problem end
local now = now_ms()
local is_new = check_log()
local key, me, op, id = ARGV[10], ARGV[11], ARGV[12], ARGV[13]

if key ~= '' then
  local known = call('HGET', keys, key)
  if known then
    local first, last, run_id = string.match(known, '^(%d+) (%d+) (.*)$')
    if tonumber(last) >= thread.first then
      local r = run_id ~= '' and get_run(run_id)
      return {'repeated', thread.epochs, first, last, r and describe(r) or {}, {}}
    end
  end
end

local r, items, before, state = nil, nil, {}, ''
if op == 'start' then
  if ARGV[16] == '1' then return {'limit'} end
  r = get_run(id)
  if r then
    -- The client sent this very call again after a lost connection.
    if r.node == me and r.nonce == ARGV[18] then return {'repeated', thread.epochs, r.call_first, r.last, describe(r), {}} end
    return {'exists'}
  end
  local waiting = 0
  for _, root in ipairs(root_runs()) do
    before[#before + 1] = root.id
    if root.state == 'queued' then waiting = waiting + 1 end
  end
  state = 'running'
  if ARGV[15] ~= 'now' and ARGV[17] == 'r' and #before > 0 then
    if ARGV[15] == 'reject' then return {'busy'} end
    if waiting >= tonumber(ARGV[19]) then return {'full'} end
    state = 'queued'
  end
elseif op == 'step' then
  r = get_run(id)
  if not r or (not r.is_live and r.last < thread.first) then return {'unknown'} end
  local fence, n, takes_over = tonumber(ARGV[14]), tonumber(ARGV[15]), ARGV[17] == '1'
  if fence == r.fence and n == r.n then
    -- Two processes may make the same call: only the one that was first repeats it.
    if r.node ~= me then return {'stale'} end
    local handed = call('HGET', runs, 'x:' .. id)
    local next_run = handed and get_run(handed)
    local is_waiting = next_run and next_run.state == 'running' and next_run.n == 1 and next_run.node == me
    return {'repeated', thread.epochs, r.call_first, r.last, {}, is_waiting and describe(next_run) or {}}
  end
  if not r.is_live then return {'ended'} end
  if fence ~= (takes_over and r.fence + 1 or r.fence) then return {'stale'} end
  if n ~= r.n + 1 then
    if takes_over then return {'stale'} end
    -- Its own owner may leave a hole once, where the store forgot a tail.
    if not (r.epoch ~= thread.epoch and n > r.n) then return {'hole', r.n + 1} end
  end
  if ARGV[18] == '' and (ARGV[19] ~= '' or ARGV[20] ~= '') then
    local text = call('HGET', runs, 'o:' .. id)
    items = text and cjson.decode(text) or {}
    if ARGV[19] ~= '' then for _, pair in ipairs(cjson.decode(ARGV[19])) do items[pair[1]] = pair[2] end end
    if ARGV[20] ~= '' then for _, item in ipairs(cjson.decode(ARGV[20])) do items[item] = nil end end
  end
end

local first = thread.seq + 1
if thread.first > thread.seq then
  thread.first, thread.bytes, thread.at = first, 0, now
  is_new = true
end
for i = 22, #ARGV do
  thread.seq = thread.seq + 1
  if i == #ARGV and key ~= '' then
    call('XADD', log, thread.seq .. '-0', 'b', ARGV[i], 't', now, 'k', key)
  else
    call('XADD', log, thread.seq .. '-0', 'b', ARGV[i], 't', now)
  end
  thread.bytes = thread.bytes + #ARGV[i]
end
local last = thread.seq

local run, next_run, info = {}, {}, ''
if op == 'start' then
  r = {id = id, state = state, fence = 1, n = 1, first = ARGV[14] == '1' and first or 0, last = last, call_first = first, epoch = thread.epoch, node = me, nonce = ARGV[18], root = ARGV[17], created = first}
  put_run(r)
  call('HSET', runs, 'i:' .. id, ARGV[20])
  if ARGV[21] ~= '' then call('HSET', runs, 'p:' .. id, ARGV[21]) end
  call('ZADD', live, first, r.root .. id)
elseif op == 'step' then
  r.fence, r.n, r.last, r.call_first, r.epoch, r.node = tonumber(ARGV[14]), tonumber(ARGV[15]), last, first, thread.epoch, me
  if r.state == 'queued' then r.state = 'running' end
  if ARGV[16] == '1' then r.first = first end
  -- Only who begins the run needs its input; from then on its agent_started has it.
  if ARGV[16] == '1' or ARGV[18] ~= '' then call('HDEL', runs, 'p:' .. id) end
  if ARGV[18] ~= '' then
    r.state = ARGV[18]
    call('HDEL', runs, 'o:' .. id)
    call('ZREM', live, r.root .. id)
    call('ZADD', ended, last, id)
    info = call('HGET', runs, 'i:' .. id)
  elseif items then
    if next(items) then call('HSET', runs, 'o:' .. id, cjson.encode(items)) else call('HDEL', runs, 'o:' .. id) end
  end
  put_run(r)
  if ARGV[18] ~= '' and r.root == 'r' then
    local handed = hand_out(me)
    if handed then
      call('HSET', runs, 'x:' .. id, handed.id)
      next_run = describe(handed)
    end
  end
  if ARGV[21] == '1' then run = describe(r) end
end
if key ~= '' then call('HSET', keys, key, first .. ' ' .. last .. ' ' .. (op == 'start' and id or '')) end

local trimmed = trim(now, tonumber(ARGV[9]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
if trimmed or is_new then forget_ended() end
local max_age, position = tonumber(ARGV[7]), tonumber(ARGV[8])
if is_new or op == 'start' or info ~= '' or key ~= '' or now - thread.ttl > max_age * ${RENEW} then
  thread.ttl = now
  local events = math.ceil(max_age * 1.05)
  call('PEXPIRE', log, events)
  call('PEXPIRE', keys, events)
  for _, name in ipairs({meta, runs, live, ended}) do call('PEXPIRE', name, position) end
end
keep_log({'seq', thread.seq, 'ttl', thread.ttl})

local published = redis.pcall(ARGV[4], ARGV[3], 'E ' .. thread.epoch .. ' ' .. first .. '\\n' .. table.concat(ARGV, '\\n', 22))
local failure = type(published) == 'table' and published.err or ''
local wants_record = op == 'start' or ARGV[21] == '1' or #next_run > 0
return {'stored', thread.epoch, first, last, failure, wants_record and thread.record or '', state, before, run, next_run, info}
`)

/*
 * One page of the log. Trims what is too old, so that a thread where nothing happens does not show it.
 * KEYS   meta, log, keys, runs, live, ended
 * ARGV   1 run_id   2 candidate epoch   3 seq before the page   4 most events   5 about the most bytes
 *        6 maxEvents   7 maxBytes   8 maxAgeMs   9 most events to drop
 * result {'page', epochs, head, first, seq of the first body, bodies} {'missing', …} {'epoch', …}
 */
const READ = new Script(`${OPEN}${RUNS}${TRIM}
if not open() then return problem end
local trimmed = check_log()
trimmed = trim(now_ms(), tonumber(ARGV[9]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])) or trimmed
if trimmed then
  forget_ended()
  keep_log()
end
local from = math.max(tonumber(ARGV[3]) + 1, thread.first)
local limit, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local bodies, bytes, at = {}, 0, from
while at <= thread.seq and #bodies < limit and bytes < most do
  local entries = call('XRANGE', log, at .. '-0', '+', 'COUNT', math.min(64, limit - #bodies))
  if #entries == 0 then break end
  for _, entry in ipairs(entries) do
    local body = entry[2][2]
    bodies[#bodies + 1] = body
    bytes = bytes + #body + 48
    if bytes >= most then break end
  end
  at = from + #bodies
end
return {'page', thread.epochs, thread.seq, thread.first, from, bodies}
`)

export const LOG_SCRIPTS = [STEP, APPEND, READ]

/** What an append did beside storing events, for who keeps track of runs. */
export interface AppendOutcome {
  readonly appended: Appended
  /** Of the thread, where a run of it became this process's. */
  readonly record?: ThreadRecord
  /** The run of a step that this process did not know. */
  readonly run?: RunRecord
  /** Whose run ended. */
  readonly endedUser?: string
  readonly isPublished: boolean
}

type Stored = [kind: 'stored', epoch: string, first: number, last: number, failure: string, record: string, state: 'running' | 'queued' | '', before: string[], run: RunReply, next: RunReply, info: string]
type Repeated = [kind: 'repeated', epochs: string, first: string, last: string, run: RunReply, next: RunReply]

/** The log of each thread: one script per append, one per page. */
export class RedisLog {
  readonly #client: RedisClient
  readonly #threads: RedisThreads
  readonly #retention: Retention
  readonly #node: string
  #nonce = 0

  constructor (client: RedisClient, threads: RedisThreads, retention: Retention, node: string) {
    this.#client = client
    this.#threads = threads
    this.#retention = retention
    this.#node = node
  }

  /** @param held the run of a step, if this process knows it; otherwise it is told of the run */
  async append (threadId: string, bodies: readonly string[], options: AppendOptions, isOverLimit: boolean, held: HeldRun | undefined): Promise<AppendOutcome> {
    const { key, start, run: step } = options
    if (held !== undefined && isShort(options, held)) {
      const outcome = await this.#step(threadId, bodies, step!, held)
      if (outcome !== undefined) return outcome
    }
    const { channel } = this.#threads.keys.thread(threadId)
    const { maxEvents, maxBytes, maxAgeMs, positionMs } = this.#retention
    const args: Array<string | number> = [
      channel, this.#client.publishCommand, maxEvents, maxBytes, maxAgeMs, positionMs, TRIM_EVENTS + bodies.length,
      key === undefined ? '' : `k${key}`, this.#node
    ]
    if (start !== undefined) {
      const root = start.info.parentRunId === undefined ? 'r' : 'c'
      const { info, input } = splitInfo(start.info)
      args.push('start', start.runId, flag(start.started), start.mode, flag(isOverLimit), root, ++this.#nonce, MAX_WAITING_RUNS, info, input)
    } else if (step !== undefined) {
      args.push('step', step.runId, step.fence, step.n, flag(step.starts), flag(step.takesOver), step.ends ?? '', list(step.opens?.map((pair) => pair.map(wellFormed))), list(step.closes?.map(wellFormed)), flag(held === undefined))
    } else {
      args.push('-', '', '', '', '', '', '', '', '', '')
    }
    for (const body of bodies) args.push(oneLine(body))
    const reply = await this.#threads.run(APPEND, threadId, args) as [string, ...unknown[]]
    switch (reply[0]) {
      case 'stored': return stored(threadId, reply as Stored, start?.info, start)
      case 'repeated': return { appended: repeated(threadId, reply as Repeated), isPublished: true }
      case 'limit': throw new FAE_ERR_RUN_LIMIT(start!.maxRuns)
      case 'exists': throw new FAE_ERR_RUN_EXISTS(start!.runId)
      case 'busy': throw new FAE_ERR_THREAD_BUSY(start!.info.agent)
      case 'full': throw new FAE_ERR_RUN_QUEUE_FULL(MAX_WAITING_RUNS)
      case 'unknown': throw new FAE_ERR_RUN_NOT_FOUND(step!.runId)
      case 'stale': throw new FAE_ERR_RUN_STALE(step!.runId)
      case 'ended': throw new FAE_ERR_RUN_ENDED(step!.runId)
      default: throw new FAE_ERR_RUN_HOLE(step!.runId, Number(reply[1]), step!.n)
    }
  }

  async #step (threadId: string, bodies: readonly string[], { runId, fence, n }: RunStep, held: HeldRun): Promise<AppendOutcome | undefined> {
    const { all: [meta, log], channel } = this.#threads.keys.thread(threadId)
    const { maxEvents, maxBytes, maxAgeMs } = this.#retention
    const { epoch } = held
    const args = [
      this.#client.serverId, channel, this.#client.publishCommand, maxEvents + SLACK.events, maxBytes * (1 + SLACK.bytes), maxAgeMs * (1 + SLACK.ageMs), maxAgeMs * RENEW,
      epoch, `s:${runId}`, stateWords(held, this.#node), `running ${fence} ${n} ${epoch}`, this.#node
    ]
    for (const body of bodies) args.push(oneLine(body))
    const reply = await this.#client.run(STEP, [meta!, log!], args) as number
    if (reply === 0) return undefined
    const first = Math.abs(reply)
    return { appended: { first: { epoch, seq: first }, last: { epoch, seq: first + bodies.length - 1 } }, isPublished: reply > 0 }
  }

  async read (threadId: string, afterSeq: number, limit: number): Promise<Page> {
    const { maxEvents, maxBytes, maxAgeMs } = this.#retention
    const [, epochText, head, first, from, bodies] = await this.#threads.run(READ, threadId, [
      Math.max(0, Math.min(afterSeq, 1e14)), Math.min(limit, PAGE_EVENTS), PAGE_BYTES, maxEvents, maxBytes, maxAgeMs, TRIM_EVENTS
    ]) as [string, string, number, number, number, string[]]
    const epochs = readEpochs(epochText)
    return { entries: makeEntries(epochs, from, bodies), head, first, epochs }
  }
}

/** Nothing but the next events of a run that this process has written to. */
function isShort ({ key, run: step }: AppendOptions, held: HeldRun): boolean {
  return key === undefined && step !== undefined && step.n === held.n + 1 && step.fence === held.fence && held.epoch !== '' &&
    step.starts !== true && step.takesOver !== true && step.ends === undefined && isEmpty(step.opens) && isEmpty(step.closes)
}

function isEmpty (items: readonly unknown[] | undefined): boolean {
  return items === undefined || items.length === 0
}

/** Stored bodies as they go on the wire: the same bytes for who watches and for who reads. */
export function makeEntries (epochs: readonly Epoch[], first: number, bodies: readonly string[]): Entry[] {
  let index = epochs.length - 1
  while (index > 0 && epochs[index]!.from > first) index--
  return bodies.map((body, i) => {
    const seq = first + i
    while (index + 1 < epochs.length && epochs[index + 1]!.from <= seq) index++
    return { seq, json: `{"id":"${formatCursor(epochs[index]!.epoch, seq)}","seq":${seq},${body.slice(1)}` }
  })
}

export function readEpochs (text: string): Epoch[] {
  return text.split(',').map((pair) => {
    const at = pair.indexOf(':')
    return { epoch: pair.slice(0, at), from: Number(pair.slice(at + 1)) }
  })
}

function stored (threadId: string, [, epoch, first, last, failure, record, state, before, run, next, info]: Stored, startInfo: RunRecord['info'] | undefined, start: AppendOptions['start']): AppendOutcome {
  const created: RunRecord | undefined = startInfo === undefined
    ? undefined
    : { threadId, runId: start!.runId, state: state as 'running' | 'queued', fence: 1, n: 1, firstSeq: start!.started ? first : 0, lastSeq: last, open: {}, info: startInfo }
  const nextRun = readRun(threadId, next)
  const stepRun = readRun(threadId, run)
  return {
    appended: {
      first: { epoch, seq: first },
      last: { epoch, seq: last },
      ...(created !== undefined && { run: created, before }),
      ...(nextRun !== undefined && { next: nextRun })
    },
    ...(record !== '' && { record: JSON.parse(record) as ThreadRecord }),
    ...(stepRun !== undefined && { run: stepRun }),
    ...(info !== '' && { endedUser: (JSON.parse(info) as RunRecord['info']).userId }),
    isPublished: failure === ''
  }
}

function repeated (threadId: string, [, epochText, first, last, run, next]: Repeated): Appended {
  const epochs = readEpochs(epochText)
  const position = (seq: number): Appended['first'] => ({ epoch: epochs.findLast(({ from }) => from <= seq)?.epoch ?? epochs[0]!.epoch, seq })
  const known = readRun(threadId, run)
  const nextRun = readRun(threadId, next)
  return {
    first: position(Number(first)),
    last: position(Number(last)),
    repeated: true,
    ...(known !== undefined && { run: known }),
    ...(nextRun !== undefined && { next: nextRun })
  }
}

function flag (value: boolean | undefined): string {
  return value === true ? '1' : ''
}

function list (items: readonly unknown[] | undefined): string {
  return isEmpty(items) ? '' : JSON.stringify(items)
}

/** What Redis' JSON can read: it refuses half a surrogate pair. */
function wellFormed (text: string): string {
  return /\p{Surrogate}/u.test(text) ? Buffer.from(text).toString() : text
}

/** Bodies travel one per line. JSON.stringify never makes a second one; somebody else's JSON may. */
function oneLine (body: string): string {
  return body.includes('\n') ? JSON.stringify(JSON.parse(body)) : body
}
