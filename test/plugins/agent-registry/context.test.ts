import t from 'tap'
import { defineAgent, Type, type AgentContext } from '../../../index.js'
import { startApp } from '../../support/start-app.js'
import { watchRun } from '../../support/watch-run.js'

t.test('A2: ctx.context is this run\'s alone and frozen', async (t) => {
  const seen = new Map<string, Readonly<Record<string, unknown>>>()
  const agent = defineAgent({
    name: 'a',
    description: '',
    async run ({ message }, ctx) {
      seen.set(message, ctx.context)
      await new Promise((resolve) => { setImmediate(resolve) })
      t.throws(() => { (ctx.context as Record<string, unknown>).tenant = 'stolen' }, TypeError)
      return ctx.context.tenant
    }
  })
  const { app } = await startApp(t, { agents: [agent] })
  const given: Record<string, unknown> = { tenant: 'one', handle: new Map() }
  const results = await Promise.all([
    app.agents.run(agent, { userId: 'u1', context: given, input: { message: '1' } }),
    app.agents.run(agent, { userId: 'u1', context: { tenant: 'two' }, input: { message: '2' } }),
    app.agents.run(agent, { userId: 'u2', input: { message: '3' } })
  ])
  t.same(results, ['one', 'two', undefined])
  t.equal(seen.get('1')!.handle, given.handle, 'what it holds may be anything')
  t.notOk(Object.isFrozen(given), 'the caller\'s own object stays theirs')
  given.tenant = 'changed'
  t.equal(seen.get('1')!.tenant, 'one', 'and later changes of it do not reach the run')
  t.same(seen.get('3'), {})
})

t.test('ctx says who it is for and where it is', async (t) => {
  let seen: AgentContext<any, any> | undefined
  const { completed, of, app } = await watchRun(t, defineAgent({ name: 'a', description: '', version: '7', run (_input, ctx) { seen = ctx } }))
  t.same(seen!.run, { threadId: completed.threadId, runId: completed.runId, agentId: completed.agentId })
  t.same(seen!.user, { userId: 'u' })
  t.same(seen!.tools, {})
  t.same(seen!.agents, {})
  t.equal(typeof seen!.log.info, 'function')
  t.match(of('agent_started')[0]!.data, { agent: 'a', version: '7', trigger: 'api', attempt: 1, messageId: /^msg_/ })
  t.equal(completed.data.firstSeq, 1)

  const user = { userId: 'u', role: 'admin' }
  const instance = await app.agents.createForUser('a', { userId: 'u', user })
  await instance.execute({ message: '' })
  t.equal(seen!.user, user, 'a host\'s own fields are there')
})

t.test('a message becomes the input through fromMessage', async (t) => {
  const inputs: unknown[] = []
  const plain = defineAgent({ name: 'plain', description: '', run (input) { inputs.push(input) } })
  const special = defineAgent({
    name: 'special',
    description: '',
    inputSchema: Type.Object({ topic: Type.String({ minLength: 2 }), parts: Type.Number() }),
    fromMessage: ({ text, content }) => ({ topic: text, parts: content.length }),
    run (input) { inputs.push(input) }
  })
  const { app } = await startApp(t, { agents: [plain, special] })
  const user = { userId: 'u' }
  const { threadId } = await app.threads.register({ ...user, agent: 'special' })
  const content = [{ type: 'text' as const, text: 'hello' }, { type: 'file' as const, mediaType: 'image/png', url: 'x:y' }]
  for (const message of [{ content, agent: 'plain' }, { content }, { input: { topic: 'given', parts: 0 } }, { content: 'said', input: { topic: 'given', parts: 1 } }]) {
    await app.agents.send({ user, threadId, ...message })
    while (app.agents.active().length > 0) await new Promise((resolve) => { setImmediate(resolve) })
  }
  t.same(inputs, [{ message: 'hello' }, { topic: 'hello', parts: 2 }, { topic: 'given', parts: 0 }, { topic: 'given', parts: 1 }])
  const events = await app.notifier.history(threadId)
  t.match(events.find(({ type }) => type === 'agent_started')!.data, { trigger: 'user_message', input: { message: 'hello' } })
  t.same(events.filter(({ type }) => type === 'user_message').map(({ data }) => (data as { content: unknown }).content), [content, content, '{"topic":"given","parts":0}', 'said'])
  const head = (await app.threads.get(threadId))!.head
  await t.rejects(app.agents.send({ user, threadId, content: 'x' }), { code: 'FAE_ERR_AGENT_INPUT', message: /'special'.*'topic'/ })
  await t.rejects(app.agents.send({ user, threadId, input: { topic: 'x' } }), { code: 'FAE_ERR_AGENT_INPUT' })
  t.equal((await app.threads.get(threadId))!.head, head, 'refused before the run starts')
})

t.test('who is asking stays who they are while the run waits for its turn', async (t) => {
  const users: unknown[] = []
  let open = () => {}
  const gate = new Promise<void>((resolve) => { open = resolve })
  const agent = defineAgent({ name: 'a', description: '', async run (_input, ctx) { users.push(ctx.user); await gate } })
  const { app } = await startApp(t, { agents: [agent] })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const user = { userId: 'u', role: 'admin' }
  for (const content of ['one', 'two']) await app.agents.send({ user, threadId, content })
  open()
  while (users.length < 2 || app.agents.active().length > 0) await new Promise((resolve) => { setImmediate(resolve) })
  t.same(users, [user, user])
})
