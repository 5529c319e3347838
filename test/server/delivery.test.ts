import { test } from 'tap'
import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { runDelivery, startServer } from './fixtures/processes.js'

const inOrder = /agent_started[^]*agent_thinking[^]*tool_executing[^]*tool_completed[^]*agent_completed/

test('a question and a ping come back with all five events', async (t) => {
  const server = await startServer(t)
  for (const message of ['How do I resume after a reconnect?', 'ping', 'zxqv']) {
    const { code, stdout, stderr } = await runDelivery(t, ['--url', server.url, '--user-id', 'test', '--message', message])
    t.equal(code, 0, stderr + stdout)
    t.match(stdout, inOrder)
    t.match(stdout, /\n +1 {2}user_message +\d+\.\d ms/)
    t.match(stdout, /\nOK: /)
  }
  const flamingo = await runDelivery(t, ['--url', `${server.url}/`, '--user-id', '🦩', '--message', 'ping'])
  t.equal(flamingo.code, 0, flamingo.stderr)
})

test('a thread by its id is registered, and its past is not printed again', async (t) => {
  const server = await startServer(t)
  const args = ['--url', server.url, '--message', 'ping', '--agent', 'triage', '--thread-id', 'thread_13679e4dcc38403a_run_1756919162904_9adf1f09']
  const first = await runDelivery(t, args)
  t.equal(first.code, 0, first.stderr)
  const second = await runDelivery(t, args)
  t.equal(second.code, 0, second.stderr)
  t.equal(second.stdout.match(/^ +\d+ {2}user_message/gm)?.length, 1)
  t.notMatch(second.stdout, /\n +1 {2}user_message/)
})

test('what is missing is named', async (t) => {
  const agent = (name: string, body: string) => `
    import { defineAgent, defineTool, Type } from 'fastify-agent-events'
    const tool = defineTool({ name: '${name}_tool', description: 'd', async execute () {} })
    export default defineAgent({ name: '${name}', description: 'd', tools: [tool], async run (input, ctx) { ${body} } })`
  const folder = t.testdir({
    'mute.mjs': agent('mute', 'await ctx.tools.mute_tool({})'),
    'hasty.mjs': agent('hasty', "await ctx.tools.hasty_tool({}); await ctx.think('too late')"),
    'failing.mjs': agent('failing', "await ctx.think('…'); await ctx.tools.failing_tool({}); throw new Error('no luck')"),
    'endless.mjs': agent('endless', "await ctx.think('…'); await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve))")
  })
  const server = await startServer(t, ['--agents', folder])
  for (const [name, message] of [
    ['mute', /FAILED: missing: agent_thinking\n/],
    ['hasty', /FAILED: out of order: tool_executing came before agent_thinking\n/],
    ['failing', /FAILED: the run ended with error: .*no luck/],
    ['endless', /FAILED: the run did not end within 1500 ms; missing: tool_executing, tool_completed, agent_completed\n/],
    ['nobody', /FAILED: the server answered FAE_ERR_AGENT_NOT_FOUND: /]
  ] as const) {
    const { code, stderr } = await runDelivery(t, ['--url', server.url, '--message', 'x', '--agent', name, '--timeout', '1500'])
    t.equal(code, 1, name)
    t.match(stderr, message)
  }
})

test('a thread of somebody else is refused', async (t) => {
  const server = await startServer(t)
  await runDelivery(t, ['--url', server.url, '--user-id', 'ada', '--thread-id', 'private', '--message', 'x'])
  const { code, stderr } = await runDelivery(t, ['--url', server.url, '--user-id', 'bob', '--thread-id', 'private', '--message', 'x'])
  t.equal(code, 1)
  t.match(stderr, /FAILED: POST \/threads answered 4\d\d/)
})

test('nobody listening, or somebody else, is said plainly', async (t) => {
  const other = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  const strange = await runDelivery(t, ['--url', `http://127.0.0.1:${port}`, '--message', 'x', '--timeout', '2000'])
  t.equal(strange.code, 1)
  t.match(strange.stderr, /FAILED: .* cannot be reached/)
  await new Promise((resolve) => other.close(resolve))
  const nobody = await runDelivery(t, ['--url', `http://127.0.0.1:${port}`, '--message', 'x'])
  t.equal(nobody.code, 1)
  t.match(nobody.stderr, /FAILED: nobody listens at http:\/\/127\.0\.0\.1:\d+; start the server with npm start/)
})

test('wrong flags show the usage and exit with 2', async (t) => {
  for (const args of [[], ['--message', ''], ['--message', 'x', '--timeout', 'soon'], ['--message', 'x', '--url', 'ws://x'], ['--massage', 'x']]) {
    const { code, stderr } = await runDelivery(t, args)
    t.equal(code, 2, args.join(' '))
    t.match(stderr, /Usage: npm run delivery/)
  }
})
