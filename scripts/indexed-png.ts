import { crc32, deflateSync, inflateSync } from 'node:zlib'

const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10])
const INDEXED = 3
const MOST_COLORS = 256

/**
 * The same picture in a third of the bytes: one byte for each pixel instead of three. A page has few colours; the rarest,
 * where letters are smoothed, become the nearest of the others.
 * @param png 8 bits for each of red, green and blue, not interlaced, as browsers take them
 */
export function indexedPng (png: Buffer): Buffer {
  const { width, height, pixels } = decode(png)
  const counts = new Map<number, number>()
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1)
  const byCount = [...counts.keys()].sort((one, other) => counts.get(other)! - counts.get(one)!)
  const palette = byCount.slice(0, MOST_COLORS)
  const indexes = new Map(byCount.map((color) => [color, nearest(palette, color)]))

  const rows = Buffer.alloc((width + 1) * height)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = indexes.get(pixels[y * width + x]!)!
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, INDEXED], 8)
  const colors = Buffer.from(palette.flatMap((color) => [color >> 16, color >> 8 & 255, color & 255]))
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('PLTE', colors), chunk('IDAT', deflateSync(rows, { level: 9 })), chunk('IEND', Buffer.alloc(0))])
}

function nearest (palette: readonly number[], color: number): number {
  const distance = (other: number) => [16, 8, 0].reduce((sum, shift) => sum + ((color >> shift & 255) - (other >> shift & 255)) ** 2, 0)
  let best = 0
  for (const [index, other] of palette.entries()) {
    if (other === color) return index
    if (distance(other) < distance(palette[best]!)) best = index
  }
  return best
}

function chunk (type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const framed = Buffer.alloc(body.length + 8)
  framed.writeUInt32BE(data.length, 0)
  body.copy(framed, 4)
  framed.writeUInt32BE(crc32(body), body.length + 4)
  return framed
}

function decode (png: Buffer): { width: number, height: number, pixels: Uint32Array } {
  const chunks = new Map<string, Buffer[]>()
  for (let at = SIGNATURE.length; at < png.length; at += 12 + png.readUInt32BE(at)) {
    const type = png.toString('latin1', at + 4, at + 8)
    chunks.set(type, [...chunks.get(type) ?? [], png.subarray(at + 8, at + 8 + png.readUInt32BE(at))])
  }
  const header = chunks.get('IHDR')![0]!
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)]
  if (header.readUInt16BE(8) !== 0x0802) throw new Error('not 8 bits of red, green and blue')
  const rows = inflateSync(Buffer.concat(chunks.get('IDAT')!))
  const stride = width * 3
  const bytes = Buffer.alloc(stride * height)
  for (let at = 0; at < bytes.length; at++) {
    const [x, y] = [at % stride, Math.floor(at / stride)]
    const left = x < 3 ? 0 : bytes[at - 3]!
    const up = y === 0 ? 0 : bytes[at - stride]!
    const corner = x < 3 || y === 0 ? 0 : bytes[at - stride - 3]!
    const row = y * (stride + 1)
    bytes[at] = rows[row + 1 + x]! + [0, left, up, left + up >> 1, paeth(left, up, corner)][rows[row]!]!
  }
  return { width, height, pixels: Uint32Array.from({ length: width * height }, (_, at) => bytes.readUIntBE(at * 3, 3)) }
}

/** Whichever of its neighbours is nearest to their slope. */
function paeth (left: number, up: number, corner: number): number {
  const slope = left + up - corner
  const [toLeft, toUp, toCorner] = [Math.abs(slope - left), Math.abs(slope - up), Math.abs(slope - corner)]
  return toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner
}
