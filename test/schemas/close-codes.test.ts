import t from 'tap'
import { readFile } from 'node:fs/promises'
import { closeCodes } from '../../schemas/close-code-table.js'
import { isTerminal } from '../../schemas/close-codes.js'

t.test('the table', async (t) => {
  t.same(Object.values(closeCodes).map((entry) => entry.code), [1001, 1009, 1012, 4400, 4401, 4403, 4408, 4413, 4429])
  t.same(Object.values(closeCodes).filter((entry) => entry.terminal).map((entry) => entry.code), [1009, 4400, 4401, 4403])
  for (const entry of Object.values(closeCodes)) {
    t.ok(entry.meaning.length > 0, `${entry.code} says what it means`)
    // a close frame has room for 123 bytes of reason
    t.ok(Buffer.byteLength(entry.meaning) <= 123, `${entry.code} fits into a close frame`)
  }
})

t.test('terminal codes stop a client, all others bring it back', async (t) => {
  for (const code of [1009, 4400, 4401, 4403]) t.equal(isTerminal(code), true, String(code))
  for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4408, 4413, 4429, 4999, Number.NaN]) t.equal(isTerminal(code), false, String(code))
})

t.test('what the client takes imports nothing', async (t) => {
  // the tests run from the root of the repository
  t.notMatch(await readFile('schemas/close-codes.ts', 'utf8'), /\bimport\b.*\bfrom\b|\brequire\s*\(/)
})
