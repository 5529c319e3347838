import t from 'tap'
import { defineAgent, defineTool, Type, type AgentContext } from '../../../index.js'
import { startApp } from '../../support/start-app.js'
import { watchRun } from '../../support/watch-run.js'

type Failed = Error & { code?: string }

const progressing = defineTool({
  name: 'progressing',
  description: '',
  inputSchema: Type.Object({ fraction: Type.Unknown(), text: Type.Optional(Type.Unknown()) }),
  execute: ({ fraction, text }, ctx) => ctx.progress(fraction as number, text as string)
})

/** What an agent says wrongly: refused there and then, with the field, and nobody sees it. */
const wrong: Array<[type: string, field: string, say: (ctx: AgentContext<any, any>) => Promise<unknown>]> = [
  ['agent_thinking', 'text', (ctx) => ctx.think(5 as never)],
  ['agent_thinking', 'text', (ctx) => ctx.think((async function * () { yield 5 as never })())],
  ['agent_thinking', 'kind', (ctx) => ctx.think('x', { kind: 'deep' as never })],
  ['agent_thinking', 'step.index', (ctx) => ctx.think('x', { step: { name: 'a', index: 0 } })],
  ['agent_thinking', 'metadata', (ctx) => ctx.think('x', { metadata: 'm' as never })],
  ['assistant_message', 'text', (ctx) => ctx.say(undefined as never)],
  ['assistant_message', 'text', (ctx) => ctx.say(null as never)],
  ['assistant_message', 'metadata', (ctx) => ctx.say('x', { metadata: 5 as never })],
  ['tool_executing', 'progress', (ctx) => ctx.callTool('progressing', { fraction: 2 })],
  ['tool_executing', 'progress', (ctx) => ctx.callTool('progressing', { fraction: 'half' })],
  ['tool_executing', 'progressText', (ctx) => ctx.callTool('progressing', { fraction: 1, text: 5 })],
  ['tool_executing', 'toolCallId', (ctx) => ctx.callTool('progressing', {}, { toolCallId: '' })],
  ['tool_executing', 'argsText', (ctx) => ctx.callTool('progressing', {}, { argsText: 5 as never })],
  ['tool_executing', 'tool', (ctx) => ctx.callTool('', {})],
  ['custom', 'name', (ctx) => ctx.emit('', 1)],
  ['custom', 'name', (ctx) => ctx.emit('unheard', 1)],
  ['custom', 'value', (ctx) => ctx.emit('progress', 'half')],
  ['custom', 'value', (ctx) => ctx.emit('progress')],
  ['custom', 'value.done', (ctx) => ctx.emit('progress', { done: 'x' })]
]

for (const [type, field, say] of wrong) {
  t.test(`B1: a wrong ${type} is refused at ${field}: ${String(say).replace(/^\(ctx\) => /, '')}`, async (t) => {
    let failure: Failed | undefined
    const agent = defineAgent({ name: 'a', description: '', tools: [progressing], run: (_input, ctx) => say(ctx).then(() => {}, (error: Failed) => { failure = error }) })
    const { events, completed } = await watchRun(t, agent, { options: { events: { progress: Type.Object({ done: Type.Number() }) }, coalesceMs: 0 } })
    const cause = failure?.code === 'FAE_ERR_TOOL_FAILED' ? failure.cause : failure
    t.match(cause, { code: 'FAE_ERR_EVENT_INVALID', statusCode: 400, message: new RegExp(`Event '${type}' is invalid at '${field}': `) })
    t.notOk(events.some((event) => event.type === type && type !== 'tool_executing'), 'it was not sent')
    t.equal(completed.data.status, 'success', 'an agent may catch it and go on')
  })
}

t.test('custom events are checked by the schema of their name', async (t) => {
  const agent = defineAgent({
    name: 'a',
    description: '',
    async run (_input, ctx) {
      const position = await ctx.emit('progress', { done: 1 })
      await ctx.emit('nothing')
      return position
    }
  })
  const { of, result } = await watchRun(t, agent, { options: { events: { progress: Type.Object({ done: Type.Number() }), nothing: Type.Optional(Type.Undefined()) } } })
  t.match(of('custom').map(({ data }) => data), [{ name: 'progress', value: { done: 1 } }, { name: 'nothing' }])
  t.same(result, { id: of('custom')[0]!.id, seq: of('custom')[0]!.seq }, 'emit resolves with the position')
})

t.test('without registered events there are no custom events', async (t) => {
  let failure: unknown
  await watchRun(t, defineAgent({ name: 'a', description: '', run: (_input, ctx) => ctx.emit('progress', 1).then(() => {}, (error: unknown) => { failure = error }) }))
  t.match(failure, { code: 'FAE_ERR_EVENT_INVALID', message: /'progress' is not registered in the option events; known are: none/ })
})

t.test('B1: every event type is checked by its schema before it leaves', async (t) => {
  const { app } = await startApp(t)
  const { encoder } = app.notifier
  for (const type of ['user_message', 'agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'assistant_message', 'agent_completed', 'custom'] as const) {
    for (const data of [undefined, null, 5, [], {}, { agent: 5 }]) {
      t.throws(() => encoder.encode('"threadId":"t"', type, data as never), { code: 'FAE_ERR_EVENT_INVALID', message: new RegExp(`Event '${type}' is invalid at '`) })
    }
  }
  t.throws(() => encoder.encode('"threadId":"t"', 'agent_paused' as never, {} as never), { code: 'FAE_ERR_EVENT_INVALID', message: /'type'.*agent_paused/ })
})
