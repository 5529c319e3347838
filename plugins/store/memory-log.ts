import { headerSize, headerSizeAt, writeFrame } from '../websocket-notifier/frame.js'
import { PAGE_BYTES, type Entry, type Framed, type Retention } from './store.js'

/** The smallest and the largest block; each is about as large as all before it. */
const MIN_BLOCK = 1024
const MAX_BLOCK = 16 * 1024

/** A log begins with this many events as they came: most threads have few, and so they cost the fewest objects. */
const FEW = 4

/** One of these first events. */
interface Early { readonly json: string, readonly bytes: number, readonly at: number, next: Early | undefined }

/** A run of events: where the frame of each ends in the buffer, and when it came. */
interface Block {
  /** seq of its first event. */
  readonly first: number
  readonly buffer: Buffer
  readonly ends: number[]
  readonly at: number[]
}

/**
 * The retained events of one thread; from the fifth on, or the second KiB, as UTF-8 in blocks outside of the heap: what is
 * kept for days costs the garbage collector nothing. They are kept as the frames they leave as, so that an event on its way
 * to its watchers is written once.
 */
export class MemoryLog {
  /** seq of the newest event, 0 before the first. */
  head = 0
  /** seq of the oldest retained event; head + 1 when none is. */
  first = 1
  /** Of the retained events. */
  bytes = 0
  #early: Early | undefined
  #blocks: Block[] | undefined

  get size (): number { return this.head - this.first + 1 }

  push (json: string, bytes: number, at: number): void {
    this.head++
    this.bytes += bytes
    if (this.#blocks !== undefined) this.#store(this.#blocks, this.head, json, bytes, at)
    else if (this.size <= FEW && this.bytes <= MIN_BLOCK) this.#keep({ json, bytes, at, next: undefined })
    else this.#store(this.#outgrow(), this.head, json, bytes, at)
  }

  /** Forgets the oldest events that retention no longer covers. @returns whether there were any */
  trim ({ maxEvents, maxBytes, maxAgeMs }: Retention, now: number): boolean {
    const before = this.first
    while (this.size > maxEvents || this.bytes > maxBytes || this.#oldestAt() < now - maxAgeMs) this.#shift()
    return this.first !== before
  }

  /** Events after `afterSeq`, as many as a page takes. */
  slice (afterSeq: number, limit: number): Entry[] {
    const entries: Entry[] = []
    for (let early = this.#early, seq = this.first; early !== undefined && entries.length < limit; early = early.next, seq++) {
      if (seq > afterSeq) entries.push({ seq, json: early.json, bytes: early.bytes })
    }
    let seq = Math.max(afterSeq + 1, this.first)
    let pageBytes = 0
    for (const { first, buffer, ends } of this.#blocks ?? []) {
      for (let i = seq - first; i < ends.length; i++, seq++) {
        if (entries.length >= limit || pageBytes >= PAGE_BYTES) return entries
        const framed = frameIn(buffer, ends, i)
        const start = framed.start + headerSizeAt(buffer, framed.start)
        const bytes = framed.end - start
        entries.push({ seq, json: buffer.toString('utf8', start, framed.end), bytes, framed })
        pageBytes += bytes
      }
    }
    return entries
  }

  /** The newest event, unless it is one of the few. */
  newest (): Framed | undefined {
    const block = this.#blocks?.[this.#blocks.length - 1]
    return block === undefined ? undefined : frameIn(block.buffer, block.ends, block.ends.length - 1)
  }

  #keep (event: Early): void {
    let last = this.#early
    while (last?.next !== undefined) last = last.next
    if (last === undefined) this.#early = event
    else last.next = event
  }

  /** Too many to be few: they go into blocks. */
  #outgrow (): Block[] {
    const blocks = this.#blocks = []
    for (let early = this.#early, seq = this.first; early !== undefined; early = early.next) this.#store(blocks, seq++, early.json, early.bytes, early.at)
    this.#early = undefined
    return blocks
  }

  #store (blocks: Block[], seq: number, json: string, bytes: number, at: number): void {
    let block = blocks[blocks.length - 1]
    let start = block === undefined ? 0 : endOf(block)
    const frameBytes = headerSize(bytes) + bytes
    if (block === undefined || start + frameBytes > block.buffer.length) {
      const size = Math.max(frameBytes, Math.min(MAX_BLOCK, Math.max(MIN_BLOCK, this.bytes)))
      block = { first: seq, buffer: Buffer.allocUnsafeSlow(size), ends: [], at: [] }
      start = 0
      blocks.push(block)
    }
    block.ends.push(writeFrame(block.buffer, start, json, bytes))
    block.at.push(at)
  }

  /** Infinity when none is retained. */
  #oldestAt (): number {
    if (this.#blocks === undefined) return this.#early?.at ?? Infinity
    const { first, at } = this.#blocks[0]!
    return at[this.first - first]!
  }

  #shift (): void {
    if (this.#blocks === undefined) {
      const { bytes, next } = this.#early!
      this.bytes -= bytes
      this.#early = next
    } else {
      const { first, buffer, ends } = this.#blocks[0]!
      const i = this.first - first
      const { start, end } = frameIn(buffer, ends, i)
      this.bytes -= end - start - headerSizeAt(buffer, start)
      if (i + 1 === ends.length) this.#blocks.shift()
      if (this.#blocks.length === 0) this.#blocks = undefined
    }
    this.first++
  }
}

function frameIn (buffer: Buffer, ends: readonly number[], i: number): Framed {
  return { buffer, start: i === 0 ? 0 : ends[i - 1]!, end: ends[i]! }
}

function endOf ({ ends }: Block): number {
  return ends[ends.length - 1]!
}
