import t from 'tap'
import fc from 'fast-check'
import { List } from '../../../client/state/list.js'

t.test('is what an array would be, whatever is put where', async (t) => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 40_000 }), fc.array(fc.nat(), { maxLength: 50 }), (length, places) => {
    const array: number[] = Array.from({ length }, (_, at) => at)
    let list = List.from(array)
    for (const [value, place] of places.entries()) {
      const at = place % (array.length + 1)
      list = list.with(at, -value)
      array[at] = -value
    }
    return list.length === array.length &&
      list.toArray().every((item, at) => item === array[at]) &&
      array.every((item, at) => list.at(at) === item)
  }), { numRuns: 30, seed: 8 })
  t.pass()
})

t.test('a list that was given away never changes', async (t) => {
  const lists = [new List<number>()]
  for (let at = 0; at < 1_100; at++) lists.push(lists.at(-1)!.with(at, at))
  const last = lists.at(-1)!
  const changed = last.with(500, -1)
  for (const length of [0, 1, 32, 33, 1_024, 1_025, 1_100]) {
    t.same(lists[length]!.toArray(), Array.from({ length }, (_, at) => at), `${length} items`)
  }
  t.equal(last.at(500), 500)
  t.equal(changed.at(500), -1)
  t.equal(last.toArray(), last.toArray(), 'its array is made once')
})
