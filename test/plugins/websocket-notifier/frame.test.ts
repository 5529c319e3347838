import t from 'tap'
import type { Writable } from 'node:stream'
import * as ws from 'ws'
import { MemoryLog } from '../../../plugins/store/memory-log.js'
import type { Entry } from '../../../plugins/store/store.js'
import { frameEntries, frameText } from '../../../plugins/websocket-notifier/frame.js'

// ws's own parser, as every ws client uses it; its types do not name it.
const { Receiver } = ws as unknown as { Receiver: new (options: { isServer: boolean, maxPayload: number }) => Writable }

/** The text messages that a client gets out of these bytes, given to it in pieces of at most `chunk` bytes. */
async function receive (bytes: Buffer, chunk = bytes.length): Promise<string[]> {
  const receiver = new Receiver({ isServer: false, maxPayload: 0 })
  const messages: string[] = []
  receiver.on('message', (data: Buffer, isBinary: boolean) => { messages.push(isBinary ? 'binary' : String(data)) })
  const failed = new Promise<never>((resolve, reject) => { receiver.on('error', reject) })
  for (let at = 0; at < bytes.length; at += chunk) {
    await Promise.race([failed, new Promise<void>((resolve, reject) => { receiver.write(bytes.subarray(at, at + chunk), (error) => { error ? reject(error) : resolve() }) })])
  }
  await new Promise((resolve) => { setImmediate(resolve) })
  return messages
}

const sizes = [0, 1, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 300_000]

t.test('one text frame of every size, as ws reads it', async (t) => {
  for (const size of sizes) {
    const text = 'x'.repeat(size)
    const frame = frameText(text)
    t.equal(frame.length, size + (size < 126 ? 2 : size < 65_536 ? 4 : 10), `${size} bytes`)
    t.equal(frame[0], 0x81, 'final, text, no compression')
    t.equal(frame[1]! & 0x80, 0, 'not masked')
    const received = await receive(frame)
    t.ok(received.length === 1 && received[0] === text)
  }
})

t.test('sizes are bytes, not characters', async (t) => {
  for (const character of ['é', '€', '👋', '\u0000', '\u2028']) {
    for (const count of [1, 31, 41, 62, 63, 125, 126, 16_383, 16_384, 21_845, 21_846, 32_767, 32_768, 65_535, 65_536]) {
      const text = character.repeat(count)
      const received = await receive(frameText(text))
      if (received.length !== 1 || received[0] !== text) t.fail(`${count} times ${JSON.stringify(character)}`)
    }
  }
  t.same(await receive(frameText('a\ud800b')), ['a\ufffdb'], 'a lone surrogate has no UTF-8 form: replaced, never a broken frame')
})

t.test('frames of a batch stand one after the other, each at its offset', async (t) => {
  const entries = sizes.map((size, i) => ({ seq: i + 1, json: `${'ü'.repeat(size >> 1)}${'x'.repeat(size % 2)}` }))
  const batch = frameEntries(entries)
  t.equal(batch.entries, entries)
  t.same(await receive(batch.buffer), entries.map(({ json }) => json))
  t.same(await receive(batch.buffer, 1_000), entries.map(({ json }) => json), 'however the network cuts them')
  for (const [i, offset] of batch.offsets.entries()) {
    t.same(await receive(batch.buffer.subarray(offset)), entries.slice(i).map(({ json }) => json), 'a batch may be sent from any of its events on')
    t.ok(batch.buffer.subarray(offset, batch.offsets[i + 1]).equals(frameText(entries[i]!.json)))
  }
  const none = frameEntries([])
  t.same([none.buffer.length, none.offsets], [0, []])
})

t.test('events that a log keeps as frames are sent from where they are, or copied where they are apart', async (t) => {
  const log = new MemoryLog()
  const texts = Array.from({ length: 300 }, (_, i) => ['a', 'é', '🧵'][i % 3]!.repeat(i % 200) + (i % 97 === 96 ? 'x'.repeat(70_000) : ''))
  const copies: Entry[] = []
  for (const [i, json] of texts.entries()) {
    log.push('', json, 0)
    copies.push(i % 5 === 4 ? { seq: i + 1, json } : log.newest())
  }
  for (const [from, to] of [[0, 300], [0, 6], [5, 6], [4, 8], [200, 210], [290, 300]] as const) {
    const expected = frameEntries(texts.slice(from, to).map((json, i) => ({ seq: from + i + 1, json })))
    for (const batch of [frameEntries(copies.slice(from, to)), frameEntries(copies.slice(from, to).map((entry) => log.slice(entry.seq - 1, 1)[0]!))]) {
      t.ok(batch.buffer.equals(expected.buffer), `${from} to ${to}`)
      t.same(batch.offsets, expected.offsets)
      t.same(await receive(batch.buffer), texts.slice(from, to))
    }
  }
  const neighbours = copies.slice(290, 291)
  t.equal(frameEntries(neighbours).buffer.buffer, neighbours[0]!.framed!.buffer.buffer, 'not copied')
})
