import { frameSizeAt, headerSize, headerSizeAt, writeHeader, writeText } from '../websocket-notifier/frame.js'
import { PAGE_BYTES, type Entry, type Framed, type Retention } from './store.js'

/** The smallest and the largest block; each is about as large as all before it. */
const MIN_BLOCK = 1024
const MAX_BLOCK = 16 * 1024

/** Of blocks that were let go, so much may wait to be freed before V8 is asked to hurry. */
const MAX_LET_GO = 32 * 1024 * 1024

/** Bytes of blocks that were let go and are not freed yet. */
let letGo = 0
const freed = new FinalizationRegistry((bytes: number) => { letGo -= bytes })

/**
 * For every few megabytes of ArrayBuffers that stay, V8 marks its whole heap to see whether they may go. Those that are
 * shared it does not count, and so a log that only grows costs no collections. It does not know either what it could free:
 * while that is much, it is given something to count.
 */
function newBuffer (size: number): Buffer {
  return letGo < MAX_LET_GO ? Buffer.from(new SharedArrayBuffer(size)) : Buffer.allocUnsafeSlow(size)
}

function leave ({ buffer: { buffer, byteLength } }: Block): void {
  letGo += byteLength
  freed.register(buffer, byteLength)
}

/** An event where it is kept: an object for both, since one is made for each event. */
class Kept implements Entry, Framed {
  readonly seq: number
  readonly buffer: Buffer
  readonly start: number
  readonly end: number

  constructor (seq: number, { buffer, ends }: Block, i: number) {
    this.seq = seq
    this.buffer = buffer
    this.start = i === 0 ? 0 : ends[i - 1]!
    this.end = ends[i]!
  }

  get framed (): Framed { return this }

  get json (): string { return this.buffer.toString('utf8', this.start + headerSizeAt(this.buffer, this.start), this.end) }

  /** Of json, as UTF-8. */
  get bytes (): number { return this.end - this.start - headerSizeAt(this.buffer, this.start) }
}

/** A run of events: where the frame of each ends in the buffer, and when it came. */
interface Block {
  /** seq of its first event. */
  readonly first: number
  readonly buffer: Buffer
  readonly ends: number[]
  readonly at: number[]
}

/**
 * The retained events of one thread, as UTF-8 in blocks outside of the heap: what is kept for days costs the garbage
 * collector nothing. They are kept as the frames they leave as, so that an event on its way to its watchers is written once.
 */
export class MemoryLog {
  /** seq of the newest event, 0 before the first. */
  head: number
  /** seq of the oldest retained event; head + 1 when none is. */
  first: number
  /** Of the retained events. */
  bytes = 0
  #blocks: Block[] | undefined

  /** @param first the seq that the next event gets */
  constructor (first = 1) {
    this.first = first
    this.head = first - 1
  }

  get size (): number { return this.head - this.first + 1 }

  /** @param prefix the beginning of the event, ASCII; its rest is not put together with it before it is written */
  push (prefix: string, rest: string, at: number): void {
    const restBytes = Buffer.byteLength(rest)
    const bytes = prefix.length + restBytes
    this.head++
    this.bytes += bytes
    const blocks = this.#blocks ??= []
    let block = blocks[blocks.length - 1]
    let start = block === undefined ? 0 : endOf(block)
    const frameBytes = headerSize(bytes) + bytes
    if (block === undefined || start + frameBytes > block.buffer.length) {
      const size = Math.max(frameBytes, Math.min(MAX_BLOCK, Math.max(MIN_BLOCK, this.bytes)))
      block = { first: this.head, buffer: newBuffer(size), ends: [], at: [] }
      start = 0
      blocks.push(block)
    }
    const { buffer, ends } = block
    const restStart = writeText(buffer, writeHeader(buffer, start, bytes), prefix, prefix.length)
    ends.push(writeText(buffer, restStart, rest, restBytes))
    block.at.push(at)
  }

  /** Forgets the oldest events that retention no longer covers. @returns whether there were any */
  trim ({ maxEvents, maxBytes, maxAgeMs }: Retention, now: number): boolean {
    const before = this.first
    while (this.size > maxEvents || this.bytes > maxBytes || this.oldestAt < now - maxAgeMs) this.#shift()
    return this.first !== before
  }

  /** Events after `afterSeq`, as many as a page takes. */
  slice (afterSeq: number, limit: number): Entry[] {
    const entries: Entry[] = []
    let seq = Math.max(afterSeq + 1, this.first)
    let pageBytes = 0
    for (const block of this.#blocks ?? []) {
      for (let i = seq - block.first; i < block.ends.length; i++, seq++) {
        if (entries.length >= limit || pageBytes >= PAGE_BYTES) return entries
        const kept = new Kept(seq, block, i)
        entries.push(kept)
        pageBytes += kept.bytes
      }
    }
    return entries
  }

  /** The newest event. */
  newest (): Entry {
    const block = this.#blocks![this.#blocks!.length - 1]!
    return new Kept(this.head, block, block.ends.length - 1)
  }

  /** All that is retained: the frames of the events one after the other, in pieces, and when each came. */
  save (): { readonly frames: readonly Buffer[], readonly at: readonly number[] } {
    const blocks = this.#blocks ?? []
    return {
      frames: blocks.map((block) => block.buffer.subarray(startIn(block, this.first), endOf(block))),
      at: blocks.flatMap(({ first, at }) => at.slice(Math.max(0, this.first - first)))
    }
  }

  /** What save() has given. @param first the seq of its first event */
  static load (first: number, frames: Buffer, at: readonly number[]): MemoryLog {
    const log = new MemoryLog(first)
    if (at.length === 0) return log
    const block: Block = { first, buffer: newBuffer(frames.length), ends: [], at: [...at] }
    frames.copy(block.buffer)
    for (let end = 0; end < frames.length;) {
      block.ends.push(end += frameSizeAt(frames, end))
      log.bytes += new Kept(++log.head, block, block.ends.length - 1).bytes
    }
    log.#blocks = [block]
    return log
  }

  /** Nobody will read it again. */
  drop (): void {
    for (const block of this.#blocks ?? []) leave(block)
    this.#blocks = undefined
  }

  /** When the oldest retained event came; Infinity when none is. */
  get oldestAt (): number {
    if (this.#blocks === undefined) return Infinity
    const { first, at } = this.#blocks[0]!
    return at[this.first - first]!
  }

  #shift (): void {
    const block = this.#blocks![0]!
    const i = this.first - block.first
    this.bytes -= new Kept(this.first, block, i).bytes
    if (i + 1 === block.ends.length) {
      this.#blocks!.shift()
      leave(block)
    }
    if (this.#blocks!.length === 0) this.#blocks = undefined
    this.first++
  }
}

function startIn ({ first, ends }: Block, seq: number): number {
  return seq <= first ? 0 : ends[seq - first - 1]!
}

function endOf ({ ends }: Block): number {
  return ends[ends.length - 1]!
}
