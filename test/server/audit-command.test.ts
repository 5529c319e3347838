import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { runServer } from './fixtures/processes.js'

const before = 'examples/legacy-app/before'

t.test('audit prints a table, or what --format says, and nothing else', async (t) => {
  const table = await runServer(t, ['audit', before])
  t.equal(table.code, 0)
  t.match(table.stdout, /^4 files: 4 registries/)
  t.equal(table.stderr, '', 'no progress bar where there is no terminal')
  const json = await runServer(t, ['audit', before, '--format', 'json'])
  t.equal(JSON.parse(json.stdout).registries.length, 4)
  t.match((await runServer(t, ['audit', before, '--format', 'markdown'])).stdout, /^# Registry audit\n/)
  t.match((await runServer(t, ['audit', before, '--format=mermaid'])).stdout, /^flowchart LR\n/)
})

t.test('--fail-on tells a build', async (t) => {
  const folder = t.testdir({ one: { 'a.ts': "class AgentRegistry { a = {} }\nconst id = runId.split('_')" }, none: { 'a.ts': '' } })
  const codes = async (path: string) => Promise.all(['multiple', 'findings'].map(async (failOn) => (await runServer(t, ['audit', path, '--fail-on', failOn])).code))
  t.same(await codes(before), [1, 1])
  t.same(await codes(`${folder}/one`), [0, 1])
  t.same(await codes(`${folder}/none`), [0, 0])
})

t.test('--exclude and --tests', async (t) => {
  const folder = t.testdir({ old: { 'a.ts': '' }, older: { 'b.ts': '' }, 'c.test.ts': '', 'd.ts': '' })
  const files = async (...args: string[]) => JSON.parse((await runServer(t, ['audit', folder, '--format', 'json', ...args])).stdout).summary.files
  t.equal(await files(), 3)
  t.equal(await files('--exclude', 'old', '--exclude', 'older/'), 1)
  t.equal(await files('--tests'), 4)
})

t.test('what is wrong is said', async (t) => {
  for (const args of [['audit'], ['audit', 'a', 'b'], ['audit', '.', '--format', 'xml'], ['audit', '.', '--fail-on', 'any'], ['audit', '.', '--port', '1'], ['serve', '--format', 'json'], ['threads', 'compact', '--tests']]) {
    const { code, stderr } = await runServer(t, args)
    t.equal(code, 2, args.join(' '))
    t.match(stderr, /Usage: /)
  }
  const nowhere = await runServer(t, ['audit', 'no/such/folder'])
  t.same([nowhere.code, nowhere.stderr], [1, 'no/such/folder is not a folder\n'])
})

t.test('a reader that leaves early, as head does, is no error', async (t) => {
  const child = spawn(process.execPath, ['server/dist/bin.js', 'audit', before, '--format', 'json'], { stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => { child.kill('SIGKILL') })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  child.stdout.destroy()
  const [code] = await once(child, 'close')
  t.same([code, stderr], [0, ''])
})

t.test('on a terminal a bar shows how far it is', async (t) => {
  // script(1) gives it one.
  const child = spawn('script', ['-qec', `${process.execPath} server/dist/bin.js audit ${before} --format mermaid`, '/dev/null'], { stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => { child.kill('SIGKILL') })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
  await once(child, 'close')
  t.match(output, /\[#{30}\] 4\/4 files/)
  t.match(output, /flowchart LR/)
})
