import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { resolve as pathOf } from 'node:path'
import t from 'tap'
import { ReaderProject, readProjectFile, snippetsOf } from '../support/readme.js'

const page = await readProjectFile('docs/client.md')
const snippets = snippetsOf(page)
const modules = snippets.map(({ name }) => name!).filter((name) => name !== 'install')

t.test('every snippet of docs/client.md compiles, strictly and with the types of its server, and only with those', async (t) => {
  const project = await ReaderProject.create(t, snippets)
  await mkdir(`${project.dir}/changed`)
  for (const name of modules) {
    await project.save(name)
    const code = project.code(name)
    await writeFile(`${project.dir}/changed/${name}`, name === 'server.ts' ? code.replaceAll('search', 'lookup').replaceAll('answer', 'reply') : code)
  }
  const compilerOptions = { module: 'nodenext', target: 'es2023', lib: ['es2023', 'dom'], jsx: 'react-jsx', types: ['node'], strict: true, exactOptionalPropertyTypes: true, skipLibCheck: true, noEmit: true }
  await writeFile(`${project.dir}/tsconfig.json`, JSON.stringify({ compilerOptions, include: ['**/*.ts', '**/*.tsx'] }))
  const said = await new Promise<string>((resolve) => { execFile(pathOf('node_modules/.bin/tsc'), ['-p', '.'], { cwd: project.dir }, (_error, stdout) => { resolve(stdout) }) })
  const complaints = said.split('\n').filter((line) => /^\S/.test(line))
  t.same(complaints.filter((line) => !line.startsWith('changed/')), [])
  for (const name of ['listen.ts', 'send.ts', 'chat.tsx']) t.ok(complaints.some((line) => line.startsWith(`changed/${name}`)), `${name} does not compile with a server that changed`)
})

t.test('every snippet of docs/client.md does what the page says', async (t) => {
  t.same(modules, ['server.ts', 'client.ts', 'listen.ts', 'loop.ts', 'send.ts', 'status.ts', 'storage.ts', 'view.ts', 'chat.tsx'], 'each is run here, or compiled above')
  const project = await ReaderProject.create(t, [...snippets, { language: 'sh', name: 'start', code: 'node --import tsx server.ts 3000 &\n' }])
  await project.save('server.ts')
  await project.save('client.ts')
  await project.startShell('start')

  for (const [name, lines] of [
    ['send.ts', ["See 'returns' in the handbook."]],
    ['loop.ts', ['1 user_message', '2 agent_started', '3 tool_executing', '4 tool_completed', '5 assistant_message', '6 agent_completed']],
    ['listen.ts', ['1 user_message', '2 agent_started', 'looks for returns', '3 tool_executing', "See 'returns' in the handbook.", '4 tool_completed', '5 assistant_message', '6 agent_completed']],
    ['status.ts', ['connecting undefined', 'live websocket', 'ada idle', 'closed undefined']],
    ['view.ts', ['user: returns', "assistant: See 'returns' in the handbook.", 'user: delivery', "assistant: See 'delivery' in the handbook."]],
    ['storage.ts', ['']]
  ] as const) {
    const { code, stdout, stderr } = await project.runModule(name)
    t.equal(code, 0, `${name}: ${stderr}`)
    t.equal(stderr, '')
    t.same(stdout.trimEnd().split('\n'), lines, name)
  }
})

t.test('what docs/client.md names is there', async (t) => {
  const errors = await import('../../errors.js') as Record<string, unknown>
  const codes = page.match(/FAE_ERR_\w+/g)!
  t.ok(codes.length > 10)
  for (const code of codes) t.ok(errors[code], code)
  for (const ending of ['_CANCELLED', '_TIMEOUT', '_LOST']) t.ok(errors[`FAE_ERR_RUN${ending}`], ending)
})
