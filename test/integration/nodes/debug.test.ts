import t from 'tap'
import { connect, get, post } from '../../support/connect.js'
import { NodeProcess } from '../../support/node-process.js'
import { RedisServer } from '../../support/redis-server.js'
import { until } from '../../support/store-steps.js'

/** Generous: the machine may be busy. */
const PATIENCE_MS = 30_000

const redis = await RedisServer.start(t)
const nodes = await Promise.all([0, 1, 2].map(() => NodeProcess.start(t, { redis: redis.url })))
const [a, b, c] = nodes as [NodeProcess, NodeProcess, NodeProcess]

async function see (at: NodeProcess, what: 'connections' | 'threads' | 'mappings'): Promise<any> {
  const { status, body } = await get(at.url, `/debug/websocket/${what}`, 'operator')
  if (status !== 200) throw new Error(`${status}: ${JSON.stringify(body)}`)
  return body
}

async function untilSeen (what: string, fits: (answer: any) => boolean, at = a): Promise<any> {
  let answer: any
  await until(what, async () => fits(answer = await see(at, 'connections')), PATIENCE_MS)
  return answer
}

t.test('D4: every node shows the connections, threads and runs of all, and where each is; who does not answer is named', async (t) => {
  await untilSeen('every node', ({ complete, nodes }) => complete && nodes.length === 3)
  const names = await Promise.all(nodes.map(async (node) => (await see(node, 'connections')).nodes[0].node as string))
  t.equal(new Set(names).size, 3)
  for (const [i, { pid }] of nodes.entries()) t.ok(names[i]!.includes(`:${pid}:`), `${names[i]} is process ${pid}`)

  await post(a.url, '/threads', 'u1', { threadId: 'shared' })
  const tabs = await Promise.all(nodes.map(({ url }) => connect(t, url, 'u1')))
  for (const tab of tabs) {
    tab.send({ type: 'subscribe', threadId: 'shared' })
    await tab.frame('subscribed')
  }
  await connect(t, b.url, '__proto__')
  const { body: { runId } } = await post(c.url, '/threads/shared/messages', 'u1', { content: 'wait', agent: 'patient' })
  for (const tab of tabs) await tab.frame('agent_started', (event) => event.runId === runId, PATIENCE_MS)
  const ids = await Promise.all(tabs.map(async (tab) => (await tab.frame('connected')).connectionId))

  for (const [i, at] of nodes.entries()) {
    const connections = await untilSeen('all connections', ({ count, complete }) => complete && count === 4, at)
    t.equal(connections.nodes[0].node, names[i], 'who was asked comes first')
    for (const [j, id] of ids.entries()) {
      t.match(connections.connections.find(({ connectionId }: any) => connectionId === id), {
        node: names[j], userId: 'u1', ageMs: Number, lastHeardMs: Number, bufferedBytes: Number, delivered: 2, threads: [{ threadId: 'shared', state: 'live' }]
      })
    }
    const threads = await see(at, 'threads')
    t.match(threads, { count: 1, complete: true, threads: [{ threadId: 'shared', userId: 'u1', head: 2, runs: [{ runId, agent: 'patient', state: 'running', ageMs: Number, node: names[2] }] }] })
    t.strictSame(new Set(threads.threads[0].connections), new Set(ids))
    const mappings = await see(at, 'mappings')
    t.equal(mappings.count, 2)
    t.strictSame(mappings.users.u1, {
      connections: Object.fromEntries(ids.map((id) => [id, ['shared']])),
      runs: { [runId]: 'shared' },
      nodes: { ...Object.fromEntries(ids.map((id, j) => [id, names[j]])), [runId]: names[2] }
    })
    t.ok(Object.hasOwn(mappings.users, '__proto__'))
  }

  c.pause()
  const without = await untilSeen('the silence of the third', ({ complete }) => !complete)
  t.strictSame(without.nodes.slice(0, 2), [{ node: names[0], answered: true }, { node: names[1], answered: true }])
  t.match(without.nodes[2], { node: names[2], answered: false, seenMs: Number })
  t.strictSame(new Set(without.connections.map(({ node }: any) => node)), new Set([names[0], names[1]]))
  c.resume()
  await untilSeen('the third again', ({ complete, count }) => complete && count === 4)

  await c.end('SIGKILL')
  const after = await untilSeen('the loss of the third', ({ complete }) => !complete)
  t.match(after.nodes[2], { node: names[2], answered: false })
  await b.end('SIGTERM')
  const alone = await untilSeen('the second to have left', ({ nodes }) => nodes.length === 2)
  t.strictSame(alone.nodes.map(({ node, answered }: any) => [node, answered]), [[names[0], true], [names[2], false]], 'who has closed is not expected')

  await redis.kill()
  const away = await untilSeen('the loss of Redis', ({ nodes }) => nodes.length === 1)
  t.equal(away.complete, false, 'nobody knows who else there is')
  t.strictSame(away.connections.map(({ connectionId }: any) => connectionId), [ids[0]], 'the own ones are shown all the same')
  t.equal((await see(a, 'threads')).count, 1)
})
