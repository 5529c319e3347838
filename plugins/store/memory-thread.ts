import { formatCursor } from '../../schemas/index.js'
import { MemoryLog } from './memory-log.js'
import type { MutableRun } from './run-ledger.js'
import type { Entry, Retention, ThreadRecord, ThreadState, Watcher } from './store.js'

const NONE: readonly never[] = []

/** A longer log is not worth to be written anew. */
const MAX_ASLEEP_BYTES = 16 * 1024
/** A longer text is kept outside of the heap. */
const MAX_TEXT = 4 * 1024

/**
 * An idle thread: all it knows, as JSON in UTF-8; as a string it is one byte per character. Next to no work for the garbage
 * collector, however many there are.
 */
export type Asleep = string | Buffer

/** An append that was called with a key. */
interface Keyed { readonly first: number, readonly last: number, readonly runId?: string | undefined }

type Saved = readonly [
  record: ThreadRecord, epoch: string, touchedAt: number, first: number, events: ReadonlyArray<readonly [json: string, at: number]>,
  keys: ReadonlyArray<readonly [key: string, Keyed]>, ended: readonly MutableRun[]
]

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
    const [record, epoch, touchedAt, first, events, keys, ended] = savedIn(asleep)
    const thread = new MemoryThread(record, epoch, touchedAt, new MemoryLog(first))
    for (const [json, at] of events) thread.log.push('', json, at)
    if (keys.length > 0) thread.keys = new Map(keys)
    if (ended.length > 0) {
      thread.ended = [...ended]
      thread.runs = new Map(ended.map((run) => [run.runId, run]))
    }
    return thread
  }

  static stateOf (asleep: Asleep): ThreadState {
    const [record, epoch,, first, events] = savedIn(asleep)
    return { record, epoch, head: first + events.length - 1 }
  }

  static runOf (asleep: Asleep, runId: string): MutableRun | undefined {
    return savedIn(asleep)[6].find((run) => run.runId === runId)
  }

  /** Nobody watches, nothing runs, and there is little to write down. */
  get canSleep (): boolean {
    const isLive = (this.runs?.size ?? 0) > (this.ended?.length ?? 0)
    return this.watchers.length === 0 && !isLive && this.log.bytes <= MAX_ASLEEP_BYTES
  }

  /** Not to be used any more. */
  sleep (): Asleep {
    const { record, epoch, touchedAt, log, keys = [], ended = [] } = this
    const json = Buffer.from(JSON.stringify([record, epoch, touchedAt, log.first, log.save(), [...keys], ended] satisfies Saved))
    log.drop()
    return json.length > MAX_TEXT ? json : json.toString('latin1')
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

function savedIn (asleep: Asleep): Saved {
  return JSON.parse((typeof asleep === 'string' ? Buffer.from(asleep, 'latin1') : asleep).toString()) as Saved
}
