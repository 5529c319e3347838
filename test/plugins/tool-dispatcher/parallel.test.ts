import t from 'tap'
import { defineAgent, defineTool, Type } from '../../../index.js'
import { watchRun } from '../../support/watch-run.js'

/** A tool whose calls finish when the test says so. */
function gatedTool () {
  const finish = new Map<string, () => void>()
  const tool = defineTool({
    name: 'gated',
    description: '',
    inputSchema: Type.Object({ name: Type.String() }),
    execute: ({ name }) => new Promise<string>((resolve) => { finish.set(name, () => { resolve(`done ${name}`) }) })
  })
  async function started (...names: string[]) {
    while (!names.every((name) => finish.has(name))) await new Promise((resolve) => { setImmediate(resolve) })
  }
  return { tool, started, finish: (name: string) => { finish.get(name)!() } }
}

t.test('parallel calls of one tool that finish in reverse are told apart by toolCallId', async (t) => {
  const { tool, started, finish } = gatedTool()
  const agent = defineAgent({
    name: 'a',
    description: '',
    tools: [tool],
    async run (_input, ctx) {
      const first = ctx.tools.gated({ name: 'first' })
      const second = ctx.tools.gated({ name: 'second' })
      await started('first', 'second')
      finish('second')
      const two = await second
      finish('first')
      return [await first, two]
    }
  })
  const { of, result, completed, events } = await watchRun(t, agent)
  t.same(result, ['done first', 'done second'])
  const [one, two] = of('tool_executing').map(({ data }) => data)
  const ends = of('tool_completed').map(({ data }) => data)
  t.same([one!.args, two!.args], [{ name: 'first' }, { name: 'second' }])
  t.not(one!.toolCallId, two!.toolCallId)
  t.same(ends.map(({ toolCallId, output }) => [toolCallId, output]), [[two!.toolCallId, 'done second'], [one!.toolCallId, 'done first']])
  t.equal(completed.data.counts.tools, 2)
  t.equal(completed.data.counts.events, events.length)
})

t.test('a toolCallId that is under way is refused, and the first call is not disturbed', async (t) => {
  const { tool, started, finish } = gatedTool()
  let refusal: unknown
  const agent = defineAgent({
    name: 'a',
    description: '',
    tools: [tool],
    async run (_input, ctx) {
      const first = ctx.callTool('gated', { name: 'x' }, { toolCallId: 'call_1' })
      refusal = await ctx.callTool('gated', { name: 'y' }, { toolCallId: 'call_1', argsText: '{' }).catch((error: unknown) => error)
      await started('x')
      finish('x')
      return first
    }
  })
  const { of, result } = await watchRun(t, agent)
  t.match(refusal, { code: 'FAE_ERR_TOOL_CALL_DUPLICATE', message: /'call_1'/ })
  t.equal(result, 'done x')
  t.same(of('tool_executing').map(({ data }) => data.args), [{ name: 'x' }])
  t.equal(of('tool_completed').length, 1)
})

t.test('B3: what is still open when the agent returns is closed before its end', async (t) => {
  const { tool, started } = gatedTool()
  const agent = defineAgent({
    name: 'a',
    description: '',
    tools: [tool],
    async run (_input, ctx) {
      ctx.tools.gated({ name: 'forgotten' }).catch(() => {})
      ctx.tools.gated({ name: 'not even caught' })
      await started('forgotten', 'not even caught')
      return 'early'
    }
  })
  const { of, completed, events, result } = await watchRun(t, agent)
  t.equal(result, 'early')
  t.equal(completed.data.status, 'success')
  t.same(events.map(({ type }) => type), ['agent_started', 'tool_executing', 'tool_executing', 'tool_completed', 'tool_completed', 'agent_completed'])
  t.same(of('tool_completed').map(({ data }) => data.toolCallId).sort(), of('tool_executing').map(({ data }) => data.toolCallId).sort())
  for (const { data } of of('tool_completed')) t.match(data, { status: 'cancelled', error: { code: 'FAE_ERR_TOOL_CANCELLED' } })
  t.equal(completed.data.counts.events, events.length)
})
