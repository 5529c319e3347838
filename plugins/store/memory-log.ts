import { headerSize, headerSizeAt, writeFrame } from '../websocket-notifier/frame.js'
import { PAGE_BYTES, type Entry, type Framed, type Retention } from './store.js'

/** The smallest and the largest block; each is about as large as all before it. */
const MIN_BLOCK = 1024
const MAX_BLOCK = 16 * 1024

/** Bytes of blocks that were let go and that V8 has not been told of. */
let untold = 0

/**
 * For every few megabytes of ArrayBuffers that stay, V8 marks its whole heap to see whether they may go. Those that are
 * shared it does not count, and so a log that only grows costs no collections; as much as was let go is counted, so that it
 * is freed as soon as ever.
 */
function newBuffer (size: number): Buffer {
  if (untold < size) return Buffer.from(new SharedArrayBuffer(size))
  untold -= size
  return Buffer.allocUnsafeSlow(size)
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

  push (json: string, bytes: number, at: number): void {
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
    block.ends.push(writeFrame(block.buffer, start, json, bytes))
    block.at.push(at)
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
    let seq = Math.max(afterSeq + 1, this.first)
    let pageBytes = 0
    for (const { first, buffer, ends } of this.#blocks ?? []) {
      for (let i = seq - first; i < ends.length; i++, seq++) {
        if (entries.length >= limit || pageBytes >= PAGE_BYTES) return entries
        const framed = frameIn(buffer, ends, i)
        const json = textOf(framed)
        const bytes = sizeOf(framed)
        entries.push({ seq, json, bytes, framed })
        pageBytes += bytes
      }
    }
    return entries
  }

  /** The newest event. */
  newest (): Framed {
    const { buffer, ends } = this.#blocks![this.#blocks!.length - 1]!
    return frameIn(buffer, ends, ends.length - 1)
  }

  /** All retained events with their times: what push() takes. */
  save (): Array<readonly [json: string, at: number]> {
    const saved: Array<readonly [string, number]> = []
    let seq = this.first
    for (const { first, buffer, ends, at } of this.#blocks ?? []) {
      for (let i = seq - first; i < ends.length; i++, seq++) saved.push([textOf(frameIn(buffer, ends, i)), at[i]!])
    }
    return saved
  }

  /** Nobody will read it again. */
  drop (): void {
    for (const { buffer } of this.#blocks ?? []) untold += buffer.length
    this.#blocks = undefined
  }

  /** Infinity when none is retained. */
  #oldestAt (): number {
    if (this.#blocks === undefined) return Infinity
    const { first, at } = this.#blocks[0]!
    return at[this.first - first]!
  }

  #shift (): void {
    const { first, buffer, ends } = this.#blocks![0]!
    const i = this.first - first
    this.bytes -= sizeOf(frameIn(buffer, ends, i))
    if (i + 1 === ends.length) {
      this.#blocks!.shift()
      untold += buffer.length
    }
    if (this.#blocks!.length === 0) this.#blocks = undefined
    this.first++
  }
}

function frameIn (buffer: Buffer, ends: readonly number[], i: number): Framed {
  return { buffer, start: i === 0 ? 0 : ends[i - 1]!, end: ends[i]! }
}

function textOf ({ buffer, start, end }: Framed): string {
  return buffer.toString('utf8', start + headerSizeAt(buffer, start), end)
}

/** Bytes of its text. */
function sizeOf ({ buffer, start, end }: Framed): number {
  return end - start - headerSizeAt(buffer, start)
}

function endOf ({ ends }: Block): number {
  return ends[ends.length - 1]!
}
