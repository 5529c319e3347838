import t from 'tap'
import fc from 'fast-check'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { Cursor, formatCursor, newEpoch, parseCursor } from '../../schemas/index.js'

const epoch = fc.string({ unit: fc.constantFrom(...'0123456789abcdefghijklmnopqrstuvwxyz'), minLength: 12, maxLength: 12 })
const seq = fc.integer({ min: 0, max: 9_999_999_999 })
const position = fc.record({ epoch, seq })
const isCursor = TypeCompiler.Compile(Cursor)
const seed = Number(process.env.FC_SEED ?? Date.now() % 2 ** 31)
t.comment(`seed ${seed}`)

t.test('a cursor is epoch and ten digits', async (t) => {
  t.equal(formatCursor('k3xw9q00abcd', 7), 'k3xw9q00abcd-0000000007')
  t.same(parseCursor('k3xw9q00abcd-0000000007'), { epoch: 'k3xw9q00abcd', seq: 7 })
})

t.test('every position survives the round trip', async () => {
  fc.assert(fc.property(position, ({ epoch, seq }) => {
    const text = formatCursor(epoch, seq)
    const parsed = parseCursor(text)
    return isCursor.Check(text) && parsed?.epoch === epoch && parsed.seq === seq
  }), { seed })
})

t.test('the order of the texts is the order of the positions', async () => {
  const compare = <T extends string | number> (a: T, b: T) => a < b ? -1 : a > b ? 1 : 0
  const pair = fc.oneof(
    fc.tuple(position, position),
    // the interesting case: the same history
    fc.tuple(position, seq).map(([a, other]) => [a, { epoch: a.epoch, seq: other }] as const)
  )
  fc.assert(fc.property(pair, ([a, b]) =>
    compare(formatCursor(a.epoch, a.seq), formatCursor(b.epoch, b.seq)) === (compare(a.epoch, b.epoch) || compare(a.seq, b.seq))
  ), { seed, numRuns: 1000 })
})

t.test('what is not a cursor is undefined', async (t) => {
  const others = [
    '', '-', '-1', 'now', '7', 'k3xw9q00abcd', 'k3xw9q00abcd-', 'k3xw9q00abcd-7', 'k3xw9q00abcd-000000007', 'k3xw9q00abcd-00000000007',
    'k3xw9q-0000000007', 'K3XW9Q00ABCD-0000000007', 'k3xw9q00abcd_0000000007', 'k3xw9q00abcd-000000000x', 'k3xw9q00abcd--000000007',
    ' k3xw9q00abcd-0000000007', 'k3xw9q00abcd-0000000007 ', 'k3xw9q00abcd-0000000007\n', 'k3xw9q00abcd-٠٠٠٠٠٠٠٠٠٧'
  ]
  for (const text of others) {
    t.equal(parseCursor(text), undefined, JSON.stringify(text))
    t.equal(isCursor.Check(text), false, JSON.stringify(text))
  }
  fc.assert(fc.property(fc.string(), (text) => {
    const parsed = parseCursor(text)
    return parsed === undefined || formatCursor(parsed.epoch, parsed.seq) === text
  }), { seed })
})

t.test('an epoch is fixed-width, time first, random end', async (t) => {
  const now = Date.UTC(2026, 0, 1)
  const made = newEpoch(undefined, now)
  t.match(made, /^[0-9a-z]{12}$/)
  t.equal(Number.parseInt(made.slice(0, 8), 36), now)
  t.ok(new Set(Array.from({ length: 100 }, () => newEpoch(undefined, now))).size > 90, 'two nodes in one millisecond differ')
  t.equal(newEpoch(undefined, 0).length, 12, 'padded')
  const before = Date.now()
  t.ok(Number.parseInt(newEpoch().slice(0, 8), 36) >= before, 'the present by default')
})

t.test('an epoch sorts behind the one it replaces, whatever the clock does', async () => {
  // eight digits of base 36, and room for the steps that a standing clock takes
  const time = fc.integer({ min: 0, max: 36 ** 8 - 1000 })
  fc.assert(fc.property(time, fc.array(time, { minLength: 1, maxLength: 20 }), (first, clocks) => {
    let previous = newEpoch(undefined, first)
    for (const now of clocks) {
      const next = newEpoch(previous, now)
      if (next.length !== 12 || next <= previous) return false
      previous = next
    }
    return true
  }), { seed })
})

t.test('an epoch in the future, or in the same millisecond, moves on by one', async (t) => {
  const now = Date.UTC(2026, 0, 1)
  for (const ahead of [0, 1, 3_600_000]) {
    const previous = newEpoch(undefined, now + ahead)
    t.equal(Number.parseInt(newEpoch(previous, now).slice(0, 8), 36), now + ahead + 1)
  }
  t.equal(Number.parseInt(newEpoch(newEpoch(undefined, now - 1), now).slice(0, 8), 36), now)
})

t.test('a previous that is no epoch is ignored', async (t) => {
  const now = Date.UTC(2026, 0, 1)
  for (const previous of ['', '???', 'é']) t.equal(Number.parseInt(newEpoch(previous, now).slice(0, 8), 36), now)
})
