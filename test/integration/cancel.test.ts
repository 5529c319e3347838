import t from 'tap'
import { defineAgent, defineTool } from '../../index.js'
import type { EventOf } from '../../schemas/index.js'
import { connect, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'

/** A watched thread with an agent whose tool never settles by itself. */
async function setup (t: { teardown (fn: () => unknown): void }) {
  const aborted: unknown[] = []
  const endless = defineTool({
    name: 'endless',
    description: '',
    execute: (_input, { signal }) => new Promise(() => { signal.addEventListener('abort', () => { aborted.push(signal.reason) }) })
  })
  const agent = defineAgent({ name: 'a', description: '', tools: [endless], run: ({ message }, ctx) => message === 'short' ? 'done' : ctx.tools.endless() })
  const { app, url } = await startApp(t, { agents: [agent] })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  return {
    app,
    url,
    tab,
    threadId,
    agent,
    aborted,
    ends: () => tab.events().filter((event): event is EventOf<'agent_completed'> => event.type === 'agent_completed'),
    typesOf: (runId: string) => tab.events().filter((event) => event.runId === runId).map(({ type }) => type),
    ended: (runId: string) => tab.frame('agent_completed', (event) => event.runId === runId),
    async send (content: string): Promise<string> {
      return (await post(url, `/threads/${threadId}/messages`, 'u', { content })).body.runId
    },
    async atWork (runId: string) { await tab.frame('tool_executing', (event) => event.runId === runId) }
  }
}

const WORKING = ['user_message', 'agent_started', 'tool_executing', 'tool_completed', 'agent_completed']

t.test('cancel during a tool: by the API, by frame and by HTTP', async (t) => {
  const ways: Array<[how: string, reason: string, cancel: (it: Awaited<ReturnType<typeof setup>>, runId: string) => Promise<unknown>]> = [
    ['API', 'enough', ({ app }, runId) => app.agents.cancel(runId, { reason: 'enough' })],
    ['frame', 'cancelled', async ({ tab }, runId) => { tab.send({ type: 'cancel', runId }) }],
    ['HTTP with a reason', 'no longer needed', ({ url }, runId) => post(url, `/runs/${runId}/cancel`, 'u', { reason: 'no longer needed' })],
    ['HTTP without a body', 'cancelled', ({ url }, runId) => fetch(`${url}/runs/${runId}/cancel`, { method: 'POST', headers: { 'x-user-id': 'u' } })]
  ]
  for (const [how, reason, cancel] of ways) {
    await t.test(how, async (t) => {
      const it = await setup(t)
      const runId = await it.send('x')
      await it.atWork(runId)
      const answer = await cancel(it, runId) as { status?: number, body?: unknown } | undefined
      const completed = await it.ended(runId)
      if (answer instanceof Response) t.same([answer.status, await answer.json()], [200, { runId }])
      else if (answer?.body !== undefined) t.match(answer, { status: 200, body: { runId } })
      t.match(completed.data, { status: 'cancelled', reason, error: { code: 'FAE_ERR_RUN_CANCELLED', message: new RegExp(reason) } })
      t.same(it.typesOf(runId), WORKING, 'the tool call is closed first')
      t.match(it.tab.events().find(({ type }) => type === 'tool_completed'), { data: { status: 'cancelled', error: { code: 'FAE_ERR_TOOL_CANCELLED' } } })
      t.match(it.aborted, [{ code: 'FAE_ERR_TOOL_CANCELLED' }], 'the signal reached the tool')
      t.same(it.app.agents.active(), [])
    })
  }
})

t.test('cancel while it waits for its turn: both ends, and it never runs', async (t) => {
  const it = await setup(t)
  const first = await it.send('x')
  await it.atWork(first)
  const waiting = [await it.send('one'), await it.send('two'), await it.send('short')]
  await it.app.agents.cancel(waiting[0]!, { reason: 'changed my mind' })
  await post(it.url, `/runs/${waiting[1]}/cancel`, 'u')
  for (const runId of waiting.slice(0, 2)) {
    const completed = await it.ended(runId)
    t.match(completed.data, { status: 'cancelled', error: { code: 'FAE_ERR_RUN_CANCELLED', message: /before it began/ } })
    t.same(it.typesOf(runId), ['user_message', 'agent_started', 'agent_completed'])
    t.equal(completed.data.firstSeq, completed.seq - 1)
  }
  t.equal(it.ends().length, 2, 'the one at work goes on')
  await it.app.agents.cancel(first)
  t.match((await it.ended(waiting[2]!)).data, { status: 'success', result: 'done' }, 'the next one has its turn')
  t.same(it.app.agents.active(), [])
})

t.test('cancel after the end and twice: one end', async (t) => {
  const it = await setup(t)
  const done = await it.send('short')
  await it.ended(done)
  await it.app.agents.cancel(done)
  t.equal((await post(it.url, `/runs/${done}/cancel`, 'u')).status, 409, 'said, and without effect')
  const runId = await it.send('x')
  await it.atWork(runId)
  await Promise.all([it.app.agents.cancel(runId, { reason: 'first' }), it.app.agents.cancel(runId, { reason: 'second' }), post(it.url, `/runs/${runId}/cancel`, 'u')])
  it.tab.send({ type: 'cancel', ref: 'late', runId })
  t.match(await it.tab.frame('error'), { ref: 'late', code: 'FAE_ERR_RUN_ENDED' }, 'whoever clicked too late is told')
  const last = await it.send('short')
  await it.ended(last)
  t.same(it.ends().map(({ runId, data: { status } }) => [runId, status]), [[done, 'success'], [runId, 'cancelled'], [last, 'success']])
  t.equal(it.ends()[1]!.data.reason, 'first')
})

t.test('cancel of an instance: before and while it executes', async (t) => {
  const it = await setup(t)
  const created = await it.app.agents.createForUser(it.agent, { userId: 'u', threadId: it.threadId })
  await created.cancel('never mind')
  t.match((await it.ended(created.runId)).data, { status: 'cancelled', reason: 'never mind' })
  await t.rejects(created.execute({ message: 'x' }), { code: 'FAE_ERR_RUN_STATE', message: /cancelled/ })
  const running = await it.app.agents.createForUser(it.agent, { userId: 'u', threadId: it.threadId })
  const result = running.execute({ message: 'x' })
  await it.atWork(running.runId)
  await Promise.all([running.cancel(), t.rejects(result, { code: 'FAE_ERR_RUN_CANCELLED', statusCode: 499 })])
  await running.cancel()
  await it.ended(running.runId)
  t.equal(it.ends().length, 2)
})

t.test('C4: somebody else\'s run looks like one that does not exist', async (t) => {
  const it = await setup(t)
  const runId = await it.send('x')
  await it.atWork(runId)
  const foreign = await post(it.url, `/runs/${runId}/cancel`, 'thief')
  const missing = await post(it.url, '/runs/run_none/cancel', 'thief')
  t.same([foreign.status, foreign.body.code], [404, 'FAE_ERR_RUN_NOT_FOUND'])
  t.same({ ...missing.body, message: missing.body.message.replace('run_none', runId) }, foreign.body)
  await t.rejects(it.app.agents.cancel(runId, { user: { userId: 'thief' } }), { code: 'FAE_ERR_RUN_NOT_FOUND' })
  t.match(it.app.agents.active(), [{ runId, state: 'running' }])
  await it.app.agents.cancel(runId, { reason: 'x'.repeat(10_000) })
  t.match((await it.ended(runId)).data.reason, /^x{1000}$/, 'a reason without end does not keep it from ending')
})
