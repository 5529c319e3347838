import { test, type Test } from 'tap'
import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import { isLocalRequest, isLoopback } from '../../server/authenticate-none.js'
import { readConfig } from '../../server/config.js'
import { buildServer } from '../../server/server.js'

async function server (t: Test, flags: Record<string, string> = {}): Promise<FastifyInstance> {
  const app = await buildServer(readConfig({ LOG_LEVEL: 'silent', STORE: 'memory', ...flags }, {}))
  t.teardown(() => app.close())
  return app
}

test('AUTH=none is refused wherever others could reach it', async (t) => {
  for (const HOST of ['0.0.0.0', '::', '192.168.1.5', 'example.com', '128.0.0.1', '127.evil.com']) {
    await t.rejects(buildServer(readConfig({ HOST, LOG_LEVEL: 'silent' }, {})), { message: /AUTH=none/ }, HOST)
  }
  await t.rejects(buildServer(readConfig({ HOST: '0.0.0.0' }, {})), { message: /HOST 0\.0\.0\.0 .*127\.0\.0\.1, ::1 or localhost.*authenticate/ })
  for (const HOST of ['127.0.0.1', '127.8.8.8', '::1', 'localhost', 'LOCALHOST']) t.ok(await server(t, { HOST }), HOST)
})

test('what counts as loopback', async (t) => {
  for (const host of ['127.0.0.1', '[::1]', 'Localhost']) t.ok(isLoopback(host), host)
  for (const host of ['', '127.0.0.1.evil.com', 'localhost.evil.com', '::', '10.0.0.1']) t.notOk(isLoopback(host), host)
  for (const headers of [{ host: 'localhost:8000' }, { host: '127.0.0.1' }, { host: '[::1]:1' }, { host: 'localhost', origin: 'http://localhost:5173' }]) t.ok(isLocalRequest(headers))
  for (const headers of [{}, { host: 'evil.com' }, { host: 'localhost', origin: 'https://evil.com' }, { host: 'localhost', origin: 'null' }, { host: 'a b' }]) t.notOk(isLocalRequest(headers))
})

test('the user is the header, else the query, else local', async (t) => {
  const app = await server(t)
  const ownerOf = async (options: { headers?: Record<string, string>, query?: string }) => {
    const response = await app.inject({ method: 'POST', url: `/threads${options.query ?? ''}`, headers: options.headers ?? {}, payload: {} })
    if (response.statusCode !== 201) return response.statusCode
    return (await app.threads.find(response.json().threadId))?.record.userId
  }
  t.equal(await ownerOf({}), 'local')
  t.equal(await ownerOf({ query: '?userId=ada' }), 'ada')
  t.equal(await ownerOf({ query: '?userId=%F0%9F%A6%A9' }), '🦩')
  t.equal(await ownerOf({ headers: { 'x-user-id': 'bob' }, query: '?userId=ada' }), 'bob')
  for (const query of ['?userId=', '?userId=a&userId=b', `?userId=${'x'.repeat(101)}`, '?userId=%00']) t.equal(await ownerOf({ query }), 401, query)
  for (const header of ['', 'é', 'x'.repeat(101)]) t.equal(await ownerOf({ headers: { 'x-user-id': header } }), 401, header)
})

test('what is not there is answered in the form of every error', async (t) => {
  const app = await server(t)
  const response = await app.inject('/nowhere?ticket=secret')
  t.equal(response.statusCode, 404)
  t.strictSame(response.json(), { statusCode: 404, code: 'FAE_ERR_NOT_FOUND', error: 'Not Found', message: 'There is nothing at GET /nowhere' })
})

test('pages from elsewhere get nothing, local ones get CORS', async (t) => {
  const app = await server(t)
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const foreign = await fetch(`${address}/debug/websocket/connections`, { headers: { origin: 'https://evil.example' } })
  t.equal(foreign.status, 403)
  t.match(await foreign.json(), { statusCode: 403, code: 'FAE_ERR_FORBIDDEN', error: 'Forbidden' })
  const rebound = await app.inject({ url: '/debug/websocket/connections', headers: { host: 'evil.example:8000' } })
  t.equal(rebound.statusCode, 403)
  const local = await fetch(`${address}/agents`, { headers: { origin: 'http://localhost:5173' } })
  t.equal(local.status, 200)
  t.equal(local.headers.get('access-control-allow-origin'), 'http://localhost:5173')
})

test('a WebSocket that is refused is hung up, so that the server can close', async (t) => {
  const app = await server(t)
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  for (const [path, options, statusCode] of [['/ws', { origin: 'https://evil.example' }, 403], ['/ws?userId=', {}, 401], ['/nowhere', {}, 404]] as const) {
    const socket = new WebSocket(`${address.replace('http', 'ws')}${path}`, options)
    const [, response] = await once(socket, 'unexpected-response')
    t.equal(response.statusCode, statusCode)
    response.resume()
    await once(response, 'close')
  }
  await app.close()
})

test('debug and health endpoints answer without a user', async (t) => {
  const app = await server(t)
  for (const url of ['/debug/websocket/connections', '/debug/websocket/threads', '/debug/websocket/mappings', '/debug/registry', '/health', '/ready', '/metrics', '/openapi.json']) {
    t.equal((await app.inject(url)).statusCode, 200, url)
  }
})

test('the demo agent answers unless the folder brings agents', async (t) => {
  const agentsOf = async (app: FastifyInstance) => (await app.inject('/agents')).json().agents.map(({ name }: { name: string }) => name)
  const toolsOf = async (app: FastifyInstance) => (await app.inject('/tools')).json().tools.map(({ name }: { name: string }) => name).sort()
  t.strictSame(await agentsOf(await server(t)), ['triage'])

  const agent = "import { defineAgent } from 'fastify-agent-events'\nexport default defineAgent({ name: 'hello', description: 'd', async run () {} })"
  t.strictSame(await agentsOf(await server(t, { AGENTS: t.testdir({ 'hello.mjs': agent }) })), ['hello'])

  const tool = "import { defineTool } from 'fastify-agent-events'\nexport default defineTool({ name: 'extra', description: 'd', async execute () {} })"
  const tools = await server(t, { AGENTS: t.testdir({ 'extra.mjs': tool }) })
  t.strictSame(await agentsOf(tools), ['triage'])
  t.strictSame(await toolsOf(tools), ['extra', 'read_section', 'search_docs'])

  const same = t.testdir({ 'one.mjs': agent, 'two.mjs': agent })
  await t.rejects(server(t, { AGENTS: same }), { code: 'FAE_ERR_AGENT_DUPLICATE', message: /'hello'/ })
})
