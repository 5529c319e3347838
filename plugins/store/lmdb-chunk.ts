/*
 * How events lie on disk: what one commit adds to a thread is one value, under the seq of its first event. A line of JSON
 * says what is in it, then come the events as they were given, without id and seq, one after the other.
 */

/** Roughly how much goes into one value. */
const CHUNK_BYTES = 16 * 1024

/** What is known of a chunk without its events. */
export interface ChunkHeader {
  /** seq of its first event. */
  readonly first: number
  /** When it was stored, in milliseconds since 1970. */
  readonly at: number
  /** Bytes of each event's body. */
  readonly sizes: readonly number[]
  /** Keys that live as long as their event here, each with its seq. */
  readonly keys: ReadonlyArray<readonly [keyHash: string, seq: number]>
  /** Runs whose last event is here. */
  readonly ended: ReadonlyArray<readonly [runId: string, seq: number]>
}

interface HeaderLine { t: number, s: readonly number[], k?: ChunkHeader['keys'], r?: ChunkHeader['ended'] }

export interface EncodedChunk { readonly first: number, readonly value: Buffer }

/** What one commit adds to one thread. */
export interface Addition {
  readonly first: number
  readonly bodies: string[]
  readonly keys: Array<readonly [keyHash: string, seq: number]>
  readonly ended: Array<readonly [runId: string, seq: number]>
}

/** @returns the chunks, and the bytes of all events as they go on the wire */
export function encodeChunks ({ first, bodies, keys, ended }: Addition, at: number): { chunks: EncodedChunk[], bytes: number } {
  const chunks: EncodedChunk[] = []
  let bytes = 0
  for (let from = 0; from < bodies.length;) {
    const sizes: number[] = []
    let text = ''
    let total = 0
    let to = from
    while (to < bodies.length && (to === from || total < CHUNK_BYTES)) {
      const body = bodies[to++]!
      const size = Buffer.byteLength(body)
      text += body
      total += size
      sizes.push(size)
      bytes += wireBytes(first + to - 1, size)
    }
    const isHere = ([, seq]: readonly [string, number]): boolean => seq >= first + from && seq < first + to
    const line: HeaderLine = { t: at, s: sizes }
    if (keys.length > 0) line.k = keys.filter(isHere)
    if (ended.length > 0) line.r = ended.filter(isHere)
    chunks.push({ first: first + from, value: Buffer.from(`${JSON.stringify(line)}\n${text}`) })
    from = to
  }
  return { chunks, bytes }
}

export function decodeHeader (first: number, value: Buffer): ChunkHeader {
  const { t, s, k = [], r = [] } = JSON.parse(value.toString('utf8', 0, value.indexOf(10))) as HeaderLine
  return { first, at: t, sizes: s, keys: k, ended: r }
}

/** Calls back with the chunk's bodies from seq `from` on, until the callback says false. @returns false then */
export function eachBody (first: number, value: Buffer, from: number, visit: (seq: number, body: string, size: number) => boolean): boolean {
  let offset = value.indexOf(10) + 1
  const { s: sizes } = JSON.parse(value.toString('utf8', 0, offset - 1)) as HeaderLine
  for (let i = 0; i < sizes.length; i++) {
    const size = sizes[i]!
    if (first + i >= from && !visit(first + i, value.toString('utf8', offset, offset + size), size)) return false
    offset += size
  }
  return true
}

/** Bytes of an event on the wire: its body with `{"id":"…","seq":…,` in place of its first brace. */
export function wireBytes (seq: number, size: number): number {
  return size + 38 + digits(seq)
}

function digits (seq: number): number {
  let count = 1
  for (let rest = seq; rest >= 10; rest /= 10) count++
  return count
}
