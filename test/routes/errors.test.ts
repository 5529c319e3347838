import t, { type Test } from 'tap'
import Fastify from 'fastify'
import agentEvents, { defineAgent, MemoryStore } from '../../index.js'
import { startApp } from '../support/start-app.js'

const headers = { 'x-user-id': 'u', 'content-type': 'application/json' }

/** The one shape of every error. */
async function errorOf (t: Test, response: Response): Promise<{ statusCode: number, code: string, error: string, message: string }> {
  const body = await response.json() as Record<string, unknown>
  t.same(Object.keys(body).sort(), ['code', 'error', 'message', 'statusCode'])
  t.equal(body.statusCode, response.status)
  t.match(response.headers.get('content-type'), /^application\/json/)
  return body as never
}

t.test('an error has one shape, whoever found it', async (t) => {
  const { url } = await startApp(t, { agents: [defineAgent({ name: 'a', description: '', run () {} })] })
  const post = (path: string, body: string, more: object = {}) => fetch(url + path, { method: 'POST', headers: { ...headers, ...more }, body })
  await post('/threads', '{"threadId":"t1"}')
  t.match(await errorOf(t, await post('/threads', '{"threadId":')), { statusCode: 400, error: 'Bad Request', code: /^F(ST|AE)_ERR_/ }, 'malformed JSON')
  t.match(await errorOf(t, await post('/threads', '')), { statusCode: 400, code: /^F(ST|AE)_ERR_/ }, 'an empty body')
  t.match(await errorOf(t, await post('/threads', 'null')), { statusCode: 400, code: 'FAE_ERR_BAD_REQUEST', message: /body is invalid at '\(root\)'/ })
  t.match(await errorOf(t, await post('/threads', '{"__proto__":{"x":1}}')), { statusCode: 400 })
  t.match(await errorOf(t, await post('/threads', 'a=b', { 'content-type': 'application/x-www-form-urlencoded' })), { statusCode: 415, error: 'Unsupported Media Type' })
  t.match(await errorOf(t, await post('/threads', JSON.stringify({ metadata: { x: 'y'.repeat(2_000_000) } }))), { statusCode: 413, error: 'Payload Too Large' })
  t.match(await errorOf(t, await fetch(`${url}/threads/nothing`, { headers })), { statusCode: 404, code: 'FAE_ERR_THREAD_NOT_FOUND' })
  t.match(await errorOf(t, await fetch(`${url}/threads`)), { statusCode: 401, code: 'FAE_ERR_UNAUTHENTICATED' })
  t.match(await errorOf(t, await post('/threads/t1/messages', '{"content":"x","agent":"b"}')), { statusCode: 404, code: 'FAE_ERR_AGENT_NOT_FOUND' })
  t.match(await errorOf(t, await post('/threads/t1/messages', JSON.stringify({ content: 'x'.repeat(200_000) }))), { statusCode: 413, code: 'FAE_ERR_EVENT_TOO_LARGE' })
})

t.test('what is not ours to tell is not told', async (t) => {
  const store = new MemoryStore()
  await store.open()
  const { url, app } = await startApp(t, { store, agents: [defineAgent({ name: 'a', description: '', fromMessage () { throw new Error('the secret reason') }, run () {} })] })
  await app.threads.register({ userId: 'u', threadId: 't1' })
  const failed = await fetch(`${url}/threads/t1/messages`, { method: 'POST', headers, body: '{"content":"x"}' })
  t.match(await errorOf(t, failed), { statusCode: 500, code: 'FAE_ERR_INTERNAL', error: 'Internal Server Error', message: 'Internal error' })
  await store.close()
  t.match(await errorOf(t, await fetch(`${url}/threads`, { headers })), { statusCode: 503, code: 'FAE_ERR_STORE_CLOSED', error: 'Service Unavailable' })
})

t.test('the host\'s own error handler, serializer and validator change nothing here, and ours nothing there', async (t) => {
  const app = Fastify({ ajv: { customOptions: { removeAdditional: 'all', coerceTypes: true } } })
  t.teardown(() => app.close())
  app.setErrorHandler((_error, _request, reply) => { reply.code(418).send('teapot') })
  app.setSerializerCompiler(() => () => '"host"')
  await app.register(agentEvents, { authenticate: async () => ({ userId: 'u' }) })
  app.post('/host', { schema: { body: { type: 'object', properties: { n: { type: 'number' } } } } }, async (request) => request.body)
  app.get('/fails', async () => { throw new Error('x') })
  const ask = (url: string, body: object) => app.inject({ method: 'POST', url, payload: body })
  t.match((await ask('/agent-events/threads', { threadId: 5 })).json(), { statusCode: 400, code: 'FAE_ERR_BAD_REQUEST', message: /'threadId'.*a string/ }, 'nothing is coerced')
  t.match((await ask('/agent-events/threads', { threadIdd: 'x' })).json(), { message: /'threadIdd': unknown field/ }, 'nothing is removed')
  t.match((await ask('/agent-events/threads', { threadId: 't1' })).json(), { threadId: 't1', head: 0 })
  t.same((await ask('/host', { n: '5', more: 1 })).json(), { n: 5 })
  t.equal((await app.inject('/fails')).statusCode, 418)
})
