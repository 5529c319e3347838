import t from 'tap'
import Fastify from 'fastify'
import { once } from 'node:events'
import { WebSocket } from 'ws'
import agentEvents, { routes, threadRegistry, toolDispatcher, websocketNotifier, agentRegistry } from '../../index.js'
import { startApp } from '../support/start-app.js'
import { triage } from '../support/agents.js'

const DOORS = [
  ['POST', '/threads'], ['GET', '/threads'], ['GET', '/threads/t1'], ['DELETE', '/threads/t1'], ['POST', '/threads/t1/messages'], ['GET', '/threads/t1/events'],
  ['GET', '/runs'], ['POST', '/runs/run_1/cancel'], ['GET', '/agents'], ['GET', '/tools'], ['GET', '/ws']
] as const

const ANSWER = { statusCode: 401, code: 'FAE_ERR_UNAUTHENTICATED', error: 'Unauthorized', message: 'Not authenticated' }

/** How the server refuses an upgrade. */
async function upgrade (url: string): Promise<{ status: number, body: unknown }> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`)
  socket.on('error', () => {})
  const [, response] = await once(socket, 'unexpected-response')
  let text = ''
  for await (const chunk of response) text += String(chunk)
  return { status: response.statusCode, body: JSON.parse(text) }
}

const nobody: Array<[how: string, authenticate: () => any]> = [
  ['returns null', async () => null],
  ['returns undefined', async () => undefined],
  ['rejects', async () => { throw new Error('the secret reason') }],
  ['throws', () => { throw new Error('the secret reason') }],
  ['throws something with a status of its own', () => { throw Object.assign(new Error('the secret reason'), { statusCode: 500 }) }]
]

for (const [how, authenticate] of nobody) {
  t.test(`every door answers 401 when authenticate ${how}`, async (t) => {
    const { url } = await startApp(t, { agents: [triage], authenticate })
    for (const [method, path] of DOORS) {
      const response = await fetch(url + path, { method })
      t.same([response.status, await response.json()], [401, ANSWER], `${method} ${path}`)
    }
    t.same(await upgrade(url), { status: 401, body: ANSWER }, 'the upgrade too, before it happens')
  })
}

t.test('a user without a usable id is refused', async (t) => {
  for (const user of [{}, { userId: '' }, { userId: 5 }, { userId: 'a\nb' }, { userId: 'x'.repeat(101) }]) {
    const { url } = await startApp(t, { authenticate: async () => user as never })
    const response = await fetch(`${url}/threads`)
    t.equal(response.status, 400)
    t.match(await response.json(), { code: 'FAE_ERR_USER_ID_INVALID' }, JSON.stringify(user))
    t.match(await upgrade(url), { status: 400, body: { code: 'FAE_ERR_USER_ID_INVALID' } })
  }
})

t.test('a missing authenticate fails at boot with the lines to paste', async (t) => {
  const refused = { code: 'FAE_ERR_AUTHENTICATE_MISSING', message: /'authenticate' is required[^]*authenticate: async \(request\) => \(\{ userId: [^]*401/ }
  const app = Fastify()
  await t.rejects(async () => { await app.register(agentEvents, {} as never) }, refused)
  const parts = Fastify()
  for (const plugin of [threadRegistry, websocketNotifier, toolDispatcher, agentRegistry]) await parts.register(plugin)
  await t.rejects(async () => { await parts.register(routes, {} as never) }, refused)
  await parts.close()
  for (const authenticate of [true, 'user', {}]) {
    await t.rejects(startApp(t, { authenticate: authenticate as never }), { code: 'FAE_ERR_OPTION_INVALID', message: /'authenticate'.*a function/ })
  }
})

t.test('authenticate gets the request', async (t) => {
  const { url } = await startApp(t, { authenticate: (request) => request.headers.authorization === 'Bearer x' ? { userId: 'u' } : null })
  t.equal((await fetch(`${url}/threads`, { headers: { authorization: 'Bearer x' } })).status, 200)
  t.equal((await fetch(`${url}/threads`, { headers: { authorization: 'Bearer y' } })).status, 401)
})
