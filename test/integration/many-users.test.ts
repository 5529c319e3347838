import t from 'tap'
import { connect, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { triage, TRIAGE_EVENTS } from '../support/agents.js'
import type { AgentEvent } from '../../schemas/index.js'

const FIVE = ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'agent_completed']
const WHOLE = ['user_message', ...TRIAGE_EVENTS]

const types = (events: readonly AgentEvent[]) => events.map(({ type }) => type)
const seqs = (events: readonly AgentEvent[]) => events.map(({ seq }) => seq)

t.test('C4: 100 users at once each get exactly their own five events, in order', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  const users = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
    const userId = `user-${i}`
    const threadId = `thread of ${i}`
    await post(url, '/threads', userId, { threadId })
    const tab = await connect(t, url, userId)
    tab.send({ type: 'subscribe', threadId })
    await tab.frame('subscribed')
    return { userId, threadId, tab }
  }))
  for (const { threadId, userId, tab } of users) tab.send({ type: 'send', ref: '1', threadId, content: `ping of ${userId}` })
  await Promise.all(users.map(({ tab }) => tab.frame('agent_completed')))
  const agentIds = new Set<string>()
  for (const { userId, threadId, tab } of users) {
    const events = tab.events()
    t.same(types(events), WHOLE, `${userId} gets the whole run`)
    t.same(types(events).filter((type) => FIVE.includes(type)), FIVE)
    t.same(seqs(events), [1, 2, 3, 4, 5, 6, 7], 'once each, without gaps')
    t.ok(events.every((event) => event.threadId === threadId), 'nobody gets another\'s event')
    const completed = await tab.frame('agent_completed')
    t.same(completed.data.result, { answer: `PING OF ${userId.toUpperCase()}` })
    t.ok(completed.agentId!.startsWith(`${userId}:triage:`))
    agentIds.add(completed.agentId!)
  }
  t.equal(agentIds.size, 100)
})

t.test('C4: three connections on one thread all get all, once', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  await post(url, '/threads', 'u', { threadId: 't1' })
  const tabs = await Promise.all([1, 2, 3].map(() => connect(t, url, 'u')))
  for (const tab of tabs) {
    tab.send({ type: 'subscribe', threadId: 't1' })
    await tab.frame('subscribed')
  }
  tabs[0]!.send({ type: 'send', ref: '1', threadId: 't1', content: 'one' })
  await Promise.all(tabs.map((tab) => tab.frame('agent_completed')))
  for (const tab of tabs) t.same(types(tab.events()), WHOLE)
  t.same(tabs[1]!.events(), tabs[0]!.events(), 'the same bytes for everybody')
  t.same(tabs[2]!.events(), tabs[0]!.events())

  tabs[1]!.close()
  await tabs[1]!.closed()
  await post(url, '/threads/t1/messages', 'u', { content: 'two' })
  for (const tab of [tabs[0]!, tabs[2]!]) {
    await tab.until(() => tab.events().length === 14)
    t.same(seqs(tab.events()), Array.from({ length: 14 }, (_, i) => i + 1), 'the others go on')
  }
  t.equal(tabs[1]!.events().length, 7)
})

t.test('C4: a user with two threads in two tabs', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  for (const threadId of ['a', 'b']) await post(url, '/threads', 'u', { threadId })
  const [left, right] = await Promise.all([connect(t, url, 'u'), connect(t, url, 'u')])
  left.send({ type: 'subscribe', threadId: 'a' })
  right.send({ type: 'subscribe', threadId: 'b' })
  await Promise.all([left.frame('subscribed'), right.frame('subscribed')])
  left.send({ type: 'send', ref: '1', threadId: 'a', content: 'left' })
  right.send({ type: 'send', ref: '1', threadId: 'b', content: 'right' })
  const [one, two] = await Promise.all([left.frame('agent_completed'), right.frame('agent_completed')])
  t.same(one.data.result, { answer: 'LEFT' })
  t.same(two.data.result, { answer: 'RIGHT' })
  t.same(types(left.events()), WHOLE)
  t.same(types(right.events()), WHOLE)
  t.equal(left.events('b').length, 0)
  t.equal(right.events('a').length, 0)

  // One tab may follow both.
  left.send({ type: 'subscribe', threadId: 'b' })
  await left.until(() => left.events('b').length === 7)
  t.same(left.events('b'), right.events('b'))
})

t.test('C4: somebody else\'s thread looks like one that does not exist, on every frame', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  await post(url, '/threads', 'owner', { threadId: 'secret' })
  const { body: { runId } } = await post(url, '/threads/secret/messages', 'owner', { content: 'x' })
  const thief = await connect(t, url, 'thief')
  const answers = async (frame: Record<string, unknown>, ref: string) => {
    thief.send({ ref, ...frame })
    const { code, message } = await thief.frame('error', (error) => error.ref === ref)
    return [code, message.replace(/'[^']*'/g, "'…'")]
  }
  t.same(await answers({ type: 'subscribe', threadId: 'secret' }, '1'), await answers({ type: 'subscribe', threadId: 'nothing' }, '2'))
  t.same(
    await answers({ type: 'send', threadId: 'secret', content: 'x' }, '3'),
    await answers({ type: 'send', threadId: 'nothing', content: 'x' }, '4'))
  t.same(await answers({ type: 'cancel', runId }, '5'), await answers({ type: 'cancel', runId: 'run_none' }, '6'))
  t.same((await answers({ type: 'subscribe', threadId: 'secret' }, '7'))[0], 'FAE_ERR_THREAD_NOT_FOUND')
  t.same((await answers({ type: 'cancel', runId }, '8'))[0], 'FAE_ERR_RUN_NOT_FOUND')
  t.equal(thief.events().length, 0)
})
