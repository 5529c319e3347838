import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Type, type Static } from '@sinclair/typebox'
import { FAE_ERR_IMPORT_LINE, FAE_ERR_STORE_FOLDER } from '../../errors.js'
import { eventTypes, isValidId, parseCursor, type AgentEvent } from '../../schemas/index.js'
import { checkEventData, compileSchema } from '../../schemas/validate.js'
import { encodeChunks } from './lmdb-chunk.js'
import { hash, idKey, openFiles, prepareFolder, type LmdbFiles } from './lmdb-files.js'
import { lockFolder } from './lmdb-lock.js'
import { LmdbThread } from './lmdb-thread.js'
import { EPOCHS, PAGE_EVENTS, type ThreadRecord } from './store.js'

/*
 * What operators do with a folder while nothing runs on it. An export is JSON lines, thread after thread: a line that
 * says which thread, a line for each of its events as it goes on the wire, a line for each run that has not ended.
 */

/** Longest ids that an import takes: what the longest path parameter of any host may be. */
const MAX_ID_LENGTH = 1_024
const Id = Type.String({ minLength: 1 })
const Count = Type.Integer({ minimum: 0 })

const ThreadLine = Type.Object({
  thread: Type.Object({
    threadId: Id,
    userId: Id,
    createdAt: Id,
    inbox: Type.Optional(Type.Literal(true)),
    agent: Type.Optional(Id),
    metadata: Type.Optional(Type.Record(Type.String(), Type.Unknown()))
  }, { additionalProperties: false }),
  head: Count,
  epochs: Type.Array(Type.Object({ epoch: Type.String({ pattern: '^[0-9a-z]{12}$' }), from: Type.Integer({ minimum: 1 }) }), { minItems: 1, maxItems: EPOCHS })
}, { additionalProperties: false })

const RunLine = Type.Object({
  run: Type.Object({
    runId: Id,
    threadId: Id,
    state: Type.Union([Type.Literal('queued'), Type.Literal('running')]),
    fence: Type.Integer({ minimum: 1 }),
    n: Type.Integer({ minimum: 1 }),
    firstSeq: Count,
    lastSeq: Count,
    callFirst: Count,
    epoch: Id,
    order: Count,
    open: Type.Record(Type.String(), Type.String()),
    info: Type.Object({
      userId: Id,
      user: Type.Optional(Type.String()),
      agent: Id,
      agentId: Id,
      messageId: Id,
      trigger: Type.Union([Type.Literal('user_message'), Type.Literal('api'), Type.Literal('agent'), Type.Literal('retry')]),
      parentRunId: Type.Optional(Id),
      parentToolCallId: Type.Optional(Id),
      input: Type.Optional(Type.String()),
      startedAt: Type.Number()
    })
  })
}, { additionalProperties: false })
type RunLine = Static<typeof RunLine>

const Envelope = Type.Object({
  v: Type.Literal(1),
  id: Id,
  seq: Type.Integer({ minimum: 1 }),
  type: Type.Union(eventTypes.map((type) => Type.Literal(type))),
  threadId: Id,
  runId: Type.Optional(Id),
  agentId: Type.Optional(Id),
  parentRunId: Type.Optional(Id),
  timestamp: Id,
  data: Type.Object({})
}, { additionalProperties: false })

const checkThreadLine = compileSchema(ThreadLine)
const checkRunLine = compileSchema(RunLine)
const checkEnvelope = compileSchema(Envelope)

export interface Imported { readonly threads: number, readonly events: number }

/**
 * Every thread of a folder as lines without their ends. Keys and tombstones are not among them: a copy of the folder has all.
 * @throws FAE_ERR_STORE_FOLDER, FAE_ERR_STORE_LOCKED, FAE_ERR_STORE_FORMAT, FAE_ERR_PACKAGE_MISSING
 */
export async function * exportLmdb (folder: string): AsyncGenerator<string> {
  const { files, close, unlock } = await openFolder(folder)
  try {
    const runs = liveRuns(files)
    for (const { value: { no, record } } of files.threads.getRange({})) {
      const row = files.positions.get(no)
      if (row === undefined) continue
      const thread = new LmdbThread(no, record)
      thread.restore(row, row.g)
      yield JSON.stringify({ thread: record, head: thread.head, epochs: thread.epochs })
      for (let seq = thread.first - 1; seq < thread.head;) {
        const entries = thread.read(files.log, seq, PAGE_EVENTS)
        if (entries.length === 0) break
        for (const { json } of entries) yield json
        seq = entries.at(-1)!.seq
      }
      for (const run of runs.get(no) ?? []) yield JSON.stringify({ run })
    }
  } finally {
    await close()
    await unlock()
  }
}

/**
 * Puts exported threads into a folder, which is made if it is missing: all of them, or none. They keep their seq and begin
 * a new epoch; runs that had not ended are dealt with at the next start, as after a crash.
 * @param lines read twice: first everything is checked, then it is stored
 * @throws FAE_ERR_IMPORT_LINE, and as exportLmdb
 */
export async function importLmdb (folder: string, lines: () => AsyncIterable<string>): Promise<Imported> {
  await prepareFolder(folder)
  const { files, close, unlock } = await openFolder(folder, false)
  try {
    // Everything is checked before anything is stored.
    const checked = readThreads(files, lines())
    while ((await checked.next()).done !== true);
    const result = { threads: 0, events: 0 }
    let no = nextNumber(files)
    let order = 0
    for await (const thread of readThreads(files, lines())) {
      await storeThread(files, thread, no++, order)
      order += thread.runs.length
      result.threads++
      result.events += thread.bodies.length
    }
    return result
  } finally {
    await close()
    await unlock()
  }
}

/**
 * Writes the data file anew without its free pages. Positions stay good.
 * @returns its size in bytes before and after
 * @throws as exportLmdb
 */
export async function compactLmdb (folder: string): Promise<{ before: number, after: number }> {
  const { files, close, unlock } = await openFolder(folder)
  const path = join(folder, 'data.mdb')
  const copy = join(folder, 'compacted')
  try {
    const before = (await stat(path)).size
    await rm(copy, { recursive: true, force: true })
    await mkdir(copy)
    await files.root.backup(copy, true)
    await close()
    await rename(join(copy, 'data.mdb'), path)
    await files.markReplaced()
    return { before, after: (await stat(path)).size }
  } catch (error) {
    await close()
    throw error
  } finally {
    await rm(copy, { recursive: true, force: true })
    await unlock()
  }
}

interface Folder {
  readonly files: LmdbFiles
  /** Idempotent. */
  readonly close: () => Promise<void>
  readonly unlock: () => Promise<void>
}

async function openFolder (folder: string, mustExist = true): Promise<Folder> {
  if (mustExist) await stat(join(folder, 'data.mdb')).catch((error: Error) => { throw new FAE_ERR_STORE_FOLDER(folder, error.message) })
  const unlock = await lockFolder(folder)
  try {
    const files = await openFiles(folder)
    let isClosed = false
    const close = async (): Promise<void> => {
      if (isClosed) return
      isClosed = true
      await files.mark()
      await files.root.close()
    }
    return { files, unlock, close }
  } catch (error) {
    await unlock()
    throw error
  }
}

/** By number of their thread, in the order in which they were started. */
function liveRuns (files: LmdbFiles): Map<number, Array<RunLine['run']>> {
  const byThread = new Map<number, Array<RunLine['run']>>()
  for (const { value: runId } of files.live.getRange({})) {
    const row = files.runs.get(idKey(runId))
    const info = files.infos.get(idKey(runId))
    if (row === undefined || info === undefined) continue
    const { no, ...run } = row
    byThread.set(no, [...byThread.get(no) ?? [], { ...run, info } as RunLine['run']])
  }
  for (const runs of byThread.values()) runs.sort((a, b) => a.order - b.order)
  return byThread
}

interface ReadThread {
  readonly record: ThreadRecord
  readonly head: number
  readonly epochs: ReadonlyArray<{ epoch: string, from: number }>
  readonly bodies: string[]
  readonly runs: Array<RunLine['run']>
}

/** Every thread of an import, each once its last line is read. @throws FAE_ERR_IMPORT_LINE */
async function * readThreads (files: LmdbFiles, lines: AsyncIterable<string>): AsyncGenerator<ReadThread> {
  const seen = new Set<string>()
  const inboxes = new Set<string>()
  let line = 0
  let thread: ReadThread | undefined
  let seq = 0
  const refuse = (reason: string): never => { throw new FAE_ERR_IMPORT_LINE(line, reason) }
  const refuseProblem = (problem: { path: string, message: string } | undefined): void => { if (problem !== undefined) refuse(`at '${problem.path}': ${problem.message}`) }
  const checkComplete = (): void => {
    if (thread !== undefined && thread.bodies.length > 0 && seq !== thread.head) refuse(`thread '${thread.record.threadId}' has ended at seq ${seq}, its first line says ${thread.head}`)
  }
  for await (const text of lines) {
    line++
    const value = parseLine(text) ?? refuse('it is not a JSON object')
    if ('thread' in value) {
      checkComplete()
      if (thread !== undefined) yield thread
      refuseProblem(checkThreadLine(value))
      const { thread: record, head, epochs } = value as Static<typeof ThreadLine>
      const { threadId, userId } = record
      if (!isValidId(threadId, MAX_ID_LENGTH) || !isValidId(userId, MAX_ID_LENGTH)) refuse('the id of a thread or user is malformed')
      if (seen.has(threadId)) refuse(`thread '${threadId}' comes twice`)
      if (files.threads.get(idKey(threadId)) !== undefined) refuse(`thread '${threadId}' is in the store already`)
      if (record.inbox === true && (inboxes.has(userId) || files.inboxes.get(hash(userId)) !== undefined)) refuse(`user '${userId}' has an inbox already`)
      seen.add(threadId)
      if (record.inbox === true) inboxes.add(userId)
      thread = { record: record as ThreadRecord, head, epochs, bodies: [], runs: [] }
      seq = 0
      continue
    }
    if (thread === undefined) return refuse('the first line must say which thread')
    const { threadId } = thread.record
    if ('run' in value) {
      refuseProblem(checkRunLine(value))
      const { run } = value as RunLine
      if (run.threadId !== threadId) refuse(`the run is of thread '${run.threadId}', not of '${threadId}'`)
      if (files.runs.get(idKey(run.runId)) !== undefined) refuse(`run '${run.runId}' is in the store already`)
      thread.runs.push(run)
      continue
    }
    refuseProblem(checkEnvelope(value))
    const event = value as unknown as AgentEvent
    const problem = checkEventData(event.type, event.data)
    if (problem !== undefined) refuse(`at 'data.${problem.path}': ${problem.message}`)
    if (event.threadId !== threadId) refuse(`the event is of thread '${event.threadId}', not of '${threadId}'`)
    if (parseCursor(event.id)?.seq !== event.seq) refuse(`id '${event.id}' does not belong to seq ${event.seq}`)
    if (seq > 0 && event.seq !== seq + 1) refuse(`expected seq ${seq + 1}, found ${event.seq}`)
    if (event.seq > thread.head) refuse(`seq ${event.seq} is over the thread's head, ${thread.head}`)
    seq = event.seq
    const { id, seq: _seq, ...body } = event
    thread.bodies.push(JSON.stringify(body))
  }
  checkComplete()
  if (thread !== undefined) yield thread
}

function parseLine (text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text) as unknown
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : undefined
  } catch {
    return undefined
  }
}

function nextNumber (files: LmdbFiles): number {
  const newest = { reverse: true, limit: 1 }
  return 1 + Math.max(0, ...files.positions.getKeys(newest), ...files.garbage.getKeys(newest))
}

async function storeThread (files: LmdbFiles, { record, head, epochs, bodies, runs }: ReadThread, no: number, order: number): Promise<void> {
  const now = Date.now()
  const { threadId, userId } = record
  const key = idKey(threadId)
  const first = head - bodies.length + 1
  const { chunks, bytes } = encodeChunks({ first, bodies, keys: [], ended: [] }, now)
  await files.root.batch(() => {
    files.threads.put(key, { no, record })
    // Generation 0 is never the present one: the thread begins a new epoch when it is first looked at.
    files.positions.put(no, { h: head, f: first, b: bytes, o: now, t: now, g: 0, e: epochs.map(({ epoch, from }) => [epoch, from] as const) })
    for (const chunk of chunks) files.log.put([no, chunk.first], chunk.value)
    if (record.inbox === true) files.inboxes.put(hash(userId), threadId)
    else files.users.put([hash(userId), key], threadId)
    for (const [i, { info, ...run }] of runs.entries()) {
      const runKey = idKey(run.runId)
      files.runs.put(runKey, { ...run, no, order: order + i })
      files.infos.put(runKey, info as never)
      files.live.put(runKey, run.runId)
    }
  })
}
