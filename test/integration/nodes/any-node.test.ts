import t from 'tap'
import type { AgentEvent, EventOf } from '../../../schemas/index.js'
import { connect, get, post } from '../../support/connect.js'
import { until } from '../../support/delivery.js'
import { NodeProcess, startGateway } from '../../support/node-process.js'
import { RedisServer } from '../../support/redis-server.js'
import { brokenRules } from '../../support/run-rules.js'
import { finalLog, Talker } from '../../support/talker.js'
import { TcpProxy, type Fault } from '../../support/tcp-proxy.js'

/** Three processes over one Redis: whatever is asked, any of them will do. */

const PATIENCE_MS = 20_000

const redis = await RedisServer.start(t)
const nodes = await Promise.all([0, 1, 2].map(() => NodeProcess.start(t, { redis: redis.url })))
const [a, b, c] = nodes as [NodeProcess, NodeProcess, NodeProcess]

async function makeThread (userId: string): Promise<string> {
  const { body } = await post(a.url, '/threads', userId)
  return body.threadId
}

function endOf (events: readonly AgentEvent[], runId: string): EventOf<'agent_completed'> | undefined {
  return events.find((event): event is EventOf<'agent_completed'> => event.type === 'agent_completed' && event.runId === runId)
}

t.test('a message taken by one node is delivered by the others, to every tab the same (C4)', async (t) => {
  const threadId = await makeThread('u1')
  const tabs = await Promise.all(nodes.map(({ url }) => connect(t, url, 'u1')))
  for (const tab of tabs) {
    tab.send({ type: 'subscribe', threadId })
    await tab.frame('subscribed')
  }
  const { status, body: { runId } } = await post(a.url, `/threads/${threadId}/messages`, 'u1', { content: 'ping' })
  t.equal(status, 202)
  for (const tab of tabs) await tab.frame('agent_completed', (event) => event.runId === runId, PATIENCE_MS)
  const log = await finalLog(c, { threadId, userId: 'u1' })
  t.strictSame(brokenRules(log), [])
  t.strictSame(endOf(log, runId)?.data.status, 'success')
  for (const [i, tab] of tabs.entries()) t.strictSame(tab.events(threadId), log, `at node ${i}`)
  for (const { url } of nodes) t.equal((await get(url, `/threads/${threadId}`, 'u2')).status, 404, 'to nobody else')
})

t.test('a run is cancelled at a node that it is not on, also one that waits (A4)', async (t) => {
  const threadId = await makeThread('u1')
  const tab = await connect(t, b.url, 'u1')
  tab.send({ type: 'subscribe', threadId })
  const { body: { runId } } = await post(a.url, `/threads/${threadId}/messages`, 'u1', { content: '100', agent: 'long' })
  const { body: { runId: waiting } } = await post(b.url, `/threads/${threadId}/messages`, 'u1', { content: 'ping' })
  await tab.frame('assistant_message', (event) => event.runId === runId, PATIENCE_MS)
  t.ok((await a.active()).includes(runId))
  t.equal((await post(c.url, `/runs/${runId}/cancel`, 'u2')).status, 404, 'not by somebody else')
  t.equal((await post(c.url, `/runs/${waiting}/cancel`, 'u1')).status, 200)
  t.equal((await post(c.url, `/runs/${runId}/cancel`, 'u1')).status, 200)
  for (const cancelled of [runId, waiting]) {
    const { data } = await tab.frame('agent_completed', (event) => event.runId === cancelled, PATIENCE_MS)
    t.equal(data.status, 'cancelled')
  }
  const log = await finalLog(c, { threadId, userId: 'u1' })
  t.strictSame(brokenRules(log), [])
  t.strictSame(tab.events(threadId), log)
  t.strictSame(await a.active(), [])
})

t.test('what one node delivered is confirmed at another (C5)', async (t) => {
  const talker = await Talker.start(t, 'u1', a, b.url)
  const run = await talker.thread.send('ping')
  const { id } = await run.completed
  t.equal(await c.confirmed(talker.threadId, id, PATIENCE_MS), true)
  t.equal(await a.confirmed(talker.threadId, id, PATIENCE_MS), true)
  await talker.client.close()
  t.equal(await c.confirmed(talker.threadId, id, 100), false, 'by no connection any more')
})

t.test('a thread deleted at one node ends its run at another and is gone everywhere', async (t) => {
  const threadId = await makeThread('u1')
  const tabs = await Promise.all(nodes.map(({ url }) => connect(t, url, 'u1')))
  for (const tab of tabs) {
    tab.send({ type: 'subscribe', threadId })
    await tab.frame('subscribed')
  }
  const { body: { runId } } = await post(a.url, `/threads/${threadId}/messages`, 'u1', { content: '100', agent: 'long' })
  for (const tab of tabs) await tab.frame('assistant_message', undefined, PATIENCE_MS)
  t.ok((await a.active()).includes(runId))
  const { status } = await fetch(`${b.url}/threads/${threadId}`, { method: 'DELETE', headers: { 'x-user-id': 'u1' } })
  t.equal(status, 204)
  t.strictSame(await a.active(), [])
  for (const tab of tabs) {
    t.equal((await tab.frame('unsubscribed', undefined, PATIENCE_MS)).reason, 'deleted')
    t.equal(endOf(tab.events(threadId), runId)?.data.status, 'cancelled')
    t.strictSame(brokenRules(tab.events(threadId)), [])
  }
  for (const { url } of nodes) t.equal((await get(url, `/threads/${threadId}`, 'u1')).status, 404)
})

t.test('one clientMessageId at all nodes at once is one message and one run', async (t) => {
  const threadId = await makeThread('u1')
  const messages = 20
  for (let i = 0; i < messages; i++) {
    const answers = await Promise.all([a, b, c, a].map(({ url }) => post(url, `/threads/${threadId}/messages`, 'u1', { content: `ping ${i}`, clientMessageId: `m${i}` })))
    t.strictSame(answers.map(({ status }) => status), [202, 202, 202, 202])
    t.equal(new Set(answers.map(({ body }) => JSON.stringify(body))).size, 1, 'with one answer')
  }
  const log = await finalLog(b, { threadId, userId: 'u1' })
  t.strictSame(brokenRules(log), [])
  for (const type of ['user_message', 'agent_started', 'agent_completed']) t.equal(log.filter((event) => event.type === type).length, messages, type)
})

for (const watching of [[b, c], [a, b, c]]) {
  t.test(`a client that is cut off after every single event of a run and goes on at another of ${watching.length} nodes: the record is the log (B4)`, async (t) => {
    const gateway = await startGateway(t, watching)
    let events = Infinity
    let cutAfter = 0
    for (; cutAfter <= events + 1; cutAfter++) {
      const proxy = await TcpProxy.start(t, Number(new URL(gateway).port))
      const talker = await Talker.start(t, `cut ${cutAfter}`, a, proxy.url)
      let seen = 0
      let isBroken = false
      proxy.onFrame = (text): Fault => {
        if (text.startsWith('{"id":')) seen++
        // 0 is the answer to the subscribe, before any event
        if (isBroken || seen < cutAfter || (cutAfter === 0 && !text.includes('"subscribed"'))) return undefined
        isBroken = true
        return 'cut'
      }
      await until(() => talker.thread.status === 'live', 'the subscription')
      const { body: { runId } } = await post(a.url, `/threads/${talker.threadId}/messages`, talker.userId, { content: 'ping' })
      await until(() => endOf(talker.record, runId) !== undefined, () => talker.last, PATIENCE_MS)
      const log = await a.logOf(talker.threadId, talker.userId)
      t.strictSame(talker.record, log, `after ${cutAfter}`)
      t.strictSame(brokenRules(log), [])
      t.strictSame([talker.problems, talker.resets], [[], 0])
      // after the last event there is nothing to wait for but the connection itself
      if (cutAfter <= log.length) await until(() => proxy.accepted > 1, 'the connection after the cut')
      t.equal(proxy.accepted, cutAfter <= log.length ? 2 : 1, 'was cut once')
      events = log.length
      await talker.client.close()
      await proxy.close()
    }
    t.comment({ cuts: cutAfter })
  })
}

t.test('every node lives', async (t) => {
  for (const node of nodes) {
    t.ok(node.isAlive, node.stderr)
    t.strictSame(await node.active(), [])
  }
})
