import t from 'tap'
import { defineAgent, defineTool, Type } from '../../index.js'
import { connect, get, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { search, triage } from '../support/agents.js'

const endless = defineAgent({ name: 'endless', description: 'Never ends', run: () => new Promise(() => {}) })

t.test('A7: GET /runs: one\'s own live runs', async (t) => {
  const { url } = await startApp(t, { agents: [endless] })
  t.same((await get(url, '/runs', 'u')).body, { runs: [] })
  await post(url, '/threads', 'u', { threadId: 't1' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId: 't1' })
  const { body: { runId } } = await post(url, '/threads/t1/messages', 'u', { content: 'x' })
  const { agentId } = await tab.frame('agent_started')
  const { status, body } = await get(url, '/runs', 'u')
  t.equal(status, 200)
  t.match(body, { runs: [{ runId, threadId: 't1', userId: 'u', agentId, agent: 'endless', state: 'running', startedAt: /^\d{4}-.*Z$/, ageMs: Number }] })
  t.same((await get(url, '/runs', 'other')).body, { runs: [] })
  t.same(await post(url, `/runs/${runId}/cancel`, 'u'), { status: 200, body: { runId } })
  t.same((await get(url, '/runs', 'u')).body, { runs: [] })
})

t.test('POST /runs/:runId/cancel says what is wrong', async (t) => {
  const { url } = await startApp(t, { agents: [endless] })
  for (const [body, field] of [[{ reason: 5 }, 'reason'], [{ reason: 'x'.repeat(1_001) }, 'reason'], [{ why: 'x' }, 'why'], [[], '\\(root\\)']] as const) {
    t.match(await post(url, '/runs/run_1/cancel', 'u', body), { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST', message: new RegExp(`^body is invalid at '${field}'`) } })
  }
  for (const runId of ['run_1', 'thread_1_run_2', 'a%2Fb', '%20', 'x'.repeat(100)]) {
    t.match(await post(url, `/runs/${runId}/cancel`, 'u'), { status: 404, body: { statusCode: 404, code: 'FAE_ERR_RUN_NOT_FOUND', error: 'Not Found' } })
  }
})

t.test('A7: GET /agents and /tools', async (t) => {
  const parent = defineAgent({ name: 'parent', description: 'p', version: '2', agents: [triage], run () {} })
  const now = defineTool({ name: 'now', description: 'n', outputSchema: Type.Number(), timeoutMs: 7, execute: () => 1 })
  const { url } = await startApp(t, { agents: [parent], tools: [now], toolTimeoutMs: 9 })
  const agents = (await get(url, '/agents', 'u')).body.agents
  t.same(agents, [
    { name: 'parent', description: 'p', version: '2', inputSchema: { type: 'object', properties: { message: { type: 'string' } }, required: ['message'] }, tools: [], agents: ['triage'], default: true },
    { name: 'triage', description: 'Answers a support question', inputSchema: agents[0].inputSchema, tools: ['search'], agents: [], default: false }
  ])
  t.same((await get(url, '/tools', 'u')).body.tools, [
    { name: 'now', description: 'n', inputSchema: { type: 'object', properties: {} }, outputSchema: { type: 'number' }, timeoutMs: 7 },
    { name: 'search', description: search.description, inputSchema: { type: 'object', properties: { query: { type: 'string' } }, required: ['query'] }, timeoutMs: 9 }
  ])
})
