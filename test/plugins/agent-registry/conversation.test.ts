import t from 'tap'
import { defineAgent, type AgentContext, type ConversationMessage } from '../../../index.js'
import { startApp } from '../../support/start-app.js'
import { watchRun } from '../../support/watch-run.js'

const agent = (run: (ctx: AgentContext<any, any>) => unknown) => defineAgent({ name: 'a', description: '', run: (_input, ctx) => run(ctx) })

t.test('ctx.messages: the conversation so far, folded from the log', async (t) => {
  let limit: number | undefined
  let seen: ConversationMessage[] = []
  const { app } = await startApp(t, {
    agents: [agent(async (ctx) => {
      seen = await ctx.messages(limit === undefined ? {} : { limit })
      await ctx.think('not a message')
      await ctx.say((async function * () { yield 'an'; yield 'swer' })())
      await ctx.say('and more')
    })]
  })
  const user = { userId: 'u' }
  const { threadId } = await app.threads.register(user)
  async function say (content: Parameters<typeof app.agents.send>[0]['content'] & {}) {
    const { runId } = await app.agents.send({ user, threadId, content })
    while (app.agents.active().length > 0) await new Promise((resolve) => { setImmediate(resolve) })
    return runId
  }
  const first = await say('one')
  t.match(seen, [{ role: 'user', content: 'one', messageId: String }])
  await say([{ type: 'text', text: 'two' }, { type: 'file', mediaType: 'image/png', url: 'x:y' }, { type: 'text', text: 'lines' }])
  t.match(seen, [
    { role: 'user', content: 'one' },
    { role: 'assistant', content: 'answer\nand more', runId: first },
    { role: 'user', content: 'two\nlines' }
  ], 'deltas joined, parts on lines of their own')
  t.equal(seen.length, 3)
  await app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', text: 'from outside' } })
  limit = 2
  await say('three')
  t.same(seen.map(({ content }) => content), ['from outside', 'three'], 'the latest')
  limit = 50
  await say('four')
  t.same(seen.map(({ role }) => role).join(), 'user,assistant,user,assistant,assistant,user,assistant,user')
})

t.test('ctx.messages over a log longer than a page', async (t) => {
  let seen: ConversationMessage[] = []
  const { app } = await startApp(t, { agents: [agent(async (ctx) => { seen = await ctx.messages({ limit: 2 }) })] })
  const user = { userId: 'u' }
  const { threadId } = await app.threads.register(user)
  await app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'long ago' } })
  for (let i = 0; i < 1_200; i++) await app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', messageId: 'm', partId: 'p', phase: i === 0 ? 'start' : 'delta', text: `${i} ` } })
  await app.agents.run('a', { userId: 'u', threadId, input: { message: '' } })
  t.equal(seen.length, 2)
  t.equal(seen[0]!.content, 'long ago')
  t.equal(seen[1]!.content, Array.from({ length: 1_200 }, (_, i) => `${i} `).join(''), 'whole')
})

t.test('ctx.usage is summed up per model', async (t) => {
  const { completed } = await watchRun(t, agent((ctx) => {
    ctx.usage({ model: 'small', inputTokens: 1, outputTokens: 2 })
    ctx.usage({ model: 'large', totalTokens: 100 })
    ctx.usage({ model: 'small', inputTokens: 10, reasoningTokens: 5 })
    ctx.usage({ model: 'small' })
  }))
  t.same(completed.data.usage, [{ model: 'small', inputTokens: 11, outputTokens: 2, reasoningTokens: 5 }, { model: 'large', totalTokens: 100 }])
  const without = await watchRun(t, agent(() => {}))
  t.notOk('usage' in without.completed.data)
})

t.test('usage that is none is refused where it is said, and the run still ends', async (t) => {
  for (const [entry, field] of [[{ model: 'm', inputTokens: -1 }, 'inputTokens'], [{ model: '' }, 'model'], [{ inputTokens: 1 }, 'model'], [{ model: 'm', tokens: 1 }, 'tokens'], [{ model: 'm', inputTokens: NaN }, 'inputTokens']] as const) {
    const { completed } = await watchRun(t, agent((ctx) => { ctx.usage({ model: 'good', inputTokens: 1 }); ctx.usage(entry as never) }))
    t.match(completed.data, { status: 'error', error: { code: 'FAE_ERR_EVENT_INVALID', message: new RegExp(`usage\\.${field}`) }, usage: [{ model: 'good' }] })
  }
})

t.test('usage of more models than an event can carry does not keep the run from ending', async (t) => {
  const { completed } = await watchRun(t, agent((ctx) => { for (let i = 0; i < 1_000; i++) ctx.usage({ model: `model ${i}`, inputTokens: i }) }), { options: { maxEventBytes: 4_096 } })
  t.match(completed.data, { status: 'error', error: { code: 'FAE_ERR_EVENT_TOO_LARGE' } })
})
