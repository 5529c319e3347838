import { formatCursor } from '../../schemas/index.js'
import { MemoryLog } from './memory-log.js'
import type { MutableRun } from './run-ledger.js'
import type { Entry, Retention, ThreadRecord, ThreadState, Watcher } from './store.js'

const NONE: readonly never[] = []

/** One thread. What most threads do not have is made on first use: idle threads are many. */
export class MemoryThread {
  readonly record: ThreadRecord
  readonly epoch: string
  readonly log = new MemoryLog()
  touchedAt: number
  watchers: readonly Watcher[] = NONE
  /** By the order of their events. */
  keys: Map<string, { first: number, last: number, runId: string | undefined }> | undefined
  runs: Map<string, MutableRun> | undefined
  /** Live root runs, oldest first: what the queue waits for. */
  roots: readonly string[] = NONE
  /** Ended runs in order of their end: forgotten when their last event is. */
  ended: MutableRun[] | undefined

  constructor (record: ThreadRecord, epoch: string, now: number) {
    this.record = record
    this.epoch = epoch
    this.touchedAt = now
  }

  get state (): ThreadState { return { record: this.record, epoch: this.epoch, head: this.log.head } }

  push (body: string, at: number): Entry {
    const seq = this.log.head + 1
    const json = `{"id":"${formatCursor(this.epoch, seq)}","seq":${seq},${body.slice(1)}`
    const bytes = Buffer.byteLength(json)
    this.log.push(json, bytes, at)
    return { seq, json, bytes, framed: this.watchers.length === 0 ? undefined : this.log.newest() }
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
