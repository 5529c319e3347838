import { test } from 'tap'
import { join } from 'node:path'
import { ConfigError } from '../../server/config.js'
import { loadAgents } from '../../server/load-agents.js'

const definition = (name: string, does: string) => `{ name: '${name}', description: 'd', ${does} () {} }`

test('agents and tools are told by their shape, wherever they are exported', async (t) => {
  const folder = t.testdir({
    'package.json': '{ "type": "module" }',
    'b.js': `export const agent = ${definition('b', 'run')}\nexport default agent`,
    'a.mjs': `export default ${definition('a', 'run')}\nexport const tools = [${definition('t1', 'execute')}, ${definition('t2', 'execute')}]\nexport const all = [[${definition('nested', 'run')}]]`,
    'helper.js': "export const name = 'x'\nexport function run () {}\nexport const odd = [null, 1, { name: 1, run () {} }, { name: 'nothing' }]",
    'types.d.ts': 'this is not even TypeScript',
    'notes.md': '# no module',
    '.hidden.js': 'throw new Error()',
    below: { 'c.js': 'throw new Error()' }
  })
  const { agents, tools } = await loadAgents(folder)
  t.strictSame(agents.map(({ name }) => name), ['a', 'nested', 'b'], 'in the order of the files, each once')
  t.strictSame(tools.map(({ name }) => name), ['t1', 't2'])
})

test('a CommonJS module is fine', async (t) => {
  const folder = t.testdir({ 'package.json': '{ "type": "commonjs" }', 'a.js': `exports.agent = ${definition('common', 'run')}` })
  t.strictSame((await loadAgents(folder)).agents.map(({ name }) => name), ['common'])
})

test('two with one name are both passed on: the registry refuses them', async (t) => {
  const folder = t.testdir({ 'a.mjs': `export default ${definition('same', 'run')}`, 'b.mjs': `export default ${definition('same', 'run')}` })
  t.equal((await loadAgents(folder)).agents.length, 2)
})

test('a module that cannot be loaded is named', async (t) => {
  // names differ because a module that failed once stays failed under its URL
  for (const [name, content, reason] of [
    ['throws.mjs', "throw new Error('no luck')", 'no luck'],
    ['imports.mjs', "import 'does-not-exist-anywhere'", 'does-not-exist-anywhere'],
    ['syntax.mjs', 'export const = 1', 'Unexpected token'],
    ['nothing.mjs', 'throw undefined', 'undefined']
  ] as const) {
    const folder = t.testdir({ [name]: content })
    const error = await loadAgents(folder).then(() => undefined, (error: Error) => error)
    t.type(error, ConfigError)
    t.ok(error?.message.startsWith(`${join(folder, name)} cannot be loaded: `), name)
    t.ok(error?.message.includes(reason), reason)
  }
})

test('a folder that is not there is named', async (t) => {
  const folder = join(t.testdir({}), 'absent')
  await t.rejects(loadAgents(folder), { message: new RegExp(`${folder} cannot be read: ENOENT`) })
})
