import { test } from 'tap'
import type { Redact } from '../../../index.js'
import { Type, defineAgent, defineTool } from '../../../index.js'
import { connect, post } from '../../support/connect.js'
import { startApp } from '../../support/start-app.js'
import { watchRun } from '../../support/watch-run.js'

const SECRET = /card \d{4}/g

/** Hides numbers of cards, wherever they are. */
const hideNumbers: Redact = ({ data }) => JSON.parse(JSON.stringify(data).replace(SECRET, '****'))

const pay = defineTool({
  name: 'pay',
  description: 'Pays',
  inputSchema: Type.Object({ card: Type.String() }),
  async execute ({ card }) { return { paidWith: card } }
})
const shop = defineAgent({
  name: 'shop',
  description: 'Sells',
  tools: [pay],
  async run ({ message }, ctx) {
    await ctx.think(`They gave ${message}`)
    const { paidWith } = await ctx.tools.pay({ card: message })
    await ctx.say((async function * () { yield 'Thank you for '; yield paidWith })())
    await ctx.emit('receipt', { card: paidWith })
    return { paidWith }
  }
})

test('what is redacted reaches neither the log nor a receiver, and the agent as it is', async (t) => {
  const { app, events, result, of, url, tab } = await watchRun(t, shop, { input: { message: 'card 1234' }, options: { redact: hideNumbers, events: { receipt: Type.Object({ card: Type.String() }) } } })
  t.strictSame(result, { paidWith: 'card 1234' }, 'the agent works with what it was given')
  t.match(of('tool_executing')[0], { data: { args: { card: '****' } } })
  t.match(of('tool_completed')[0], { data: { output: { paidWith: '****' } } })
  t.match(of('agent_completed')[0], { data: { status: 'success', result: { paidWith: '****' } } })
  const { threadId } = events[0]!
  const sent = await post(url, `/threads/${threadId}/messages`, 'u', { content: 'My card is card 1234' })
  await tab.frame('agent_completed', ({ runId }) => runId === sent.body.runId)
  t.match(tab.events().find(({ type }) => type === 'user_message'), { data: { content: 'My card is ****' } })
  t.notOk(SECRET.test(JSON.stringify(tab.frames)))
  t.notOk(SECRET.test(JSON.stringify(await app.notifier.history(threadId, { limit: 1_000 }))))
})

test('ids and states stay whatever is returned', async (t) => {
  const other = { toolCallId: 'other', agent: 'other', phase: 'running', status: 'lost', firstSeq: 9, messageId: 'other', name: 'other' }
  const redact: Redact = ({ data }) => ({ ...data, ...Object.fromEntries(Object.entries(other).filter(([field]) => field in data)) }) as never
  const { events } = await watchRun(t, shop, { input: { message: 'x' }, options: { redact, events: { receipt: Type.Unknown() } } })
  t.match(events.at(-1), { type: 'agent_completed', data: { agent: 'shop', status: 'success', firstSeq: 1 } })
  t.notMatch(JSON.stringify(events.map(({ data }) => data)), /"other"|"lost"|"running"/)
})

test('it is told what the event is, and whose', async (t) => {
  const seen: Array<Parameters<Redact>[0]> = []
  const { events } = await watchRun(t, shop, { input: { message: 'x' }, options: { redact: (event) => { seen.push(event); return event.data }, events: { receipt: Type.Unknown() } } })
  t.strictSame(seen.map(({ type, threadId, runId, data }) => ({ type, threadId, runId, data })), events.map(({ type, threadId, runId, data }) => ({ type, threadId, runId, data })))
})

test('what cannot be redacted is refused with a code, and nothing of it is stored', async (t) => {
  const failing: Redact = ({ type, data }) => {
    if (JSON.stringify(data).includes('explode')) throw new Error('explode')
    return type === 'custom' && JSON.stringify(data).includes('shapeless') ? 'nothing' as never : data
  }
  const { app, url } = await startApp(t, { redact: failing, agents: [shop] })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  await t.rejects(app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'explode' } }), { code: 'FAE_ERR_EVENT_REDACT', message: /'user_message': it threw/, cause: { message: 'explode' } })
  t.match(await post(url, `/threads/${threadId}/messages`, 'u', { content: 'explode' }), { status: 500, body: { code: 'FAE_ERR_EVENT_REDACT' } })
  t.strictSame(app.agents.active(), [], 'no run came of it')
  await t.rejects(app.agents.createForUser('shop', { userId: 'u', threadId }).then((agent) => agent.execute({ message: 'explode' })), { code: 'FAE_ERR_RUN_FAILED', message: /redact/ })
  t.match(await tab.frame('agent_completed'), { data: { status: 'error', error: { code: 'FAE_ERR_EVENT_REDACT' } } })
  t.notMatch(JSON.stringify(tab.frames), 'explode')

  const named = await startApp(t, { redact: failing, events: { note: Type.Unknown() } })
  const other = await named.app.threads.register({ userId: 'u' })
  await t.rejects(named.app.notifier.sendToThread(other.threadId, { type: 'custom', data: { name: 'note', value: 'shapeless' } }), { code: 'FAE_ERR_EVENT_REDACT', message: /invalid at '\(root\)'/ })
  t.strictSame(await named.app.notifier.history(other.threadId), [])
})

test('a run has both its ends whatever redact does', async (t) => {
  for (const type of ['tool_completed', 'agent_completed', 'assistant_message', 'agent_thinking', 'tool_executing'] as const) {
    const { events, error } = await watchRun(t, shop, { input: { message: 'x' }, options: { redact: (event) => { if (event.type === type) throw new Error('no'); return event.data }, events: { receipt: Type.Unknown() } } })
    t.ok(error, type)
    t.equal(events.filter((event) => event.type === 'agent_completed').length, 1)
    t.match(events.at(-1), { type: 'agent_completed', data: { status: 'error', error: { code: 'FAE_ERR_EVENT_REDACT' } } }, type)
    t.equal(events.filter((event) => event.type === 'tool_executing').length, events.filter((event) => event.type === 'tool_completed').length)
  }
  const { app } = await startApp(t, { agents: [shop], redact: ({ type, data }) => { if (type === 'agent_started') throw new Error('no'); return data } })
  await t.rejects(app.agents.createForUser('shop', { userId: 'u' }), { code: 'FAE_ERR_EVENT_REDACT' }, 'one that cannot begin does not')
  const { threadId } = await app.threads.register({ userId: 'u' })
  await app.agents.send({ user: { userId: 'u' }, threadId, content: 'x' })
  let events = await app.notifier.history(threadId)
  for (const deadline = Date.now() + 10_000; events.at(-1)?.type !== 'agent_completed' && Date.now() < deadline;) {
    await new Promise((resolve) => { setImmediate(resolve) })
    events = await app.notifier.history(threadId)
  }
  const started = events.find(({ type }) => type === 'agent_started')
  t.ok(started, 'what is stored already begins without showing its input')
  t.notOk('input' in started!.data)
})

test('anything but a function is refused', async (t) => {
  await t.rejects(startApp(t, { redact: true as never }), { code: 'FAE_ERR_OPTION_INVALID', message: /'redact'/ })
})
