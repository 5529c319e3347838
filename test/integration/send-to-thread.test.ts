import t from 'tap'
import { Type } from '../../index.js'
import { connect } from '../support/connect.js'
import { startApp } from '../support/start-app.js'

const events = { note: Type.Object({ text: Type.String() }) }

t.test('C3: sendToThread shows an event to who watches, and keeps it for who does not', async (t) => {
  const { app, url } = await startApp(t, { events })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const first = await app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'nobody is watching' } })
  t.equal(first.seq, 1)
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.until(() => tab.events().length === 1)
  await app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', text: 'hello' } })
  const third = await app.notifier.sendToThread(threadId, { type: 'custom', data: { name: 'note', value: { text: 'x' } } })
  await tab.until(() => tab.events().length === 3)
  t.match(tab.events(), [
    { id: first.id, seq: 1, type: 'user_message', threadId, data: { content: 'nobody is watching', messageId: /^msg_/ } },
    { seq: 2, type: 'assistant_message', data: { agent: 'host', text: 'hello', phase: 'full', messageId: /^msg_/, partId: /^part_/ } },
    { id: third.id, seq: 3, type: 'custom', data: { name: 'note', value: { text: 'x' } } }
  ])
  for (const event of tab.events()) t.notOk('runId' in event, 'not of a run')
})

t.test('only what is not a run\'s own can be sent', async (t) => {
  const { app } = await startApp(t, { events })
  const { threadId } = await app.threads.register({ userId: 'u' })
  for (const type of ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'agent_completed', 'anything', undefined, '__proto__']) {
    await t.rejects(app.notifier.sendToThread(threadId, { type, data: {} } as never), { code: 'FAE_ERR_EVENT_TYPE', message: /user_message, assistant_message, custom/ }, String(type))
  }
  await t.rejects(app.notifier.sendToThread(threadId, undefined as never), { code: 'FAE_ERR_EVENT_TYPE' })
  await t.rejects(app.notifier.sendToThread('nothing', { type: 'user_message', data: { content: 'x' } }), { code: 'FAE_ERR_THREAD_NOT_FOUND', message: /'nothing'.*app\.threads\.register/ })
  t.equal((await app.threads.get(threadId))!.head, 0)
})

t.test('B1: a wrong payload names the field', async (t) => {
  const { app } = await startApp(t, { events, maxEventBytes: 4_096 })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const cases: Array<[event: unknown, field: string]> = [
    [{ type: 'user_message', data: { content: 5 } }, 'content'],
    [{ type: 'user_message', data: {} }, 'content'],
    [{ type: 'user_message', data: { content: [] } }, 'content'],
    [{ type: 'user_message', data: { content: [{ type: 'image' }] } }, 'content.0.type'],
    [{ type: 'user_message', data: { content: 'x', extra: 1 } }, 'extra'],
    [{ type: 'assistant_message', data: { text: 'x' } }, 'agent'],
    [{ type: 'assistant_message', data: { agent: 'a', text: 5 } }, 'text'],
    [{ type: 'assistant_message', data: { agent: 'a', text: 'x', phase: 'middle' } }, 'phase'],
    [{ type: 'custom', data: { value: 1 } }, 'name'],
    [{ type: 'custom', data: { name: 'other' } }, 'name'],
    [{ type: 'custom', data: { name: 'note', value: {} } }, 'value.text'],
    [{ type: 'custom', data: undefined }, '\\(root\\)']
  ]
  for (const [event, field] of cases) {
    await t.rejects(app.notifier.sendToThread(threadId, event as never), { code: 'FAE_ERR_EVENT_INVALID', message: new RegExp(`at '${field}'`) }, JSON.stringify(event))
  }
  await t.rejects(app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'x'.repeat(4_096) } }), { code: 'FAE_ERR_EVENT_TOO_LARGE', statusCode: 413, message: /user_message.*4096/ })
  t.equal((await app.threads.get(threadId))!.head, 0)
})

t.test('sendToUser reaches the inbox that connected names, and nobody else\'s', async (t) => {
  const { app, url } = await startApp(t, { events })
  const [mine, second, other] = await Promise.all(['u', 'u', 'other'].map((userId) => connect(t, url, userId)))
  const { inbox } = await mine!.frame('connected')
  t.equal((await second!.frame('connected')).inbox, inbox, 'one per user')
  t.not((await other!.frame('connected')).inbox, inbox)
  for (const tab of [mine!, second!]) tab.send({ type: 'subscribe', threadId: inbox })
  other!.send({ type: 'subscribe', ref: '1', threadId: inbox })
  t.match(await other!.frame('error'), { ref: '1', code: 'FAE_ERR_THREAD_NOT_FOUND' })
  const position = await app.notifier.sendToUser('u', { type: 'custom', data: { name: 'note', value: { text: 'hi' } } })
  for (const tab of [mine!, second!]) t.match(await tab.frame('custom'), { ...position, threadId: inbox })
  await app.notifier.sendToUser('absent', { type: 'user_message', data: { content: 'later' } })
  const absent = await connect(t, url, 'absent')
  absent.send({ type: 'subscribe', threadId: (await absent.frame('connected')).inbox })
  t.match(await absent.frame('user_message'), { data: { content: 'later' } }, 'it waited')
  await t.rejects(app.notifier.sendToUser('', { type: 'user_message', data: { content: 'x' } }), { code: 'FAE_ERR_USER_ID_INVALID' })
  t.same(await app.threads.list({ userId: 'u' }), [], 'an inbox is not listed')
  t.equal(await app.threads.delete(inbox), false, 'nor deleted')
  await t.rejects(app.threads.register({ userId: 'u', threadId: inbox }), { code: 'FAE_ERR_THREAD_NOT_FOUND' }, 'nor claimed')
})

t.test('a key makes it one event', async (t) => {
  const { app, url } = await startApp(t)
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  const say = (content: string, key?: string) => app.notifier.sendToThread(threadId, { type: 'user_message', data: { content } }, key === undefined ? {} : { key })
  const [one, two] = await Promise.all([say('once', 'k'), say('again', 'k')])
  t.same(one, two)
  await say('other', 'k2')
  await say('other')
  await say('other')
  await tab.until(() => tab.events().length === 4)
  t.same(tab.events().map(({ data }) => (data as { content: string }).content), ['once', 'other', 'other', 'other'])
  const { threadId: elsewhere } = await app.threads.register({ userId: 'u' })
  t.equal((await app.notifier.sendToThread(elsewhere, { type: 'user_message', data: { content: 'x' } }, { key: 'k' })).seq, 1, 'a key counts within its thread')
})

t.test('C3: sendMessage works and warns once', async (t) => {
  const { app, url } = await startApp(t)
  const { threadId } = await app.threads.register({ userId: 'u' })
  const warnings: Array<Error & { code?: string }> = []
  const listener = (warning: Error) => { warnings.push(warning) }
  process.on('warning', listener)
  t.teardown(() => { process.off('warning', listener) })
  for (const content of ['one', 'two']) await app.notifier.sendMessage(threadId, { type: 'user_message', data: { content } }, { key: content })
  await app.notifier.sendMessage(threadId, { type: 'user_message', data: { content: 'two' } }, { key: 'two' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.until(() => tab.events().length === 2)
  t.same(tab.events().map(({ data }) => (data as { content: string }).content), ['one', 'two'])
  t.match(warnings.filter(({ code }) => code === 'FAE_DEP001'), [{ name: 'DeprecationWarning', message: /sendToThread/ }])
  t.equal(warnings.filter(({ code }) => code === 'FAE_DEP001').length, 1)
})
