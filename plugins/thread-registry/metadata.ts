import { FAE_ERR_BAD_REQUEST } from '../../errors.js'

const MAX_BYTES = 16 * 1024
const MAX_DEPTH = 32

/**
 * A thread's metadata is read with its thread at every door, and written by stores where nothing may throw.
 * @throws FAE_ERR_BAD_REQUEST for what is not JSON, nested over 32 levels or over 16 KiB
 */
export function checkMetadata (metadata: object): void {
  const depths = new WeakMap<object, number>()
  let json: string
  try {
    json = JSON.stringify(metadata, function (this: object, _key: string, value: unknown) {
      if (typeof value !== 'object' || value === null) return value
      const depth = (depths.get(this) ?? 0) + 1
      if (depth > MAX_DEPTH) throw new RangeError()
      depths.set(value, depth)
      return value
    })
  } catch {
    throw new FAE_ERR_BAD_REQUEST(`A thread's metadata is JSON, at most ${MAX_DEPTH} levels deep`)
  }
  if (Buffer.byteLength(json) > MAX_BYTES) throw new FAE_ERR_BAD_REQUEST(`A thread's metadata is at most ${MAX_BYTES} bytes as JSON`)
}
