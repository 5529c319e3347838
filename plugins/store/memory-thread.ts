import { formatCursor } from '../../schemas/index.js'
import type { MutableRun } from './run-ledger.js'
import { PAGE_BYTES, type Entry, type Retention, type ThreadRecord, type ThreadState, type Watcher } from './store.js'

export interface MemoryEntry extends Entry { readonly bytes: number, readonly at: number, readonly key: string | undefined }
const TRIMMED: MemoryEntry = { seq: 0, json: '', bytes: 0, at: 0, key: undefined }
const NONE: readonly MutableRun[] = []

/** One thread. What most threads do not have is made on first use: idle threads are many. */
export class MemoryThread {
  readonly record: ThreadRecord
  readonly epoch: string
  head = 0
  bytes = 0
  touchedAt: number
  watchers: readonly Watcher[] = []
  keys: Map<string, { first: number, last: number, runId: string | undefined }> | undefined
  runs: Map<string, MutableRun> | undefined
  /** Live root runs, oldest first: what the queue waits for. */
  roots: string[] = []
  /** Ended runs in order of their end: forgotten when their last event is. */
  ended: MutableRun[] = []
  #entries: MemoryEntry[] = []
  #trimmed = 0

  constructor (record: ThreadRecord, epoch: string, now: number) {
    this.record = record
    this.epoch = epoch
    this.touchedAt = now
  }

  get size (): number { return this.#entries.length - this.#trimmed }
  get first (): number { return this.head - this.size + 1 }
  get state (): ThreadState { return { record: this.record, epoch: this.epoch, head: this.head } }

  push (body: string, at: number, key: string | undefined): MemoryEntry {
    const seq = ++this.head
    const json = `{"id":"${formatCursor(this.epoch, seq)}","seq":${seq},${body.slice(1)}`
    const entry = { seq, json, bytes: Buffer.byteLength(json), at, key }
    this.#entries.push(entry)
    this.bytes += entry.bytes
    return entry
  }

  /** @returns the ended runs that are forgotten with their last event */
  trim (retention: Retention, now: number): readonly MutableRun[] {
    const oldest = now - retention.maxAgeMs
    while (this.size > 0) {
      const entry = this.#entries[this.#trimmed]!
      if (this.size <= retention.maxEvents && this.bytes <= retention.maxBytes && entry.at >= oldest) break
      this.bytes -= entry.bytes
      if (entry.key !== undefined) this.keys!.delete(entry.key)
      // Gone at once, though its place in the array goes later.
      this.#entries[this.#trimmed++] = TRIMMED
    }
    // Shift the array only now and then: trimming one event must not cost a copy of all.
    if (this.#trimmed > 1_024 || this.size === 0) {
      this.#entries.splice(0, this.#trimmed)
      this.#trimmed = 0
    }
    const first = this.first
    const kept = this.ended.findIndex((run) => run.lastSeq >= first)
    if (kept === 0 || this.ended.length === 0) return NONE
    const forgotten = this.ended.splice(0, kept < 0 ? this.ended.length : kept)
    for (const run of forgotten) this.runs!.delete(run.runId)
    return forgotten
  }

  slice (afterSeq: number, limit: number): Entry[] {
    const from = this.#trimmed + Math.max(0, afterSeq + 1 - this.first)
    const entries: Entry[] = []
    let bytes = 0
    for (let i = from; i < this.#entries.length && entries.length < limit && bytes < PAGE_BYTES; i++) {
      const entry = this.#entries[i]!
      entries.push(entry)
      bytes += entry.bytes
    }
    return entries
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
