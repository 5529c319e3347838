import t from 'tap'
import { checkIntegers } from '../../plugins/options.js'

t.test('options that are given are whole numbers of at least so much', async (t) => {
  checkIntegers({}, ['a', 'b'])
  checkIntegers({ a: 0, b: undefined, c: 'not looked at' }, ['a', 'b'])
  checkIntegers({ a: 1, b: Number.MAX_SAFE_INTEGER }, ['a', 'b'], 1)
  for (const value of [-1, 1.5, NaN, Infinity, 2 ** 53, '5', null, true, 5n, [5], {}]) {
    t.throws(() => { checkIntegers({ a: 1, b: value }, ['a', 'b']) }, {
      code: 'FAE_ERR_OPTION_INVALID', statusCode: 500, message: `Option 'b' is invalid: expected a whole number of at least 0, found ${String(value)}`
    })
  }
  checkIntegers({ a: 5 }, ['a'], 1, 5)
  t.throws(() => { checkIntegers({ a: 6 }, ['a'], 1, 5) }, { message: "Option 'a' is invalid: expected a whole number from 1 to 5, found 6" })
  t.throws(() => { checkIntegers({ a: 0 }, ['a'], 1) }, { message: "Option 'a' is invalid: expected a whole number of at least 1, found 0" })
})
