import { test } from 'tap'
import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { run, runServer, startServer } from './fixtures/processes.js'

test('--help and --version', async (t) => {
  const help = await runServer(t, ['--help'])
  t.equal(help.code, 0)
  t.match(help.stdout, /Usage: fastify-agent-events-server/)
  const version = await runServer(t, ['--version'])
  t.equal(version.code, 0)
  t.match(version.stdout, /^\d+\.\d+\.\d+\n$/)
})

test('a command line that is wrong shows the usage and exits with 2', async (t) => {
  for (const args of [['fly'], ['--prot', '1'], ['--port']]) {
    const { code, stderr } = await runServer(t, args)
    t.equal(code, 2, args.join(' '))
    t.match(stderr, /Usage: /)
  }
})

test('a setting that is wrong is one line and exits with 1', async (t) => {
  const environment = await runServer(t, [], { PORT: 'abc' })
  t.strictSame([environment.code, environment.stderr], [1, 'PORT must be integer; it is "abc"\n'])
  const open = await runServer(t, ['--host', '0.0.0.0'])
  t.equal(open.code, 1)
  t.match(open.stderr, /^HOST 0\.0\.0\.0 with AUTH=none .*\n$/)
  const duplicate = "import { defineAgent } from 'fastify-agent-events'\nexport default defineAgent({ name: 'same', description: 'd', run () {} })"
  const agents = await runServer(t, ['--agents', t.testdir({ 'a.mjs': duplicate, 'b.mjs': duplicate })])
  t.equal(agents.code, 1)
  t.match(agents.stderr, /^FAE_ERR_AGENT_DUPLICATE: .*'same'/)
})

test('a port that is in use is said in one line', async (t) => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  t.teardown(() => other.close())
  const { port } = other.address() as AddressInfo
  const { code, stderr } = await runServer(t, ['--port', String(port)])
  t.strictSame([code, stderr], [1, `PORT ${port} on 127.0.0.1 is in use. Choose another with --port or PORT.\n`])
})

test('TypeScript agents load where something strips their types, else the remedy is named', async (t) => {
  const folder = t.testdir({ 'typed.ts': "export default { name: 'typed' as string, description: 'd', inputSchema: { type: 'object' }, async run () {} }" })
  const load = "import { loadAgents } from './server/dist/load-agents.js'\ntry { console.log((await loadAgents(process.argv[1])).agents[0].name) } catch (error) { console.log(error.message) }"
  const plain = await run(t, ['--input-type=module', '--eval', load, folder])
  if ('typescript' in process.features && process.features.typescript !== false) t.equal(plain.stdout, 'typed\n')
  else t.match(plain.stdout, /typed\.ts is TypeScript, which Node \S+ does not load\. Compile it .* Node 22\.18/)
  const stripped = await run(t, ['--import', 'tsx', '--input-type=module', '--eval', load, folder])
  t.equal(stripped.stdout, 'typed\n', stripped.stderr)
})

test('it says where it listens and how, keeps queries out of the log, and ends cleanly on a signal', async (t) => {
  const server = await startServer(t, ['serve'], { LOG_LEVEL: 'info' })
  t.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/)
  t.match(server.logs().find(({ store }) => store !== undefined), { store: 'memory: nothing is kept when the process ends', auth: 'none', msg: /events in memory: nothing is kept.*AUTH=none/ })
  const response = await fetch(`${server.url}/debug/websocket/connections?userId=very-secret`)
  t.equal(response.status, 200)
  await response.arrayBuffer()
  t.equal(await server.stop(), 0)
  t.ok(server.logs().some(({ req }) => (req as { url?: string } | undefined)?.url === '/debug/websocket/connections'))
  t.notMatch(JSON.stringify(server.logs()), /very-secret/)
})
