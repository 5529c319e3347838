import t from 'tap'
import { DEFAULT_MAX_ID_LENGTH, isValidId, isValidName, newRunId, newThreadId } from '../../schemas/index.js'

/** A line separator in the name of an assertion would end its line of TAP. */
function shown (value: unknown): string {
  return String(JSON.stringify(value)).replace(/[^ -~]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)
}

t.test('C1: ids of any format', async (t) => {
  const valid = [
    'a', '1', '-', 'thread_13679e4dcc38403a', 'thread_13679e4dcc38403a_run_1756919162904_9adf1f09', '0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11',
    'user@example.com', 'a/b?c#d', 'tenant:1:thread:2', '{hash}', 'with space', ' ', '%2F', '..', '__proto__', 'Grüße', '日本語', '🧵', 'a\u0301', '\u00a0', '\u0080', '\u2028',
    'x'.repeat(100)
  ]
  for (const id of valid) t.equal(isValidId(id), true, shown(id))
})

t.test('what is no id', async (t) => {
  const invalid = ['', 'x'.repeat(101), '\u0000', 'a\u0001', 'a\nb', 'a\tb', '\u001f', '\u007f', '\ud800', 'a\udc00', '\udc00\ud800', undefined, null, 1, {}, ['a']]
  for (const id of invalid) t.equal(isValidId(id), false, shown(id))
})

t.test('the limit counts UTF-16 units and can be set', async (t) => {
  t.equal(DEFAULT_MAX_ID_LENGTH, 100)
  t.equal(isValidId('🧵'.repeat(50)), true)
  t.equal(isValidId('🧵'.repeat(51)), false)
  t.equal(isValidId('x'.repeat(1024), 1024), true)
  t.equal(isValidId('x'.repeat(1025), 1024), false)
})

t.test('names of agents and tools', async (t) => {
  for (const name of ['a', 'search', 'read_section', 'read-section', 'A1', 'constructor', 'x'.repeat(64)]) t.equal(isValidName(name), true, name)
  for (const name of ['', 'x'.repeat(65), 'a b', 'a.b', 'a:b', 'é', 'a\n', '__proto__', undefined, 1, ['a']]) t.equal(isValidName(name), false, shown(name))
})

t.test('new ids are valid and unique', async (t) => {
  t.match(newRunId(), /^run_[0-9a-f-]{36}$/)
  t.match(newThreadId(), /^thread_[0-9a-f-]{36}$/)
  const ids = new Set(Array.from({ length: 1000 }, (_, index) => index % 2 === 0 ? newRunId() : newThreadId()))
  t.equal(ids.size, 1000)
  for (const id of ids) if (!isValidId(id)) t.fail(id)
})
