import { test, type Test } from 'tap'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import { readConfig } from '../../server/config.js'
import { buildServer } from '../../server/server.js'
import { Receiver } from '../support/connect.js'
import { startServer } from './fixtures/processes.js'
import { OPERATOR, SECRET, es256, hs256, inSeconds, keys, otherKeys, pemOf, rs256, unsigned } from './fixtures/tokens.js'

async function server (t: Test, settings: Record<string, string>): Promise<FastifyInstance> {
  const app = await buildServer(readConfig({}, { LOG_LEVEL: 'silent', STORE: 'memory', AUTH: 'jwt', ...settings }))
  t.teardown(() => app.close())
  return app
}

/** Who the server takes the bearer of this for: a user id, or the status of the refusal. */
async function whoIs (app: FastifyInstance, authorization: string | undefined, query = ''): Promise<string | number> {
  const response = await app.inject({ method: 'POST', url: `/threads${query}`, headers: authorization === undefined ? {} : { authorization }, payload: {} })
  return response.statusCode === 201 ? (await app.threads.find(response.json().threadId))!.record.userId : response.statusCode
}

const bearer = (token: string): string => `Bearer ${token}`

async function open (t: Test, address: string, token: string): Promise<Receiver> {
  const receiver = new Receiver(new WebSocket(`${address.replace('http', 'ws')}/ws`, 'agent-events.v1', { headers: { authorization: bearer(token) } }))
  t.teardown(() => { receiver.socket.terminate() })
  await receiver.frame('connected')
  return receiver
}

test('a shared secret: whoever has a token is who it says', async (t) => {
  const app = await server(t, { JWT_SECRET: SECRET })
  t.equal(await whoIs(app, bearer(hs256({ sub: 'ada' }))), 'ada')
  t.equal(await whoIs(app, `bearer ${hs256({ sub: 'bob' })}`), 'bob')
  t.equal(await whoIs(app, undefined), 401)
  t.equal(await whoIs(app, undefined, `?token=${hs256({ sub: 'ada' })}&access_token=${hs256({ sub: 'ada' })}&userId=ada`), 401, 'a query is not looked at')
  for (const [what, authorization] of Object.entries({
    'another secret': bearer(hs256({ sub: 'ada' }, 'another secret of more than thirty-two characters')),
    'no signature': bearer(unsigned({ sub: 'ada' })),
    expired: bearer(hs256({ sub: 'ada', exp: inSeconds(-1) })),
    'not yet': bearer(hs256({ sub: 'ada', nbf: inSeconds(60) })),
    'no user': bearer(hs256({})),
    'an empty user': bearer(hs256({ sub: '' })),
    'a user that is no string': bearer(hs256({ sub: 7 })),
    'no token': 'Bearer ',
    'two tokens': `Bearer ${hs256({ sub: 'ada' })} ${hs256({ sub: 'bob' })}`,
    basic: 'Basic YWRhOmFkYQ==',
    rubbish: 'Bearer a.b.c'
  })) t.equal(await whoIs(app, authorization), 401, what)
})

test('claims: another name for the user, issuer and audience', async (t) => {
  const app = await server(t, { JWT_SECRET: SECRET, JWT_USER_CLAIM: 'email', JWT_ISSUER: 'https://id.example', JWT_AUDIENCE: 'events' })
  const good = { sub: 'x', email: 'ada@example.com', iss: 'https://id.example', aud: ['other', 'events'] }
  t.equal(await whoIs(app, bearer(hs256(good))), 'ada@example.com')
  for (const bad of [{ iss: 'https://evil.example' }, { aud: 'other' }, { email: undefined }, { iss: undefined }, { aud: undefined }]) t.equal(await whoIs(app, bearer(hs256({ ...good, ...bad }))), 401)
})

test('a public key: as PEM, with \\n for line breaks, or as a path', async (t) => {
  const pem = pemOf(keys.publicKey)
  const path = join(t.testdir({ 'key.pem': pem }), 'key.pem')
  for (const JWT_PUBLIC_KEY of [pem, pem.replaceAll('\n', '\\n'), path]) {
    const app = await server(t, { JWT_PUBLIC_KEY })
    t.equal(await whoIs(app, bearer(rs256({ sub: 'ada' }))), 'ada')
    t.equal(await whoIs(app, bearer(es256({ sub: 'ada' }))), 401)
    t.equal(await whoIs(app, bearer(hs256({ sub: 'ada' }, pem))), 401, 'the public key is no shared secret')
    t.equal(await whoIs(app, bearer(unsigned({ sub: 'ada' }))), 401)
  }
})

test('a JWKS file: the key that the token names, also one that came later', async (t) => {
  const jwk = (key: typeof keys.publicKey, more: Record<string, string>) => ({ ...key.export({ format: 'jwk' }), ...more })
  const folder = t.testdir({ 'keys.json': JSON.stringify({ keys: [jwk(keys.publicKey, { kid: 'one', use: 'sig' }), jwk(otherKeys.publicKey, { kid: 'two' }), { kty: 'RSA', use: 'enc', kid: 'enc' }] }) })
  const app = await server(t, { JWT_JWKS: join(folder, 'keys.json') })
  t.equal(await whoIs(app, bearer(rs256({ sub: 'ada' }, { kid: 'one' }))), 'ada')
  t.equal(await whoIs(app, bearer(es256({ sub: 'bob' }, { kid: 'two' }))), 'bob')
  for (const kid of ['two', 'three', 'enc', '__proto__', '']) t.equal(await whoIs(app, bearer(rs256({ sub: 'ada' }, { kid }))), 401, kid)
  t.equal(await whoIs(app, bearer(rs256({ sub: 'ada' }))), 401, 'of two keys none is meant')
  t.equal(await whoIs(app, bearer('rubbish')), 401)

  await writeFile(join(folder, 'one.json'), JSON.stringify({ keys: [jwk(keys.publicKey, { kid: 'one' })] }))
  const single = await server(t, { JWT_JWKS: join(folder, 'one.json') })
  t.equal(await whoIs(single, bearer(rs256({ sub: 'ada' }))), 'ada', 'the only key is meant')
  // The file is looked at again 10 s after it was last read: the clock is moved.
  const { now } = Date
  t.teardown(() => { Date.now = now })
  await writeFile(join(folder, 'one.json'), JSON.stringify({ keys: [jwk(keys.publicKey, { kid: 'one' }), jwk(otherKeys.publicKey, { kid: 'two' })] }))
  t.equal(await whoIs(single, bearer(es256({ sub: 'bob' }, { kid: 'two' }))), 401)
  Date.now = () => now() + 10_001
  t.equal(await whoIs(single, bearer(es256({ sub: 'bob' }, { kid: 'two' }))), 'bob')
  await writeFile(join(folder, 'one.json'), '{ "keys": [')
  Date.now = () => now() + 20_002
  t.equal(await whoIs(single, bearer(es256({ sub: 'bob' }, { kid: 'three' }))), 401)
  t.equal(await whoIs(single, bearer(es256({ sub: 'bob' }, { kid: 'two' }))), 'bob', 'a file that is half written takes nothing away')
})

test('it does not start on settings that cannot be meant', async (t) => {
  const folder = t.testdir({
    'private.pem': pemOf(keys.privateKey),
    'no.pem': 'hello',
    'no.json': '[]',
    'none.json': '{ "keys": [] }',
    'oct.json': JSON.stringify({ keys: [{ kty: 'oct', k: 'AAAA', kid: 'one' }] }),
    'private.json': JSON.stringify({ keys: [{ ...keys.privateKey.export({ format: 'jwk' }), kid: 'one' }] })
  })
  const at = (name: string): string => join(folder, name)
  for (const [settings, message] of [
    [{}, /exactly one of JWT_SECRET, JWT_PUBLIC_KEY/],
    [{ JWT_SECRET: SECRET, JWT_PUBLIC_KEY: 'x' }, /exactly one/],
    [{ JWT_PUBLIC_KEY: at('missing.pem') }, /JWT_PUBLIC_KEY .*missing\.pem cannot be read: ENOENT/],
    [{ JWT_PUBLIC_KEY: at('private.pem') }, /private key/],
    [{ JWT_PUBLIC_KEY: at('no.pem') }, /not a public key in PEM/],
    [{ JWT_JWKS: at('no.json') }, /not a JWKS file/],
    [{ JWT_JWKS: at('none.json') }, /no key for signatures/],
    [{ JWT_JWKS: at('oct.json') }, /symmetric key/],
    [{ JWT_JWKS: at('private.json') }, /private key/],
    [{ AUTH: 'none', JWT_SECRET: SECRET }, /JWT_SECRET is set, but AUTH is none/],
    [{ AUTH: 'none', OPERATOR_TOKEN: OPERATOR }, /OPERATOR_TOKEN is set, but AUTH is none/]
  ] as Array<[Record<string, string>, RegExp]>) await t.rejects(server(t, settings), { message })
  t.ok(await server(t, { JWT_SECRET: SECRET, HOST: '0.0.0.0' }), 'with authentication any host will do')
})

test('the WebSocket takes the header, ends with the token and goes on with a fresh one', async (t) => {
  const app = await server(t, { JWT_SECRET: SECRET })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const refused = new WebSocket(`${address.replace('http', 'ws')}/ws?token=${hs256({ sub: 'ada' })}`)
  const [, response] = await once(refused, 'unexpected-response')
  t.equal(response.statusCode, 401)
  response.resume()

  const left = await open(t, address, hs256({ sub: 'ada', exp: inSeconds(2) }))
  const stays = await open(t, address, hs256({ sub: 'ada', exp: inSeconds(2) }))
  t.match(stays.frames[0], { type: 'connected', userId: 'ada' })
  stays.send({ type: 'refresh', ref: 'r1', token: hs256({ sub: 'bob' }) })
  t.match(await stays.frame('error', ({ ref }) => ref === 'r1'), { code: 'FAE_ERR_UNAUTHENTICATED' }, 'another user\'s token')
  stays.send({ type: 'refresh', ref: 'r2', token: 'rubbish' })
  t.match(await stays.frame('error', ({ ref }) => ref === 'r2'), { code: 'FAE_ERR_UNAUTHENTICATED' })
  stays.send({ type: 'refresh', ref: 'r3', token: hs256({ sub: 'ada' }) })
  t.equal(await left.closed(), 4401)
  const { threadId } = await app.threads.register({ userId: 'ada' })
  stays.send({ type: 'subscribe', ref: 's', threadId })
  t.ok(await stays.frame('subscribed', ({ ref }) => ref === 's'))
  t.equal(stays.closeCode, undefined)
})

test('operators see with their token what others do not', async (t) => {
  const closed = await server(t, { JWT_SECRET: SECRET })
  const app = await server(t, { JWT_SECRET: SECRET, OPERATOR_TOKEN: OPERATOR })
  const status = async (on: FastifyInstance, url: string, token?: string) => (await on.inject({ url, headers: token === undefined ? {} : { authorization: bearer(token) } })).statusCode
  for (const url of ['/debug/websocket/connections', '/debug/registry', '/metrics']) {
    t.equal(await status(closed, url, OPERATOR), 404, `${url} without an operator`)
    t.equal(await status(app, url), 403)
    t.equal(await status(app, url, hs256({ sub: 'ada' })), 403)
    t.equal(await status(app, url, `${OPERATOR}x`), 403)
    t.equal(await status(app, url, OPERATOR), 200)
  }
  const metrics = (await app.inject({ url: '/metrics', headers: { authorization: bearer(OPERATOR) } })).body
  for (const name of ['agent_events_connections', 'process_resident_memory_bytes']) t.match(metrics, name)
  t.equal(await status(app, '/threads', OPERATOR), 401, 'an operator is no user')
  for (const url of ['/health', '/ready', '/openapi.json', '/asyncapi.json']) t.equal(await status(closed, url), 200)
})

test('pages that are listed get CORS and a WebSocket, others neither', async (t) => {
  const app = await server(t, { JWT_SECRET: SECRET, CORS_ORIGINS: 'https://app.example, https://other.example' })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const preflight = await app.inject({ method: 'OPTIONS', url: '/threads', headers: { origin: 'https://other.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' } })
  t.match(preflight.headers, { 'access-control-allow-origin': 'https://other.example', 'access-control-allow-headers': 'authorization' })
  t.notOk((await app.inject({ url: '/threads', headers: { origin: 'https://evil.example' } })).headers['access-control-allow-origin'])
  const upgrade = async (origin: string): Promise<number> => {
    const socket = new WebSocket(`${address.replace('http', 'ws')}/ws`, { origin, headers: { authorization: bearer(hs256({ sub: 'ada' })) } })
    t.teardown(() => { socket.terminate() })
    return Promise.race([once(socket, 'open').then(() => 101), once(socket, 'unexpected-response').then(([, response]) => { response.resume(); return response.statusCode })])
  }
  t.equal(await upgrade('https://app.example'), 101)
  t.equal(await upgrade('https://evil.example'), 403)
})

test('headers that keep browsers safe; too many requests and upgrades from one address are refused', async (t) => {
  const app = await server(t, { JWT_SECRET: SECRET, RATE_LIMIT: '3', TRUST_PROXY: 'loopback' })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  const from = (ip: string, path = '/agents') => fetch(address + path, { headers: { 'x-forwarded-for': ip } })
  const first = await from('192.0.2.1')
  t.equal(first.status, 401, 'refused ones count too')
  t.equal(first.headers.get('x-content-type-options'), 'nosniff')
  t.equal(first.headers.get('x-ratelimit-remaining'), '2')
  await from('192.0.2.1', '/nowhere')
  await from('192.0.2.1')
  const fourth = await from('192.0.2.1')
  t.equal(fourth.status, 429)
  t.match(await fourth.json(), { statusCode: 429, code: 'FAE_ERR_RATE_LIMIT', error: 'Too Many Requests', message: /3 requests a minute/ })
  t.ok(Number(fourth.headers.get('retry-after')) > 0)
  t.match(await (await from('192.0.2.1', '/nowhere')).json(), { statusCode: 429, code: 'FAE_ERR_RATE_LIMIT' })
  const socket = new WebSocket(`${address.replace('http', 'ws')}/ws`, { headers: { authorization: bearer(hs256({ sub: 'ada' })), 'x-forwarded-for': '192.0.2.1' } })
  const [, response] = await once(socket, 'unexpected-response')
  t.equal(response.statusCode, 429, 'an upgrade')
  response.resume()
  t.equal((await from('192.0.2.1', '/health')).status, 200, 'supervisors are always answered')
  t.equal((await from('192.0.2.2')).status, 401, 'another address')
})

test('a server that cannot keep up says so, but not to supervisors', async (t) => {
  const app = await server(t, { JWT_SECRET: SECRET, MAX_EVENT_LOOP_DELAY: '5' })
  const busy = setInterval(() => { for (const until = Date.now() + 60; Date.now() < until;); }, 1)
  t.teardown(() => { clearInterval(busy) })
  let answer = await app.inject('/agents')
  for (const deadline = Date.now() + 20_000; answer.statusCode !== 503 && Date.now() < deadline;) {
    await new Promise((resolve) => { setImmediate(resolve) })
    answer = await app.inject('/agents')
  }
  t.match(answer.json(), { statusCode: 503, code: 'FAE_ERR_BUSY', error: 'Service Unavailable' })
  t.equal((await app.inject('/health')).statusCode, 200)
})

test('the log of a full run contains no token', async (t) => {
  const running = await startServer(t, ['serve'], { LOG_LEVEL: 'trace', AUTH: 'jwt', JWT_SECRET: SECRET, OPERATOR_TOKEN: OPERATOR })
  const tokens = { first: hs256({ sub: 'ada', jti: 'first' }), fresh: hs256({ sub: 'ada', jti: 'fresh' }), query: hs256({ sub: 'ada', jti: 'query' }), expired: hs256({ sub: 'ada', exp: 1 }), wrong: hs256({ sub: 'ada' }, 'x'.repeat(40)) }
  const ask = (path: string, token: string) => fetch(running.url + path, { headers: { authorization: bearer(token), cookie: `session=${tokens.first}` } })
  for (const token of [...Object.values(tokens), 'rubbish.rubbish.rubbish']) await (await ask('/threads', token)).text()
  await (await ask(`/threads?token=${tokens.query}&userId=very-secret`, tokens.first)).text()
  await (await ask(`/nowhere?token=${tokens.query}`, tokens.first)).text()
  t.equal((await ask('/debug/registry', OPERATOR)).status, 200)
  const tab = await open(t, running.url, tokens.first)
  tab.send({ type: 'refresh', token: tokens.fresh })
  tab.send({ type: 'refresh', token: tokens.wrong })
  tab.send({ type: 'refresh', token: 7, again: tokens.fresh })
  const created = await fetch(`${running.url}/threads`, { method: 'POST', headers: { authorization: bearer(tokens.first), 'content-type': 'application/json' }, body: '{}' })
  const { threadId } = await created.json() as { threadId: string }
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  tab.send({ type: 'send', ref: 'm', threadId, content: 'How do I resume?' })
  await tab.frame('agent_completed')
  t.equal(await running.stop(), 0)
  const log = JSON.stringify(running.logs())
  t.match(log, /message routed/, 'it was a full run, at the finest level')
  t.match(log, /token refused/)
  for (const secret of [...Object.values(tokens), SECRET, OPERATOR, 'very-secret', 'Bearer']) {
    t.notOk(log.includes(secret), `not ${secret.slice(0, 20)}…`)
    // Nor the part of a token that makes it one.
    if (secret.includes('.')) t.notOk(log.includes(secret.slice(secret.lastIndexOf('.') + 1)))
  }
})
