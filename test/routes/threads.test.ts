import t from 'tap'
import { defineAgent, Type } from '../../index.js'
import { connect, get, post } from '../support/connect.js'
import { newFolder } from '../support/lmdb.js'
import { RedisServer } from '../support/redis-server.js'
import { startApp } from '../support/start-app.js'
import { triage } from '../support/agents.js'

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

t.test('POST /threads: 201, then 200, with or without an id', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  const made = await post(url, '/threads', 'u')
  t.equal(made.status, 201)
  t.match(made.body, { threadId: /^thread_[0-9a-f-]{36}$/, epoch: /^[0-9a-z]{12}$/, head: 0, createdAt: ISO })
  t.same(Object.keys(made.body).sort(), ['createdAt', 'epoch', 'head', 'threadId'])
  const named = await post(url, '/threads', 'u', { threadId: 't1', metadata: { title: 'x', tags: [1] }, agent: 'triage' })
  t.match(named, { status: 201, body: { threadId: 't1', metadata: { title: 'x', tags: [1] }, agent: 'triage' } })
  const again = await post(url, '/threads', 'u', { threadId: 't1', metadata: { title: 'other' } })
  t.same(again, { status: 200, body: named.body }, 'yours already: as it is')
  const foreign = await post(url, '/threads', 'other', { threadId: 't1' })
  t.match(foreign, { status: 404, body: { code: 'FAE_ERR_THREAD_NOT_FOUND' } })
})

t.test('GET /threads: one\'s own, in pages', async (t) => {
  const { url } = await startApp(t)
  for (const threadId of ['b', 'a', 'c']) await post(url, '/threads', 'u', { threadId })
  await post(url, '/threads', 'other', { threadId: 'd' })
  const list = async (query: string) => (await get(url, `/threads${query}`, 'u')).body.threads.map(({ threadId }: { threadId: string }) => threadId)
  t.same(await list(''), ['a', 'b', 'c'])
  t.same(await list('?limit=2'), ['a', 'b'])
  t.same(await list('?limit=2&after=b'), ['c'])
  t.same(await list('?after=c'), [])
  t.same((await get(url, '/threads', 'nobody')).body, { threads: [] })
  for (const [query, field] of [['limit=0', 'limit'], ['limit=1001', 'limit'], ['limit=x', 'limit'], ['after=', 'after']]) {
    t.match(await get(url, `/threads?${query}`, 'u'), { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST', message: new RegExp(`^querystring is invalid at '${field}'`) } })
  }
})

t.test('GET and DELETE /threads/:threadId', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  const { body: made } = await post(url, '/threads', 'u', { threadId: 't1' })
  t.same((await get(url, '/threads/t1', 'u')).body, made)
  const { inbox } = await (await connect(t, url, 'u')).frame('connected')
  t.equal((await get(url, `/threads/${inbox}`, 'u')).status, 200, 'the inbox can be read')
  const remove = (threadId: string, userId: string) => fetch(`${url}/threads/${threadId}`, { method: 'DELETE', headers: { 'x-user-id': userId } })
  t.equal((await remove(inbox, 'u')).status, 404, 'and not be deleted')
  t.equal((await remove('t1', 'other')).status, 404)
  const gone = await remove('t1', 'u')
  t.same([gone.status, await gone.text()], [204, ''])
  t.equal((await get(url, '/threads/t1', 'u')).status, 404)
})

t.test('POST /threads/:threadId/messages: 202 with run and cursor', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  await post(url, '/threads', 'u', { threadId: 't1' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId: 't1' })
  const { status, body } = await post(url, '/threads/t1/messages', 'u', { content: 'ping' })
  t.equal(status, 202)
  t.same(Object.keys(body).sort(), ['cursor', 'runId', 'threadId'])
  t.match(await tab.frame('user_message'), { id: body.cursor, runId: body.runId, threadId: body.threadId, data: { content: 'ping' } })
  t.equal((await tab.frame('agent_completed')).runId, body.runId)
})

t.test('the agent of a message: named, the thread\'s, else the app\'s', async (t) => {
  const agents = ['first', 'second', 'third'].map((name) => defineAgent({ name, description: '', run: () => name }))
  const answers = async (options: object, body: object, thread: object = {}) => {
    const { url } = await startApp(t, { agents, ...options })
    const { body: { threadId } } = await post(url, '/threads', 'u', thread)
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId })
    await post(url, `/threads/${threadId}/messages`, 'u', { content: 'x', ...body })
    return (await tab.frame('agent_completed')).data.result
  }
  t.equal(await answers({}, {}), 'first', 'the first registered')
  t.equal(await answers({ defaultAgent: 'second' }, {}), 'second')
  t.equal(await answers({ defaultAgent: 'second' }, {}, { agent: 'third' }), 'third')
  t.equal(await answers({ defaultAgent: 'second' }, { agent: 'first' }, { agent: 'third' }), 'first')
})

t.test('what is wrong in a body is named', async (t) => {
  const numbers = defineAgent({ name: 'numbers', description: '', inputSchema: Type.Object({ n: Type.Number() }), fromMessage: ({ text }) => ({ n: Number(text) }), run: ({ n }) => n })
  const { url, app } = await startApp(t, { agents: [numbers] })
  await post(url, '/threads', 'u', { threadId: 't1' })
  const bad: Array<[path: string, body: unknown, code: string, message: RegExp]> = [
    ['/threads', { threadId: '' }, 'FAE_ERR_BAD_REQUEST', /^body is invalid at 'threadId': expected at least 1/],
    ['/threads', { thread: 't' }, 'FAE_ERR_BAD_REQUEST', /'thread': unknown field; known: threadId, metadata, agent/],
    ['/threads', { metadata: 'x' }, 'FAE_ERR_BAD_REQUEST', /'metadata': expected an object/],
    ['/threads', [], 'FAE_ERR_BAD_REQUEST', /'\(root\)': expected an object/],
    ['/threads/t1/messages', {}, 'FAE_ERR_BAD_REQUEST', /'content': required: expected content or input/],
    ['/threads/t1/messages', { content: 5 }, 'FAE_ERR_BAD_REQUEST', /'content': expected a string or an array/],
    ['/threads/t1/messages', { content: [{ type: 'text' }] }, 'FAE_ERR_BAD_REQUEST', /'content\.0\.text': required/],
    ['/threads/t1/messages', { content: 'x', agent: 5 }, 'FAE_ERR_BAD_REQUEST', /'agent': expected a string/],
    ['/threads/t1/messages', { content: 'x', clientMessageId: 'y'.repeat(101) }, 'FAE_ERR_BAD_REQUEST', /'clientMessageId': expected at most 100/],
    ['/threads/t1/messages', { content: 'x', contents: 'x' }, 'FAE_ERR_BAD_REQUEST', /'contents': unknown field/],
    ['/threads/t1/messages', { input: { n: 'one' } }, 'FAE_ERR_AGENT_INPUT', /'numbers'.*'n': expected a number, found "one"/],
    ['/threads/t1/messages', { content: 'one' }, 'FAE_ERR_AGENT_INPUT', /'n'/]
  ]
  for (const [path, body, code, message] of bad) {
    t.match(await post(url, path, 'u', body), { status: 400, body: { statusCode: 400, code, error: 'Bad Request', message } }, JSON.stringify(body))
  }
  t.match(await post(url, '/threads/t1/messages', 'u', { content: 'x', agent: 'nobody' }), { status: 404, body: { code: 'FAE_ERR_AGENT_NOT_FOUND', message: /Known agents: numbers/ } })
  t.equal((await app.threads.get('t1'))!.head, 0, 'nothing was stored')
  const ok = await post(url, '/threads/t1/messages', 'u', { input: { n: 1 } })
  t.equal(ok.status, 202)
})

t.test('C4: every door answers for a foreign thread as for one that does not exist', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  await post(url, '/threads', 'owner', { threadId: 'secret' })
  const { body: { runId } } = await post(url, '/threads/secret/messages', 'owner', { content: 'x' })
  const doors = [['GET', ''], ['DELETE', ''], ['GET', '/events'], ['GET', '/events?offset=now'], ['POST', '/messages']] as const
  for (const [method, path] of doors) {
    const ask = async (threadId: string) => {
      const response = await fetch(`${url}/threads/${threadId}${path}`, {
        method,
        headers: { 'x-user-id': 'thief', ...(method === 'POST' && { 'content-type': 'application/json' }) },
        ...(method === 'POST' && { body: '{"content":"x"}' })
      })
      return { status: response.status, body: JSON.stringify(await response.json()).replaceAll(threadId, '…') }
    }
    const foreign = await ask('secret')
    t.same(foreign, await ask('nothing'), `${method} ${path}`)
    t.equal(foreign.status, 404)
    t.match(JSON.parse(foreign.body), { statusCode: 404, code: 'FAE_ERR_THREAD_NOT_FOUND', error: 'Not Found' })
  }
  t.same((await get(url, '/runs', 'thief')).body, { runs: [] })
  t.equal((await post(url, `/runs/${runId}/cancel`, 'thief')).status, 404)
})

for (const name of ['memory', 'lmdb'] as const) {
  t.test(`metadata that no store could write is refused, and nobody else is harmed (${name})`, async (t) => {
    const { url } = await startApp(t, { agents: [triage], ...(name === 'lmdb' && { store: { lmdb: await newFolder(t) } }) })
    const nested = (depth: number): object => JSON.parse(`${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`)
    const deep = (depth: number): string => `{"threadId":"deep","metadata":{"a":${'['.repeat(depth)}${']'.repeat(depth)}}}`
    const send = async (body: string) => {
      const response = await fetch(`${url}/threads`, { method: 'POST', headers: { 'content-type': 'application/json', 'x-user-id': 'u' }, body })
      return { status: response.status, body: await response.json() as { code?: string } }
    }
    const [refused, other] = await Promise.all([send(deep(20_000)), post(url, '/threads', 'other', { threadId: 't2' })])
    t.match(refused, { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST' } })
    t.equal(other.status, 201)
    t.equal((await post(url, '/threads', 'u', { metadata: nested(32) })).status, 201)
    t.match(await post(url, '/threads', 'u', { metadata: nested(33) }), { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST' } })
    t.match(await post(url, '/threads', 'u', { metadata: { a: 'x'.repeat(17_000) } }), { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST' } })
    t.match(await post(url, '/threads', 'u', { agent: 'x'.repeat(65) }), { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST' } })
    t.equal((await get(url, '/threads', 'u')).status, 200)
  })
}

t.test('two users of one thread may have message ids that look alike', async (t) => {
  const { url } = await startApp(t, { agents: [triage], authorize: () => true })
  await post(url, '/threads', 'a', { threadId: 't1' })
  await post(url, '/threads/t1/messages', 'a', { content: 'first', clientMessageId: 'b:1' })
  await post(url, '/threads/t1/messages', 'a:b', { content: 'second', clientMessageId: '1' })
  const { body } = await get(url, '/threads/t1/events', 'a')
  t.same((body as Array<{ type: string, data: { content?: string } }>).filter(({ type }) => type === 'user_message').map(({ data }) => data.content), ['first', 'second'])
})

t.test('a message that is sent again says whether its run has ended, and where', async (t) => {
  const redis = await RedisServer.start(t)
  for (const store of ['memory', { lmdb: await newFolder(t) }, { redis: redis.url }] as const) {
    let end!: () => void
    const ending = new Promise<void>((resolve) => { end = resolve })
    const waiter = defineAgent({ name: 'waiter', description: 'Waits', run: () => ending })
    const { app, url } = await startApp(t, { agents: [waiter], store })
    await post(url, '/threads', 'u', { threadId: 't1' })
    const tab = await connect(t, url, 'u')
    const sent = async (ref: string) => {
      tab.send({ type: 'send', ref, threadId: 't1', content: 'x', clientMessageId: 'm1' })
      const { type, ref: answered, ...accepted } = await tab.frame('accepted', (frame) => frame.ref === ref, 30_000)
      return accepted
    }
    const { status, body: first } = await post(url, '/threads/t1/messages', 'u', { content: 'x', clientMessageId: 'm1' })
    t.match([status, Object.keys(first).sort()], [202, ['cursor', 'runId', 'threadId']])
    t.same(await sent('s1'), first, 'it runs')
    tab.send({ type: 'subscribe', threadId: 't1' })
    end()
    const { id: ended } = await tab.frame('agent_completed', undefined, 30_000)
    const repeated = { ...first, ended }
    t.same((await post(url, '/threads/t1/messages', 'u', { content: 'x', clientMessageId: 'm1' })).body, repeated)
    t.same(await sent('s2'), repeated)
    t.equal((await app.notifier.history('t1', { limit: 100 })).at(-1)!.id, ended)
  }
})
