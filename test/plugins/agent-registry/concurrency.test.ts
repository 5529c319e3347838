import t from 'tap'
import { defineAgent, type AnyAgent } from '../../../index.js'
import type { EventOf } from '../../../schemas/index.js'
import { connect, post } from '../../support/connect.js'
import { startApp } from '../../support/start-app.js'

type Mode = AnyAgent['concurrency']

/** A watched thread whose agent works until the test says so; the message is its name. */
async function setup (t: { teardown (fn: () => unknown): void }, concurrency: Mode) {
  const finish = new Map<string, () => void>()
  const agent = defineAgent({
    name: 'a',
    description: '',
    concurrency,
    run: ({ message }, ctx) => new Promise<string>((resolve) => {
      finish.set(message, () => { resolve(message) })
      ctx.signal.addEventListener('abort', () => { resolve('aborted') })
    })
  })
  const { app, url } = await startApp(t, { agents: [agent], closeGraceMs: 0 })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  return {
    app,
    tab,
    threadId,
    url,
    send: async (content: string) => (await post(url, `/threads/${threadId}/messages`, 'u', { content })),
    begun: (name: string) => tab.frame('agent_started', ({ data }) => (data.input as { message: string }).message === name),
    finish: async (name: string) => {
      while (!finish.has(name)) await new Promise((resolve) => { setImmediate(resolve) })
      finish.get(name)!()
    },
    ended: (runId: string) => tab.frame('agent_completed', (event) => event.runId === runId),
    order: () => tab.events().map((event) => `${event.type} ${event.type === 'user_message' ? event.data.content as string : (event as EventOf<'agent_started'>).runId}`)
  }
}

t.test('enqueue: messages wait for their turn, in order', async (t) => {
  const { send, begun, finish, ended, tab, app } = await setup(t, 'enqueue')
  const runs: string[] = []
  for (const name of ['one', 'two', 'three']) {
    const { status, body } = await send(name)
    t.equal(status, 202)
    runs.push(body.runId)
  }
  await begun('one')
  t.equal(app.agents.active().length, 1)
  for (const name of ['one', 'two', 'three']) {
    await begun(name)
    await finish(name)
  }
  await ended(runs[2]!)
  t.same(tab.events().filter(({ type }) => type !== 'user_message').map(({ runId }) => runId), runs.flatMap((runId) => [runId, runId]), 'one after the other')
  for (const runId of runs) {
    const events = tab.events().filter((event) => event.runId === runId)
    t.same(events.map(({ type }) => type), ['user_message', 'agent_started', 'agent_completed'], 'message and run belong together')
    t.equal((events[2] as EventOf<'agent_completed'>).data.firstSeq, events[1]!.seq)
  }
})

t.test('reject: a second message is refused while the agent is at work', async (t) => {
  const { send, begun, finish, ended, tab, threadId } = await setup(t, 'reject')
  const { body: { runId } } = await send('one')
  await begun('one')
  const { status, body } = await send('two')
  t.equal(status, 409)
  t.match(body, { statusCode: 409, code: 'FAE_ERR_THREAD_BUSY', error: 'Conflict', message: /'a'.*one message at a time/ })
  tab.send({ type: 'send', ref: '1', threadId, content: 'three' })
  t.match(await tab.frame('error'), { ref: '1', code: 'FAE_ERR_THREAD_BUSY' })
  await finish('one')
  await ended(runId)
  t.same(tab.events().filter(({ type }) => type === 'user_message').length, 1, 'what was refused is not in the log')
  const again = await send('four')
  t.equal(again.status, 202)
  await finish('four')
  await ended(again.body.runId)
})

t.test('interrupt: a newer message ends what is live and waiting', async (t) => {
  const { send, begun, finish, ended, app } = await setup(t, 'interrupt')
  const { body: { runId: one } } = await send('one')
  await begun('one')
  const { body: { runId: two } } = await send('two')
  t.match((await ended(one)).data, { status: 'cancelled', reason: 'interrupted by a newer message', error: { code: 'FAE_ERR_RUN_CANCELLED' } })
  await begun('two')
  const [{ body: three }, { body: four }] = await Promise.all([send('three'), send('four')])
  t.equal((await ended(two)).data.status, 'cancelled')
  const last = [three.runId, four.runId]
  await finish('four')
  t.equal((await ended(last[1])).data.status, 'success', 'the newest one answers')
  t.equal((await ended(last[0])).data.status, 'cancelled')
  t.same(app.agents.active(), [])
})

t.test('parallel: both at once', async (t) => {
  const { send, begun, finish, ended, app } = await setup(t, 'parallel')
  const { body: { runId: one } } = await send('one')
  const { body: { runId: two } } = await send('two')
  await Promise.all([begun('one'), begun('two')])
  t.equal(app.agents.active().length, 2)
  await finish('two')
  t.equal((await ended(two)).data.result, 'two')
  await finish('one')
  t.equal((await ended(one)).data.result, 'one')
})

t.test('two threads do not wait for each other', async (t) => {
  const { send, begun, finish, app, url, threadId } = await setup(t, 'enqueue')
  await send('one')
  await begun('one')
  const { threadId: other } = await app.threads.register({ userId: 'u' })
  await post(url, `/threads/${other}/messages`, 'u', { content: 'two' })
  await finish('two')
  while (app.agents.active().length > 1) await new Promise((resolve) => { setImmediate(resolve) })
  t.match(app.agents.active(), [{ threadId }])
})

t.test('the same clientMessageId twice starts one run', async (t) => {
  const { url, threadId, tab, finish, ended, order } = await setup(t, 'parallel')
  const say = () => post(url, `/threads/${threadId}/messages`, 'u', { content: 'one', clientMessageId: 'c1' })
  const [first, second] = await Promise.all([say(), say()])
  t.same(second.body, first.body, 'the answer of the first')
  tab.send({ type: 'send', ref: '1', threadId, content: 'one', clientMessageId: 'c1' })
  t.match(await tab.frame('accepted'), { ref: '1', ...first.body })
  await finish('one')
  const { id } = await ended(first.body.runId)
  t.same((await say()).body, { ...first.body, ended: id }, 'also after its end, which it names')
  t.equal(order().length, 3)
  t.match(tab.events()[0], { type: 'user_message', data: { clientMessageId: 'c1' } })
})

t.test('A7: a user\'s runs are limited', async (t) => {
  const agent = defineAgent({ name: 'a', description: '', concurrency: 'parallel', run: (_input, ctx) => new Promise((resolve) => { ctx.signal.addEventListener('abort', resolve) }) })
  const { app } = await startApp(t, { agents: [agent], runsPerUser: 2, closeGraceMs: 0 })
  const instances = await Promise.all([1, 2].map(() => app.agents.createForUser(agent, { userId: 'u' })))
  await t.rejects(app.agents.createForUser(agent, { userId: 'u' }), { code: 'FAE_ERR_RUN_LIMIT', statusCode: 429, message: /2 live runs/ })
  await app.agents.createForUser(agent, { userId: 'other' })
  await instances[0]!.cancel()
  await app.agents.createForUser(agent, { userId: 'u' })
})
