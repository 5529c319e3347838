import t from 'tap'
import { ReaderProject, readProjectFile, snippetsOf } from '../support/readme.js'

const readme = snippetsOf(await readProjectFile('README.md'))

t.test('every piece of code on the page has a name and is run below', async (t) => {
  const code = readme.filter(({ language }) => ['js', 'mjs', 'ts', 'javascript', 'typescript'].includes(language))
  t.same(code.map(({ name }) => name), ['app.mjs', 'plugins.ts', 'client.ts'])
})

t.test('the files of examples/quick-start are those of the page', async (t) => {
  const files = { 'app.mjs': 'app.ts', try: 'try.sh', 'plugins.ts': 'plugins.ts', 'client.ts': 'client.ts' }
  for (const [name, file] of Object.entries(files)) {
    t.equal(await readProjectFile(`examples/quick-start/${file}`), readme.find((snippet) => snippet.name === name)?.code, file)
  }
})

t.test('the quick start shows what the page says', async (t) => {
  const project = await ReaderProject.create(t, readme)
  await project.save('app.mjs')
  await project.startShell('start')

  const tried = await project.runShell('try')
  t.equal(tried.code, 0, tried.stderr)
  t.match(tried.stdout, /^\{"threadId":"t1".*\}\{"threadId":"t1","runId":"run_.*\}\[\{"id":/, 'a thread, a run, the events so far')

  // The third line may be faster than the agent: asked again until the run has ended, as a reader would.
  const deadline = Date.now() + 10_000
  let events: { type: string }[] = []
  while (events.at(-1)?.type !== 'agent_completed' && Date.now() < deadline) {
    events = await (await fetch(`http://localhost:${project.port}/agent-events/threads/t1/events`)).json() as { type: string }[]
  }
  const shown = JSON.parse(project.code('events')) as object[]
  t.equal(events.length, shown.length)
  t.match(events, shown)

  const client = await project.runModule('client.ts')
  t.equal(client.code, 0, client.stderr)
  t.equal(client.stderr, '')
  t.same(client.stdout.trimEnd().split('\n'), [
    'uses search',
    'Send it back within 30 days.',
    'uses search',
    'It takes two days, by bicycle.',
    '{ found: 1 }'
  ], 'what happened before, then what is asked now')
})

t.test('the plugins one by one', async (t) => {
  const project = await ReaderProject.create(t, readme)
  const { code, stdout, stderr } = await project.runModule('plugins.ts')
  t.equal(code, 0, stderr)
  t.equal(stdout, "Hello world [ 'agent_started', 'assistant_message', 'agent_completed' ]\n")
})
