import t from 'tap'
import { defineAgent } from '../../index.js'
import { connect, get, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'

const remove = (url: string, threadId: string, userId: string) => fetch(`${url}/threads/${threadId}`, { method: 'DELETE', headers: { 'x-user-id': userId } })

t.test('deleting a thread ends its runs, tells who watches, and forgets the log', async (t) => {
  let begun = 0
  const endless = defineAgent({ name: 'a', description: '', run: (_input, ctx) => { begun++; return new Promise(() => { ctx.say('working') }) } })
  const { app, url } = await startApp(t, { agents: [endless] })
  await post(url, '/threads', 'u', { threadId: 't1' })
  await post(url, '/threads', 'u', { threadId: 't2' })
  const tabs = await Promise.all([1, 2].map(() => connect(t, url, 'u')))
  for (const tab of tabs) for (const threadId of ['t1', 't2']) tab.send({ type: 'subscribe', threadId })
  const runs: string[] = []
  for (const content of ['at work', 'waiting', 'waiting too']) runs.push((await post(url, '/threads/t1/messages', 'u', { content })).body.runId)
  await post(url, '/threads/t2/messages', 'u', { content: 'elsewhere' })
  for (const tab of tabs) for (const threadId of ['t1', 't2']) await tab.frame('assistant_message', (event) => event.threadId === threadId)

  t.equal((await remove(url, 't1', 'other')).status, 404)
  t.match(await (await remove(url, 't1', 'other')).json(), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
  t.equal((await remove(url, 't1', 'u')).status, 204)
  for (const tab of tabs) {
    t.match(await tab.frame('unsubscribed'), { threadId: 't1', reason: 'deleted' })
    const ended = tab.frames.findIndex((frame) => frame.type === 'agent_completed' && frame.runId === runs[0])
    t.ok(ended > 0, 'first the end of the run')
    t.ok(ended < tab.frames.findIndex(({ type }) => type === 'unsubscribed'))
    t.match(tab.frames[ended], { data: { status: 'cancelled', reason: 'the thread was deleted' } })
  }
  t.equal(begun, 2, 'what waited was not begun')
  t.match(app.agents.active(), [{ threadId: 't2' }], 'other threads go on')
  t.match((await get(url, '/threads/t1', 'u')).body, { statusCode: 404, code: 'FAE_ERR_THREAD_NOT_FOUND' })
  t.equal((await remove(url, 't1', 'u')).status, 404, 'gone')
  await t.rejects(app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'late' } }), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
  t.equal((await post(url, `/runs/${runs[0]}/cancel`, 'u')).body.code, 'FAE_ERR_RUN_NOT_FOUND')

  // The id stays its late owner's, with a new history.
  const old = tabs[0]!.events('t1').at(-1)!.id
  t.equal((await post(url, '/threads', 'other', { threadId: 't1' })).status, 404)
  t.equal((await post(url, '/threads', 'u', { threadId: 't1' })).status, 201)
  tabs[0]!.send({ type: 'subscribe', threadId: 't1', cursor: old })
  t.match(await tabs[0]!.frame('subscribed', ({ recovered }) => !recovered), { threadId: 't1', head: 0 })
})

t.test('a thread that is deleted while its first message is on its way', async (t) => {
  const agent = defineAgent({ name: 'a', description: '', run: () => 'done' })
  const { app } = await startApp(t, { agents: [agent] })
  for (let i = 0; i < 20; i++) {
    const { threadId } = await app.threads.register({ userId: 'u' })
    const sent = app.agents.send({ user: { userId: 'u' }, threadId, content: 'x' }).catch((error: Error & { code?: string }) => error.code)
    if (i % 2 === 0) await new Promise((resolve) => { setImmediate(resolve) })
    t.equal(await app.threads.delete(threadId), true)
    const outcome = await sent
    if (typeof outcome === 'string') t.equal(outcome, 'FAE_ERR_THREAD_NOT_FOUND')
  }
  while (app.agents.active().length > 0) await new Promise((resolve) => { setImmediate(resolve) })
  t.pass('nothing is left')
})
