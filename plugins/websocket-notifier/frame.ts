import type { Entry } from '../store/index.js'

/** FIN and opcode 1: an unfragmented text frame. */
const TEXT = 0x81

function headerSize (payload: number): number {
  return payload < 126 ? 2 : payload < 65_536 ? 4 : 10
}

function writeFrame (target: Buffer, offset: number, text: string, length: number): number {
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
  const start = offset + headerSize(length)
  // As many bytes as characters: it is all ASCII, which needs no encoding.
  target.write(text, start, length, length === text.length ? 'latin1' : 'utf8')
  return start + length
}

/** One WebSocket text frame as a server sends it: not masked, not compressed. */
export function frameText (text: string): Buffer {
  const length = Buffer.byteLength(text)
  const frame = Buffer.allocUnsafe(headerSize(length) + length)
  writeFrame(frame, 0, text, length)
  return frame
}

/** Events framed once for everybody who gets them: one buffer, and where each event's frame begins in it. */
export interface Batch {
  readonly entries: readonly Entry[]
  readonly buffer: Buffer
  readonly offsets: readonly number[]
}

/** Frames a run of events, seq ascending without gaps. */
export function frameEntries (entries: readonly Entry[]): Batch {
  const lengths: number[] = []
  let size = 0
  for (const { json, bytes: length = Buffer.byteLength(json) } of entries) {
    lengths.push(length)
    size += headerSize(length) + length
  }
  const buffer = Buffer.allocUnsafe(size)
  const offsets: number[] = []
  let offset = 0
  for (let i = 0; i < entries.length; i++) {
    offsets.push(offset)
    offset = writeFrame(buffer, offset, entries[i]!.json, lengths[i]!)
  }
  return { entries, buffer, offsets }
}
