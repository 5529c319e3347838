import t from 'tap'
import { defineAgent, defineTool, Type, type AgentContext, type AnyTool, type ToolContext } from '../../../index.js'
import { startApp } from '../../support/start-app.js'
import { watchRun } from '../../support/watch-run.js'

type Failed = Error & { code: string, cause?: unknown }

/** An agent that tries one call and returns how it failed. */
function trying (tools: readonly AnyTool[], call: (ctx: AgentContext<any, any>) => Promise<unknown>) {
  const failures: Failed[] = []
  const agent = defineAgent({
    name: 'a',
    description: '',
    tools,
    async run (_input, ctx) {
      await call(ctx).catch((error: Failed) => { failures.push(error) })
      return 'went on'
    }
  })
  return { agent, failures }
}

const tool = (execute: (input: any, ctx: ToolContext) => unknown, more: object = {}) => defineTool({ name: 'tool', description: '', ...more, execute })
const add = tool(({ n }) => n + 1, { name: 'add', inputSchema: Type.Object({ n: Type.Number() }, { additionalProperties: false }) })

t.test('B1: a call is between its tool_executing and its tool_completed', async (t) => {
  let seen: ToolContext | undefined
  const seeing = tool(async ({ n }, ctx) => { seen = ctx; await ctx.progress(0.5, 'half'); return { n } }, { inputSchema: Type.Object({ n: Type.Number() }), timeoutMs: 5_000 })
  const watched = await watchRun(t, defineAgent({ name: 'a', description: '', tools: [seeing], run: (_input, ctx) => ctx.callTool('tool', { n: 1 }, { toolCallId: 'call_1', argsText: '{"n":' }) }))
  t.same(watched.result, { n: 1 })
  t.same(watched.of('tool_executing').map(({ data }) => data), [
    { agent: 'a', toolCallId: 'call_1', tool: 'tool', phase: 'input_delta', argsText: '{"n":', attempt: 1 },
    { agent: 'a', toolCallId: 'call_1', tool: 'tool', phase: 'start', args: { n: 1 }, attempt: 1, timeoutMs: 5_000 },
    { agent: 'a', toolCallId: 'call_1', tool: 'tool', phase: 'progress', progress: 0.5, progressText: 'half', attempt: 1 }
  ])
  t.match(watched.of('tool_completed').map(({ data }) => data), [{ agent: 'a', toolCallId: 'call_1', tool: 'tool', status: 'ok', output: { n: 1 }, durationMs: Number }])
  t.same(watched.completed.data.counts, { events: 6, tools: 1 })
  t.equal(seen!.toolCallId, 'call_1')
  t.equal(seen!.user.userId, 'u')
  t.equal(seen!.run.runId, watched.completed.runId)
  t.equal(typeof seen!.log.info, 'function')
})

const failing: Array<[what: string, tool: AnyTool, call: (ctx: AgentContext<any, any>) => Promise<unknown>, rejects: object, completed: object]> = [
  ['unknown', add, (ctx) => ctx.callTool('serach', {}),
    { code: 'FAE_ERR_TOOL_NOT_FOUND', message: "Unknown tool 'serach'. Known tools: add" },
    { tool: 'serach', status: 'error', error: { code: 'FAE_ERR_TOOL_NOT_FOUND' } }],
  ['called with arguments that do not fit', add, (ctx) => ctx.tools.add!({ n: '1' }),
    { code: 'FAE_ERR_TOOL_INPUT', message: /'add'.*at 'n': expected a number, found "1"/ },
    { status: 'error', error: { code: 'FAE_ERR_TOOL_INPUT', message: /'n'/ } }],
  ['called without arguments', add, (ctx) => ctx.tools.add!(), { code: 'FAE_ERR_TOOL_INPUT', message: /'n': required/ }, { status: 'error' }],
  ['called with one argument too many', add, (ctx) => ctx.callTool('add', { n: 1, m: 2 }), { code: 'FAE_ERR_TOOL_INPUT', message: /'m': unknown field/ }, { status: 'error' }],
  ['called with no object at all', add, (ctx) => ctx.callTool('add', 'n=1'), { code: 'FAE_ERR_TOOL_INPUT', message: /'\(root\)': expected an object/ }, { status: 'error' }],
  ['throws', tool(() => { throw new Error('broken') }), (ctx) => ctx.tools.tool!({}),
    { code: 'FAE_ERR_TOOL_FAILED', message: /'tool' failed: broken/, cause: { message: 'broken' } },
    { status: 'error', error: { code: 'FAE_ERR_TOOL_FAILED', message: 'broken' } }],
  ['rejects with a code that may be tried again', tool(async () => { throw Object.assign(new Error('later'), { code: 'E_RATE', retryable: true }) }), (ctx) => ctx.tools.tool!({}),
    { code: 'FAE_ERR_TOOL_FAILED', cause: { code: 'E_RATE' } },
    { status: 'error', error: { code: 'E_RATE', message: 'later', retryable: true } }],
  // eslint-disable-next-line no-throw-literal -- what a careless tool does
  ['throws undefined', tool(() => { throw undefined }), (ctx) => ctx.tools.tool!({}), { code: 'FAE_ERR_TOOL_FAILED' }, { status: 'error', error: { message: 'thrown: undefined' } }],
  ['throws an endless message', tool(() => { throw new Error('x'.repeat(1_000_000)) }), (ctx) => ctx.tools.tool!({}), { code: 'FAE_ERR_TOOL_FAILED' }, { status: 'error', error: { message: /^x+…$/ } }],
  ['never settles', tool(() => new Promise(() => {}), { timeoutMs: 20 }), (ctx) => ctx.tools.tool!({}),
    { code: 'FAE_ERR_TOOL_TIMEOUT', message: /20 ms/ },
    { status: 'timeout', error: { code: 'FAE_ERR_TOOL_TIMEOUT' } }]
]

for (const [what, used, call, rejects, completed] of failing) {
  t.test(`B3: a tool that is ${what}`.replace('is throws', 'throws').replace('is rejects', 'rejects').replace('is never', 'never'), async (t) => {
    const { agent, failures } = trying([used], call)
    const watched = await watchRun(t, agent)
    t.match(failures, [rejects], 'the call rejects inside the agent')
    t.equal(watched.result, 'went on', 'which may catch it and go on')
    t.same(watched.events.map(({ type }) => type), ['agent_started', 'tool_executing', 'tool_completed', 'agent_completed'])
    const [end] = watched.of('tool_completed')
    t.match(end!.data, completed)
    t.notOk('output' in end!.data)
    t.equal(end!.data.toolCallId, watched.of('tool_executing')[0]!.data.toolCallId)
    t.equal(watched.completed.data.status, 'success')
  })
}

t.test('a failure that the agent does not catch ends the run', async (t) => {
  const broken = tool(() => { throw new Error('broken') })
  const watched = await watchRun(t, defineAgent({ name: 'a', description: '', tools: [broken], run: (_input, ctx) => ctx.callTool('tool', {}) }))
  t.match(watched.completed.data, { status: 'error', error: { code: 'FAE_ERR_TOOL_FAILED', message: /broken/ } })
  t.match(watched.error, { code: 'FAE_ERR_RUN_FAILED', cause: { code: 'FAE_ERR_TOOL_FAILED' } })
})

t.test('an agent may use its own tools only', async (t) => {
  const { agent, failures } = trying([], (ctx) => ctx.callTool('add', { n: 1 }))
  await watchRun(t, agent, { options: { tools: [add] } })
  t.match(failures, [{ code: 'FAE_ERR_TOOL_NOT_FOUND', message: /Known tools: none/ }])
})

t.test('the timeout aborts the tool, and what it says afterwards is refused', async (t) => {
  let late: Promise<unknown> | undefined
  let reason: unknown
  const slow = tool((_input, ctx) => new Promise(() => {
    ctx.signal.addEventListener('abort', () => {
      reason = ctx.signal.reason
      setImmediate(() => { late = ctx.progress(1).catch((error: unknown) => error) })
    })
  }))
  const { agent } = trying([slow], async (ctx) => {
    await ctx.tools.tool!({}).catch(() => {})
    await new Promise((resolve) => { setImmediate(resolve) })
    await new Promise((resolve) => { setImmediate(resolve) })
  })
  const watched = await watchRun(t, agent, { options: { toolTimeoutMs: 20 } })
  t.match(reason, { code: 'FAE_ERR_TOOL_TIMEOUT' })
  t.match(await late, { code: 'FAE_ERR_TOOL_CALL_OVER' })
  t.same(watched.events.map(({ type }) => type), ['agent_started', 'tool_executing', 'tool_completed', 'agent_completed'], 'one end for the call')
  t.equal(watched.of('tool_executing')[0]!.data.timeoutMs, 20)
})

t.test('arguments that are too large for an event are refused before the tool runs', async (t) => {
  let ran = false
  const { agent, failures } = trying([tool(() => { ran = true })], (ctx) => ctx.callTool('tool', { text: 'x'.repeat(5_000) }))
  const watched = await watchRun(t, agent, { options: { maxEventBytes: 4_096 } })
  t.match(failures, [{ code: 'FAE_ERR_EVENT_TOO_LARGE', message: /tool_executing/ }])
  t.equal(ran, false)
  t.same(watched.events.map(({ type }) => type), ['agent_started', 'agent_completed'])
})

t.test('A6: tools are listed', async (t) => {
  const { app } = await startApp(t, { tools: [add], toolTimeoutMs: 7 })
  t.match(app.tools.list(), [{ name: 'add', inputSchema: { required: ['n'] }, timeoutMs: 7 }])
  for (const toolTimeoutMs of [0, -1, 1.5, 'soon' as never]) await t.rejects(startApp(t, { toolTimeoutMs }), { code: 'FAE_ERR_OPTION_INVALID', message: /toolTimeoutMs/ })
})
