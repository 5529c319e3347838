import t from 'tap'
import { defineAgent, Type } from '../../../index.js'
import { watchRun } from '../../support/watch-run.js'

const researcher = defineAgent({
  name: 'researcher',
  description: 'r',
  inputSchema: Type.Object({ topic: Type.String() }),
  async run ({ topic }, ctx) {
    await ctx.say(`about ${topic}`)
    return { topic, tenant: ctx.context.tenant, user: ctx.user.userId }
  }
})

t.test('ctx.agents: a run of its own inside its parent\'s, in the same thread', async (t) => {
  const parent = defineAgent({
    name: 'parent',
    description: 'p',
    agents: [researcher],
    async run (_input, ctx) {
      ctx.say('before')
      const found = await ctx.agents.researcher({ topic: 'x' })
      await ctx.say('after')
      return found
    }
  })
  const { events, of, result, completed, app } = await watchRun(t, parent, { context: { tenant: 't' } })
  t.same(result, { topic: 'x', tenant: 't', user: 'u' }, 'with its parent\'s user and context')
  t.same(events.map(({ type, data }) => [type, (data as { agent: string }).agent]), [
    ['agent_started', 'parent'],
    ['assistant_message', 'parent'],
    ['agent_started', 'researcher'],
    ['assistant_message', 'researcher'],
    ['agent_completed', 'researcher'],
    ['assistant_message', 'parent'],
    ['agent_completed', 'parent']
  ])
  const child = events.filter(({ data }) => (data as { agent: string }).agent === 'researcher')
  t.ok(child.every(({ parentRunId, runId, threadId }) => parentRunId === completed.runId && runId !== completed.runId && threadId === completed.threadId))
  t.match(of('agent_started')[1]!.data, { trigger: 'agent', agent: 'researcher' })
  t.match(child.at(-1)!.data, { status: 'success', result: { topic: 'x' } })
  t.ok(child[0]!.agentId!.startsWith('u:researcher:'))
  for (const event of events.filter(({ runId }) => runId === completed.runId)) t.notOk('parentRunId' in event)
  t.same(app.agents.active(), [])
})

t.test('a child that fails rejects inside its parent, which may go on', async (t) => {
  const failing = defineAgent({ name: 'failing', description: '', run () { throw new Error('broken') } })
  const parent = defineAgent({ name: 'parent', description: '', agents: [failing], run: (_input, ctx) => ctx.agents.failing({ message: 'x' }).catch((error: Error & { code?: string }) => error.code) })
  const { of, result } = await watchRun(t, parent)
  t.equal(result, 'FAE_ERR_RUN_FAILED')
  t.same(of('agent_completed').map(({ data: { agent, status } }) => [agent, status]), [['failing', 'error'], ['parent', 'success']])
})

t.test('input that does not fit is refused before the child starts', async (t) => {
  const parent = defineAgent({ name: 'parent', description: '', agents: [researcher], run: (_input, ctx) => ctx.agents.researcher({ topic: 5 as never }).catch((error: Error) => error.message) })
  const { result, events } = await watchRun(t, parent)
  t.match(result, /'researcher'.*'topic': expected a string/)
  t.equal(events.length, 2)
})

t.test('B3: children that are not awaited end before the run that called them', async (t) => {
  let reason: unknown
  const endless = defineAgent({ name: 'endless', description: '', run: (_input, ctx) => new Promise(() => { ctx.signal.addEventListener('abort', () => { reason = ctx.signal.reason }) }) })
  const middle = defineAgent({ name: 'middle', description: '', agents: [endless], run: (_input, ctx) => ctx.agents.endless({ message: 'x' }) })
  const outer = defineAgent({
    name: 'outer',
    description: '',
    agents: [middle],
    async run (_input, ctx) {
      ctx.agents.middle({ message: 'x' })
      for (let i = 0; i < 10; i++) await new Promise((resolve) => { setImmediate(resolve) })
      // Only just on its way when this one ends.
      ctx.agents.middle({ message: 'y' })
    }
  })
  const { of, events, completed, app } = await watchRun(t, outer)
  t.match(reason, { code: 'FAE_ERR_RUN_CANCELLED' })
  t.equal(events.at(-1), completed)
  t.equal(completed.data.status, 'success')
  t.equal(of('agent_started').length, of('agent_completed').length)
  t.ok(of('agent_started').length >= 3)
  for (const { runId, parentRunId } of of('agent_completed')) {
    if (parentRunId === undefined) continue
    const at = (id: string) => events.findIndex((event) => event.type === 'agent_completed' && event.runId === id)
    t.ok(at(runId!) < at(parentRunId), 'child before parent')
  }
  t.same(app.agents.active(), [])
})

t.test('B3: a run that has ended starts no child any more', async (t) => {
  let late: Promise<unknown> | undefined
  const parent = defineAgent({
    name: 'parent',
    description: '',
    timeoutMs: 20,
    agents: [researcher],
    run: (_input, ctx) => new Promise(() => {
      ctx.signal.addEventListener('abort', () => { late = ctx.agents.researcher({ topic: 'late' }).catch((error: unknown) => error) })
    })
  })
  const { tab, app } = await watchRun(t, parent)
  t.match(await late, { code: 'FAE_ERR_RUN_ENDED' })
  t.same(tab.events().map(({ type }) => type), ['agent_started', 'agent_completed'])
  t.same(app.agents.active(), [])
})
