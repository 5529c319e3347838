import t from 'tap'
import { defineAgent } from '../../index.js'
import { connect, get, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { triage } from '../support/agents.js'

const PATHS = ['/debug/websocket/connections', '/debug/websocket/threads', '/debug/websocket/mappings', '/debug/registry']

t.test('D4: off by default, for everybody', async (t) => {
  for (const options of [{}, { debug: false as const }]) {
    const { url } = await startApp(t, options)
    for (const path of PATHS) t.equal((await get(url, path, 'u')).status, 404, path)
  }
})

t.test('D4: a function decides for each request', async (t) => {
  const { url } = await startApp(t, { debug: async (request) => request.headers['x-operator'] === 'yes' })
  for (const path of PATHS) {
    t.match(await get(url, path, 'u'), { status: 403, body: { statusCode: 403, code: 'FAE_ERR_FORBIDDEN', error: 'Forbidden', message: 'Not allowed' } }, path)
    t.equal((await fetch(url + path, { headers: { 'x-operator': 'yes' } })).status, 200)
  }
  const truthy = await startApp(t, { debug: (() => 'yes') as never })
  t.equal((await get(truthy.url, PATHS[0]!, 'u')).status, 403, 'only true is yes')
  const failing = await startApp(t, { debug: () => { throw new Error('secret') } })
  const refused = await get(failing.url, PATHS[0]!, 'u')
  t.ok(refused.status >= 400)
  t.notMatch(JSON.stringify(refused.body), /secret/)
  for (const debug of ['yes', 1, {}]) await t.rejects(startApp(t, { debug: debug as never }), { code: 'FAE_ERR_OPTION_INVALID', message: /'debug'/ })
})

t.test('D4: what an operator needs to see, without naming a user', async (t) => {
  const endless = defineAgent({ name: 'endless', description: '', run: () => new Promise(() => {}) })
  const { url, app } = await startApp(t, { debug: true, agents: [triage, endless] })
  const { node } = app.threads.store
  const asked = { complete: true, nodes: [{ node, answered: true }] }
  const see = async (path: string) => {
    const response = await fetch(url + path)
    t.equal(response.status, 200)
    return response.json() as Promise<any>
  }
  t.same(await see(PATHS[0]!), { count: 0, ...asked, connections: [] })
  t.same(await see(PATHS[1]!), { count: 0, ...asked, threads: [] })
  t.same(await see(PATHS[2]!), { count: 0, ...asked, users: {} })

  await post(url, '/threads', 'u', { threadId: 't1' })
  await post(url, '/threads', '__proto__', { threadId: 't2' })
  const tab = await connect(t, url, 'u')
  const odd = await connect(t, url, '__proto__')
  const { connectionId } = await tab.frame('connected')
  tab.send({ type: 'subscribe', threadId: 't1' })
  await post(url, '/threads/t1/messages', 'u', { content: 'x' })
  const last = await tab.frame('agent_completed')
  tab.send({ type: 'ack', threadId: 't1', cursor: tab.events()[2]!.id })
  const { body: { runId } } = await post(url, '/threads/t1/messages', 'u', { content: 'x', agent: 'endless' })
  await tab.frame('agent_started', (event) => event.runId === runId)

  const { count, connections } = await see(PATHS[0]!)
  t.equal(count, 2)
  t.match(connections.find((connection: any) => connection.connectionId === connectionId), {
    connectionId,
    node,
    userId: 'u',
    ageMs: Number,
    lastHeardMs: Number,
    bufferedBytes: 0,
    delivered: 9,
    lastAck: { threadId: 't1', cursor: tab.events()[2]!.id, agoMs: Number },
    threads: [{ threadId: 't1', state: 'live', cursor: tab.events()[8]!.id, acked: 3, behind: 0, unacknowledged: 6 }]
  })
  const threads = await see(PATHS[1]!)
  t.match(threads, { count: 1, threads: [{ threadId: 't1', userId: 'u', head: 9, connections: [connectionId], runs: [{ runId, agent: 'endless', state: 'running', ageMs: Number, node }] }] })
  const mappings = await see(PATHS[2]!)
  t.equal(mappings.count, 2)
  t.same(mappings.users.u, { connections: { [connectionId]: ['t1'] }, runs: { [runId]: 't1' }, nodes: { [connectionId]: node, [runId]: node } })
  t.ok(Object.hasOwn(mappings.users, '__proto__'))
  const registry = await see(PATHS[3]!)
  t.same(registry.agents.map(({ name }: { name: string }) => name), ['triage', 'endless'])
  t.same(registry.tools.map(({ name }: { name: string }) => name), ['search'])
  t.match(registry.runs, [{ runId }])
  t.match(registry.mermaid, /^flowchart TD\n/)
  t.notMatch(JSON.stringify([connections, threads, mappings]), /PING|Looking it up/, 'no content of conversations')

  odd.close()
  tab.close()
  await tab.closed()
  for (let open = 1; open > 0;) open = (await see(PATHS[0]!)).count
  t.match(await see(PATHS[1]!), { threads: [{ threadId: 't1', connections: [] }] }, 'the run goes on')
  t.ok(last)
})

t.test('D4: debug endpoints for whom authorize allows it', async (t) => {
  const { url } = await startApp(t, {
    debug: 'authorize',
    authorize: (user, action, { ownerId }) => action === 'debug' ? user.userId === 'operator' : user.userId === ownerId
  })
  for (const path of PATHS) {
    t.equal((await get(url, path, 'operator')).status, 200, path)
    t.match(await get(url, path, 'u'), { status: 403, body: { code: 'FAE_ERR_FORBIDDEN' } }, path)
    t.equal((await fetch(url + path)).status, 401, path)
  }
  const { url: closed } = await startApp(t, { debug: 'authorize' })
  t.equal((await get(closed, PATHS[0]!, 'u')).status, 403, 'nobody by default')
})
