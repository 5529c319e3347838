import type { Entry, Framed } from '../store/index.js'

/** FIN and opcode 1: an unfragmented text frame. */
const TEXT = 0x81

export function headerSize (payload: number): number {
  return payload < 126 ? 2 : payload < 65_536 ? 4 : 10
}

/** How long the header is of a frame that begins here. */
export function headerSizeAt (frames: Buffer, offset: number): number {
  const length = frames[offset + 1]!
  return length < 126 ? 2 : length === 126 ? 4 : 10
}

/** How long the whole frame is that begins here. */
export function frameSizeAt (frames: Buffer, offset: number): number {
  const length = frames[offset + 1]!
  if (length < 126) return 2 + length
  return length === 126 ? 4 + frames.readUInt16BE(offset + 2) : 10 + frames.readUInt32BE(offset + 6)
}

/** @param length of the text as UTF-8 @returns where the text begins */
export function writeHeader (target: Buffer, offset: number, length: number): number {
  target[offset] = TEXT
  if (length < 126) {
    target[offset + 1] = length
  } else if (length < 65_536) {
    target[offset + 1] = 126
    target.writeUInt16BE(length, offset + 2)
  } else {
    target[offset + 1] = 127
    target.writeUInt32BE(0, offset + 2)
    target.writeUInt32BE(length, offset + 6)
  }
  return offset + headerSize(length)
}

/** @param length of the text as UTF-8 @returns where it ends */
export function writeText (target: Buffer, offset: number, text: string, length: number): number {
  // As many bytes as characters: it is all ASCII, which needs no encoding.
  target.write(text, offset, length, length === text.length ? 'latin1' : 'utf8')
  return offset + length
}

/** One WebSocket text frame as a server sends it: not masked, not compressed. */
export function frameText (text: string): Buffer {
  const length = Buffer.byteLength(text)
  const frame = Buffer.allocUnsafe(headerSize(length) + length)
  writeText(frame, writeHeader(frame, 0, length), text, length)
  return frame
}

/** Events framed once for everybody who gets them: one buffer, and where each event's frame begins in it. */
export interface Batch {
  readonly entries: readonly Entry[]
  readonly buffer: Buffer
  readonly offsets: readonly number[]
}

/** Frames a run of events, seq ascending without gaps. What a store keeps in one place is not copied. */
export function frameEntries (entries: readonly Entry[]): Batch {
  const offsets: number[] = []
  let size = 0
  for (const entry of entries) {
    offsets.push(size)
    size += entry.framed === undefined ? frameSize(entry.json) : entry.framed.end - entry.framed.start
  }
  const place = entries[0]?.framed
  if (place !== undefined && isOnePiece(entries, place)) return { entries, buffer: place.buffer.subarray(place.start, place.start + size), offsets }
  const buffer = Buffer.allocUnsafe(size)
  for (let i = 0; i < entries.length; i++) {
    const { framed } = entries[i]!
    if (framed === undefined) {
      const { json } = entries[i]!
      const length = Buffer.byteLength(json)
      writeText(buffer, writeHeader(buffer, offsets[i]!, length), json, length)
    } else {
      framed.buffer.copy(buffer, offsets[i]!, framed.start, framed.end)
    }
  }
  return { entries, buffer, offsets }
}

function frameSize (text: string): number {
  const length = Buffer.byteLength(text)
  return headerSize(length) + length
}

function isOnePiece (entries: readonly Entry[], { buffer, end }: Framed): boolean {
  for (let i = 1, at = end; i < entries.length; i++) {
    const { framed } = entries[i]!
    if (framed === undefined || framed.buffer !== buffer || framed.start !== at) return false
    at = framed.end
  }
  return true
}
