import t from 'tap'
import { MemoryLog } from '../../../plugins/store/memory-log.js'
import { defaultRetention } from '../../../plugins/store/store.js'
import { collected, gc } from '../../support/gc.js'

function push (log: MemoryLog, text: string, at = 0): void {
  const prefix = /^[\x20-\x7e]{0,5}/.exec(text)![0]
  log.push(prefix, text.slice(prefix.length), at)
}

/** All of it, page by page. */
function texts (log: MemoryLog, limit: number): string[] {
  const all: string[] = []
  for (let seq = log.first - 1; seq < log.head;) {
    const page = log.slice(seq, limit)
    for (const entry of page) {
      if (entry.seq !== ++seq) throw new Error(`found ${JSON.stringify(entry)} at ${seq}`)
      all.push(entry.json)
    }
  }
  return all
}

t.test('what it keeps is outside of the heap, and what it forgets is freed', async (t) => {
  const outside = (): number => {
    gc()
    return process.memoryUsage().arrayBuffers
  }
  const before = outside()
  const log = new MemoryLog()
  for (let i = 0; i < 20_000; i++) push(log, `${i} ${'x'.repeat(1_000)}`)
  const kept = outside() - before
  t.ok(kept > log.bytes * 0.8 && kept < log.bytes * 1.2, `${kept} bytes for ${log.bytes}`)
  log.trim({ ...defaultRetention, maxEvents: 1 }, 0)
  for (const deadline = Date.now() + 20_000; outside() - before > 1_000_000 && Date.now() < deadline;) await new Promise((resolve) => { setTimeout(resolve, 20) })
  t.ok(outside() - before < 1_000_000)
  t.equal(log.size, 1)
})

t.test('gives back what it was given, of any length and in any script', async (t) => {
  const log = new MemoryLog()
  const given = Array.from({ length: 3_000 }, (_, i) => ['', 'a', 'é', '🧵', '漢'][i % 5]!.repeat(i % 700))
  given.push('x'.repeat(200_000), 'é'.repeat(200_000), 'last')
  for (const text of given) push(log, text)
  for (const limit of [1, 7, 1_000]) t.strictSame(texts(log, limit), given)
  t.equal(log.bytes, given.reduce((sum, text) => sum + Buffer.byteLength(text), 0))
  t.same(log.slice(given.length, 10), [])
})

t.test('forgets the oldest by count, bytes and age, and counts what is left', async (t) => {
  for (const [name, retention, kept] of [
    ['count', { maxEvents: 40 }, 40],
    ['bytes', { maxBytes: 30_000 }, 30],
    ['age', { maxAgeMs: 1_000 }, 11]
  ] as const) {
    const log = new MemoryLog()
    const given: string[] = []
    for (let i = 0; i < 500; i++) {
      given.push(String(i).padEnd(1_000))
      push(log, given[i]!, i * 100)
      log.trim({ ...defaultRetention, maxAgeMs: Infinity, ...retention }, i * 100)
      const expected = given.slice(-kept)
      if (log.head !== i + 1 || log.size !== expected.length || log.bytes !== expected.length * 1_000) t.fail(`${name}, after event ${i}: ${log.size} of ${log.bytes} bytes`)
    }
    t.strictSame(texts(log, 1_000), given.slice(-kept), name)
    t.notOk(log.trim({ ...defaultRetention, maxAgeMs: Infinity }, 1e12))
    t.ok(log.trim({ ...defaultRetention, maxAgeMs: 1 }, 1e12))
    t.match(log, { head: 500, first: 501, size: 0, bytes: 0 }, 'all of it, and the position stays')
    push(log, 'again', 1e12)
    t.notOk(log.trim({ ...defaultRetention, maxAgeMs: 1 }, 1e12))
    t.match(log.slice(0, 10), [{ seq: 501, json: 'again' }])
  }
})

t.test('what is saved is loaded again, also without what was trimmed', async (t) => {
  const log = new MemoryLog()
  const given = Array.from({ length: 200 }, (_, i) => ['', 'a', 'é', '🧵', '漢'][i % 5]!.repeat(i % 300))
  for (const [i, text] of given.entries()) push(log, text, i)
  for (const maxEvents of [200, 150, 17, 1, 0]) {
    log.trim({ ...defaultRetention, maxAgeMs: Infinity, maxEvents }, 0)
    const { frames, at } = log.save()
    const loaded = MemoryLog.load(log.first, Buffer.concat(frames), at)
    t.match(loaded, { first: log.first, head: 200, bytes: log.bytes, size: maxEvents, oldestAt: maxEvents === 0 ? Infinity : 200 - maxEvents })
    push(loaded, 'next', 200)
    t.strictSame(texts(loaded, 10), [...given.slice(200 - maxEvents), 'next'])
  }
})

t.test('V8 does not count what is kept, until much was let go and is not freed', async (t) => {
  const text = 'x'.repeat(1_000)
  const fill = (bytes: number): MemoryLog => {
    const log = new MemoryLog()
    while (log.bytes < bytes) push(log, text)
    return log
  }
  /** Whether the next block would be counted. */
  const isCounted = (): boolean => !(fill(1).newest().framed!.buffer.buffer instanceof SharedArrayBuffer)
  await collected()
  const kept = fill(64 * 1024 * 1024)
  t.notOk(isCounted(), 'what is kept, however much')
  for (const end of [(log: MemoryLog) => { log.trim({ ...defaultRetention, maxBytes: 0 }, 0) }, (log: MemoryLog) => { log.drop() }]) {
    end(fill(24 * 1024 * 1024))
    t.notOk(isCounted(), 'little is let go')
    end(fill(24 * 1024 * 1024))
    t.ok(isCounted(), 'much is let go')
    await collected()
    t.notOk(isCounted(), 'and freed')
  }
  t.ok(kept.size > 0)
})
