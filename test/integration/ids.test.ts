import t from 'tap'
import { connect, get, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { triage, TRIAGE_EVENTS } from '../support/agents.js'

/** The run id that was once taken for a thread id, and its thread. */
const FAILING = 'thread_13679e4dcc38403a_run_1756919162904_9adf1f09'

const IDS = [
  'thread_13679e4dcc38403a', FAILING, '1', 'a/b/c', '/', 'a b', ' ', '100%', '%2F', 'ключ', '会話 🧵', 'a?b=c#d', 'a\\b', '"quoted"', '__proto__', 'constructor',
  '-1', 'now', 'null', '{"a":1}', '_run_', 'x_run_y_run_z', '../..', 'x'.repeat(100), '日'.repeat(100), 'inbox_mine'
]

t.test('C1: thread ids of any format, over HTTP and WebSocket', async (t) => {
  const { app, url } = await startApp(t, { agents: [triage] })
  const tab = await connect(t, url, 'u')
  for (const threadId of IDS) {
    const path = `/threads/${encodeURIComponent(threadId)}`
    const { status, body } = await post(url, '/threads', 'u', { threadId })
    t.equal(status, 201, `registers ${JSON.stringify(threadId)}`)
    t.equal(body.threadId, threadId)
    t.equal((await post(url, '/threads', 'u', { threadId })).status, 200, 'and again')
    tab.send({ type: 'subscribe', threadId })
    await tab.frame('subscribed', (frame) => frame.threadId === threadId)
    const sent = await post(url, `${path}/messages`, 'u', { content: 'ping' })
    t.equal(sent.status, 202)
    const completed = await tab.frame('agent_completed', (event) => event.threadId === threadId)
    t.equal(completed.runId, sent.body.runId)
    t.same(tab.events(threadId).map(({ type }) => type), ['user_message', ...TRIAGE_EVENTS])
    t.equal(await app.threads.resolveRun(sent.body.runId), threadId)
    t.equal((await get(url, path, 'u')).body.head, 7)
    t.same((await get(url, `${path}/events`, 'u')).body, tab.events(threadId), 'HTTP and WebSocket read one log')
    t.equal((await get(url, path, 'other')).status, 404)
    t.equal((await post(url, '/threads', 'other', { threadId })).status, 404, 'nobody else can claim it')
  }
  t.same((await get(url, '/threads?limit=1000', 'u')).body.threads.map(({ threadId }: { threadId: string }) => threadId), [...IDS].sort())
})

t.test('C1: a run id is a run id, also where it looks like a thread id', async (t) => {
  const { app, url } = await startApp(t, { agents: [triage] })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', ref: '1', threadId: FAILING })
  t.match(await tab.frame('error', ({ ref }) => ref === '1'), { code: 'FAE_ERR_THREAD_NOT_FOUND', message: new RegExp(FAILING) })
  await t.rejects(app.notifier.sendToThread(FAILING, { type: 'user_message', data: { content: 'x' } }), { code: 'FAE_ERR_THREAD_NOT_FOUND' }, 'an unknown id is a loud error')
  await t.rejects(app.threads.resolveRun(FAILING), { code: 'FAE_ERR_RUN_NOT_FOUND' })
  t.equal((await post(url, `/runs/${FAILING}/cancel`, 'u')).body.code, 'FAE_ERR_RUN_NOT_FOUND')

  const threadId = 'thread_13679e4dcc38403a'
  await app.threads.register({ userId: 'u', threadId })
  t.equal(await app.threads.resolveRun(FAILING), threadId, 'minted elsewhere: resolved by its prefix once that thread is registered')
  tab.send({ type: 'subscribe', ref: '2', threadId: FAILING })
  t.match(await tab.frame('error', ({ ref }) => ref === '2'), { code: 'FAE_ERR_THREAD_NOT_FOUND' }, 'still no thread')
  await app.threads.register({ userId: 'u', threadId: 'a_run_b' })
  t.equal(await app.threads.resolveRun('a_run_b_run_c'), 'a_run_b', 'the longest registered prefix')
  await t.rejects(app.threads.resolveRun('_run_x'), { code: 'FAE_ERR_RUN_NOT_FOUND' })
})

t.test('user ids of many formats', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  for (const userId of ['a:b:c', 'ключ', 'auth0|5f', 'x@y.z', '__proto__', 'y'.repeat(100)]) {
    const tab = await connect(t, url, userId)
    const { inbox } = await tab.frame('connected', (frame) => frame.userId === userId)
    tab.send({ type: 'subscribe', threadId: inbox })
    tab.send({ type: 'send', ref: '1', threadId: inbox, content: 'ping' })
    t.ok((await tab.frame('agent_completed')).agentId!.startsWith(`${userId}:triage:`))
  }
})

t.test('refused ids say what an id is', async (t) => {
  const { app, url } = await startApp(t)
  const tab = await connect(t, url, 'u')
  for (const threadId of ['x'.repeat(101), 'a\nb', '\u0000', 'lone \ud800', '\u007f']) {
    const { status, body } = await post(url, '/threads', 'u', { threadId })
    t.equal(status, 400)
    t.match(body, { statusCode: 400, code: 'FAE_ERR_THREAD_ID_INVALID', error: 'Bad Request', message: /1 to 100 characters/ })
    await t.rejects(app.threads.register({ userId: 'u', threadId }), { code: 'FAE_ERR_THREAD_ID_INVALID' })
    await t.rejects(app.threads.register({ userId: threadId }), { code: 'FAE_ERR_USER_ID_INVALID' })
    tab.send({ type: 'subscribe', ref: threadId.slice(0, 1), threadId })
    await tab.frame('error', ({ ref, code }) => ref === threadId.slice(0, 1) && code === 'FAE_ERR_THREAD_NOT_FOUND')
  }
  t.match((await post(url, '/threads', 'u', { threadId: '' })).body, { code: 'FAE_ERR_BAD_REQUEST', message: /threadId/ })
  t.match((await post(url, '/threads', 'u', { threadId: 5 })).body, { code: 'FAE_ERR_BAD_REQUEST', message: /threadId.*a string/ })
  t.match((await get(url, '/threads', 'v'.repeat(101))).body, { statusCode: 400, code: 'FAE_ERR_USER_ID_INVALID' })
  t.equal((await get(url, `/threads/${'x'.repeat(101)}`, 'u')).status, 414, 'the host\'s own limit for path parameters')
})

t.test('256 characters where the host allows them', async (t) => {
  const { url } = await startApp(t, { agents: [triage], maxIdLength: 256 }, { routerOptions: { maxParamLength: 256 } })
  for (const threadId of ['x'.repeat(256), '🧵'.repeat(128)]) {
    t.equal((await post(url, '/threads', 'u', { threadId })).status, 201)
    const path = `/threads/${encodeURIComponent(threadId)}`
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId })
    t.equal((await post(url, `${path}/messages`, 'u', { content: 'ping' })).status, 202)
    await tab.frame('agent_completed')
    t.equal((await get(url, `${path}/events`, 'u')).body.length, 7)
  }
  t.match((await post(url, '/threads', 'u', { threadId: 'x'.repeat(257) })).body, { code: 'FAE_ERR_THREAD_ID_INVALID', message: /1 to 256/ })
})

t.test('a maxIdLength that the host\'s router would refuse fails at boot', async (t) => {
  const refused = { code: 'FAE_ERR_OPTION_INVALID', message: /maxIdLength.*maxParamLength/s }
  await t.rejects(startApp(t, { maxIdLength: 101 }), refused)
  await t.rejects(startApp(t, { maxIdLength: 256 }, { routerOptions: { maxParamLength: 255 } }), refused)
  await t.rejects(startApp(t, {}, { routerOptions: { maxParamLength: 50 } }), refused, 'also the default')
  await startApp(t, { maxIdLength: 50 }, { routerOptions: { maxParamLength: 50 } })
  for (const maxIdLength of [0, -1, 1.5, '5' as never]) await t.rejects(startApp(t, { maxIdLength }), { code: 'FAE_ERR_OPTION_INVALID', message: /maxIdLength/ })
})
