import { formatCursor } from '../../schemas/index.js'
import { MemoryLog } from './memory-log.js'
import type { MutableRun } from './run-ledger.js'
import type { Entry, Retention, ThreadRecord, ThreadState, Watcher } from './store.js'

const NONE: readonly never[] = []

/** The longest log that sleeps: what is longer takes long to copy and weighs little in objects for what it holds. */
const MAX_ASLEEP_BYTES = 16 * 1024
/** What is longer is kept outside of the heap. */
const MAX_STRING = 4 * 1024
const LINE_FEED = 10

/**
 * An idle thread: two lines of JSON and the frames of its events, next to no work for the garbage collector. As a string it
 * has a character for each byte.
 */
export type Asleep = string | Buffer

/** An append that was called with a key. */
interface Keyed { readonly first: number, readonly last: number, readonly runId?: string | undefined }

/** The first line: what is asked about threads in which nothing happens. */
type Status = readonly [record: ThreadRecord, epoch: string, head: number, touchedAt: number, oldestAt: number | null]
type Rest = readonly [first: number, at: readonly number[], keys: ReadonlyArray<readonly [key: string, Keyed]>, ended: readonly MutableRun[]]

/** One thread. What most threads do not have is made on first use. */
export class MemoryThread {
  readonly record: ThreadRecord
  readonly epoch: string
  readonly log: MemoryLog
  touchedAt: number
  watchers: readonly Watcher[] = NONE
  /** By the order of their events. */
  keys: Map<string, Keyed> | undefined
  runs: Map<string, MutableRun> | undefined
  /** Live root runs, oldest first: what the queue waits for. */
  roots: readonly string[] = NONE
  /** Ended runs in order of their end: forgotten when their last event is. */
  ended: MutableRun[] | undefined

  constructor (record: ThreadRecord, epoch: string, touchedAt: number, log = new MemoryLog()) {
    this.record = record
    this.epoch = epoch
    this.touchedAt = touchedAt
    this.log = log
  }

  static wake (asleep: Asleep): MemoryThread {
    const { status: [record, epoch,, touchedAt], rest: [first, at, keys, ended], frames } = read(asleep)
    const thread = new MemoryThread(record, epoch, touchedAt, MemoryLog.load(first, frames, at))
    if (keys.length > 0) thread.keys = new Map(keys)
    if (ended.length > 0) {
      thread.ended = [...ended]
      thread.runs = new Map(ended.map((run) => [run.runId, run]))
    }
    return thread
  }

  static stateOf (asleep: Asleep): ThreadState {
    const [record, epoch, head] = readStatus(asleep)
    return { record, epoch, head }
  }

  static runOf (asleep: Asleep, runId: string): MutableRun | undefined {
    return read(asleep).rest[3].find((run) => run.runId === runId)
  }

  /** Whether retention asks for something by now. */
  static isDue (asleep: Asleep, { maxAgeMs, positionMs }: Retention, now: number): boolean {
    const [,,, touchedAt, oldestAt] = readStatus(asleep)
    return oldestAt === null ? touchedAt + positionMs < now : oldestAt + maxAgeMs < now
  }

  /** Nobody watches, nothing runs, and there is little to write down. */
  get canSleep (): boolean {
    const isLive = (this.runs?.size ?? 0) > (this.ended?.length ?? 0)
    return this.watchers.length === 0 && !isLive && this.log.bytes <= MAX_ASLEEP_BYTES
  }

  /** Not to be used any more. */
  sleep (): Asleep {
    const { record, epoch, touchedAt, log, keys = [], ended = [] } = this
    const { frames, at } = log.save()
    const status: Status = [record, epoch, log.head, touchedAt, at[0] ?? null]
    const rest: Rest = [log.first, at, [...keys], ended]
    const bytes = Buffer.concat([Buffer.from(`${JSON.stringify(status)}\n${JSON.stringify(rest)}\n`), ...frames])
    log.drop()
    return bytes.length > MAX_STRING ? bytes : bytes.toString('latin1')
  }

  get state (): ThreadState { return { record: this.record, epoch: this.epoch, head: this.log.head } }

  push (body: string, at: number): Entry {
    const seq = this.log.head + 1
    this.log.push(`{"id":"${formatCursor(this.epoch, seq)}","seq":${seq},`, body.slice(1), at)
    return this.log.newest()
  }

  /** @returns the ended runs that are forgotten with their last event */
  trim (retention: Retention, now: number): readonly MutableRun[] {
    if (!this.log.trim(retention, now)) return NONE
    const { first } = this.log
    if (this.keys !== undefined) {
      for (const [key, { last }] of this.keys) {
        if (last >= first) break
        this.keys.delete(key)
      }
    }
    if (this.ended === undefined) return NONE
    const kept = this.ended.findIndex((run) => run.lastSeq >= first)
    const forgotten = this.ended.splice(0, kept < 0 ? this.ended.length : kept)
    for (const run of forgotten) this.runs!.delete(run.runId)
    return forgotten
  }

  /** The oldest waiting run, now running, if no root run is; its fence is raised. */
  claimNext (): MutableRun | undefined {
    let oldest: MutableRun | undefined
    for (const runId of this.roots) {
      const run = this.runs!.get(runId)!
      if (run.state === 'running') return undefined
      oldest ??= run
    }
    if (oldest === undefined) return undefined
    oldest.state = 'running'
    oldest.fence++
    return oldest
  }
}

function bytesOf (asleep: Asleep): Buffer {
  return typeof asleep === 'string' ? Buffer.from(asleep, 'latin1') : asleep
}

function readStatus (asleep: Asleep): Status {
  const bytes = bytesOf(asleep)
  return JSON.parse(bytes.toString('utf8', 0, bytes.indexOf(LINE_FEED))) as Status
}

function read (asleep: Asleep): { readonly status: Status, readonly rest: Rest, readonly frames: Buffer } {
  const bytes = bytesOf(asleep)
  const first = bytes.indexOf(LINE_FEED)
  const second = bytes.indexOf(LINE_FEED, first + 1)
  return {
    status: JSON.parse(bytes.toString('utf8', 0, first)) as Status,
    rest: JSON.parse(bytes.toString('utf8', first + 1, second)) as Rest,
    frames: bytes.subarray(second + 1)
  }
}
