import t from 'tap'
import { spawn } from 'node:child_process'
import { SpanStatusCode, context, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor, type ReadableSpan } from '@opentelemetry/sdk-trace-base'
import { Type, defineAgent, defineTool } from '../../../index.js'
import { connect, post } from '../../support/connect.js'
import { startApp } from '../../support/start-app.js'
import { watchRun } from '../../support/watch-run.js'
import { childEnv } from '../../support/child-env.js'

const exporter = new InMemorySpanExporter()
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
const host = trace.getTracer('host')

/** The spans that ended since the last call, by name. */
function spans (): Map<string, ReadableSpan> {
  const finished = new Map(exporter.getFinishedSpans().map((span) => [span.name, span]))
  exporter.reset()
  return finished
}
const parentOf = (span: ReadableSpan | undefined): string | undefined => span?.parentSpanContext?.spanId
const idOf = (span: ReadableSpan | undefined): string | undefined => span?.spanContext().spanId

const look = defineTool({
  name: 'look',
  description: 'Looks up',
  inputSchema: Type.Object({ query: Type.String() }),
  async execute ({ query }) {
    await new Promise((resolve) => { setImmediate(resolve) })
    return host.startActiveSpan('database', (span) => {
      span.end()
      return { found: `secret ${query}` }
    })
  }
})
const breaks = defineTool({ name: 'breaks', description: 'Breaks', execute () { throw Object.assign(new Error('a secret failure'), { code: 'E_BROKEN' }) } })
const helper = defineAgent({ name: 'helper', description: 'Helps', inputSchema: Type.Object({ about: Type.String() }), tools: [look], async run ({ about }, ctx) { return (await ctx.tools.look({ query: about })).found } })
const guide = defineAgent({
  name: 'guide',
  description: 'Guides',
  version: '2',
  tools: [look, breaks],
  agents: [helper],
  async run ({ message }, ctx) {
    await ctx.callTool('look', { query: message }, { toolCallId: 'call_1' })
    await ctx.tools.breaks().catch(() => {})
    await host.startActiveSpan('step', async (span) => {
      await ctx.agents.helper({ about: 'depth' })
      span.end()
    })
    ctx.usage({ model: 'm1', inputTokens: 5, outputTokens: 7 })
    ctx.usage({ model: 'm2', inputTokens: 1 })
    return 'a secret answer'
  }
})

t.beforeEach(() => { exporter.reset() })

t.test('a span for each run and each tool call, nested as they were called', async (t) => {
  const { events } = await watchRun(t, guide, { input: { message: 'secret question' }, options: { tracing: true } })
  const { threadId, runId, agentId } = events[0]!
  const all = spans()
  const run = all.get('invoke_agent guide')!
  t.match(run.attributes, {
    'gen_ai.operation.name': 'invoke_agent',
    'gen_ai.agent.name': 'guide',
    'gen_ai.agent.description': 'Guides',
    'gen_ai.agent.version': '2',
    'gen_ai.agent.id': agentId,
    'gen_ai.conversation.id': threadId,
    'agent_events.run.id': runId,
    'agent_events.run.status': 'success',
    'gen_ai.request.model': 'm1',
    'gen_ai.usage.input_tokens': 6,
    'gen_ai.usage.output_tokens': 7
  })
  t.equal(run.status.code, SpanStatusCode.UNSET)
  t.equal(run.instrumentationScope.name, 'fastify-agent-events')
  const broken = all.get('execute_tool breaks')!
  t.equal(parentOf(broken), idOf(run))
  t.match(broken.attributes, { 'gen_ai.operation.name': 'execute_tool', 'gen_ai.tool.name': 'breaks', 'gen_ai.tool.type': 'function', 'gen_ai.tool.description': 'Breaks', 'error.type': 'E_BROKEN' })
  t.strictSame(broken.status, { code: SpanStatusCode.ERROR }, 'without the text of the error')
  t.equal(parentOf(all.get('step')), idOf(run), 'what the agent opens itself lies under its run')
  t.equal(parentOf(all.get('invoke_agent helper')), idOf(all.get('step')), 'and what it calls in there lies there')
  t.equal(parentOf(all.get('execute_tool look')), idOf(all.get('invoke_agent helper')), 'the later one of the two')
  t.equal(parentOf(all.get('database')), idOf(all.get('execute_tool look')), 'the context reaches into tools')
  t.notMatch(JSON.stringify([...all.values()].map(({ attributes, status, events }) => ({ attributes, status, events }))), 'secret', 'no arguments, results, messages or texts of errors')
})

t.test('with content the spans say what was said', async (t) => {
  await watchRun(t, guide, { input: { message: 'secret question' }, options: { tracing: { content: true } } })
  const all = spans()
  t.match(all.get('invoke_agent guide')!.attributes, {
    'gen_ai.input.messages': JSON.stringify([{ role: 'user', parts: [{ type: 'text', content: '{"message":"secret question"}' }] }]),
    'gen_ai.output.messages': JSON.stringify([{ role: 'assistant', parts: [{ type: 'text', content: 'a secret answer' }] }])
  })
  t.match(all.get('execute_tool look')!.attributes, { 'gen_ai.tool.call.arguments': '{"query":"depth"}', 'gen_ai.tool.call.result': '{"found":"secret depth"}' })
  t.match(all.get('execute_tool breaks')!.status, { code: SpanStatusCode.ERROR, message: 'a secret failure' })
})

t.test('however a run ends, its span ends with it', async (t) => {
  const stuck = defineTool({ name: 'stuck', description: 'Never ends', execute: () => new Promise(() => {}) })
  const ends = defineAgent({
    name: 'ends',
    description: 'Ends',
    tools: [stuck],
    async run ({ message }, ctx) {
      if (message === 'throw') throw Object.assign(new Error('no'), { code: 'E_NO' })
      await ctx.tools.stuck()
    }
  })
  const failed = await watchRun(t, ends, { input: { message: 'throw' }, options: { tracing: true } })
  t.equal(failed.completed.data.status, 'error')
  t.match(spans().get('invoke_agent ends'), { attributes: { 'agent_events.run.status': 'error', 'error.type': 'E_NO' }, status: { code: SpanStatusCode.ERROR } })

  const { app, url } = await startApp(t, { agents: [ends], tracing: true })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  const { body: { runId } } = await post(url, `/threads/${threadId}/messages`, 'u', { content: 'wait' })
  await tab.frame('tool_executing')
  await post(url, `/runs/${runId}/cancel`, 'u')
  await tab.frame('agent_completed')
  const all = spans()
  t.match(all.get('invoke_agent ends')!.attributes, { 'agent_events.run.status': 'cancelled', 'error.type': 'FAE_ERR_RUN_CANCELLED' })
  t.match(all.get('execute_tool stuck')!.attributes, { 'error.type': 'FAE_ERR_TOOL_CANCELLED' })
})

t.test('a run belongs to what asked for it, and one that waited for its turn to nothing', async (t) => {
  const releases: Array<() => void> = []
  const waits = defineAgent({ name: 'waits', description: 'Waits', run: () => new Promise<void>((resolve) => { releases.push(resolve) }) })
  const { app, url } = await startApp(t, { agents: [waits], tracing: true })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  const request = host.startSpan('request')
  const runIds = await context.with(trace.setSpan(context.active(), request), async () => {
    const first = await app.agents.send({ user: { userId: 'u' }, threadId, content: 'one' })
    const second = await app.agents.send({ user: { userId: 'u' }, threadId, content: 'two' })
    return [first.runId, second.runId]
  })
  request.end()
  for (let i = 0; i < 2; i++) {
    while (releases.length <= i) await new Promise((resolve) => { setImmediate(resolve) })
    releases[i]!()
    await tab.frame('agent_completed', (event) => event.runId === runIds[i])
  }
  const runs = exporter.getFinishedSpans().filter(({ name }) => name === 'invoke_agent waits')
  t.strictSame(runs.map(({ attributes }) => attributes['agent_events.run.id']), runIds)
  t.strictSame(runs.map((span) => parentOf(span)), [request.spanContext().spanId, undefined])
})

t.test('off there are none, and other values are refused', async (t) => {
  await watchRun(t, guide, { input: { message: 'x' } })
  t.strictSame([...spans().keys()].filter((name) => name.includes('guide') || name.includes('tool')), [])
  for (const tracing of ['yes', 1, null]) await t.rejects(startApp(t, { tracing: tracing as never }), { code: 'FAE_ERR_OPTION_INVALID', message: /'tracing'/ })
})

t.test('without the package the error names the line to type', async (t) => {
  const hooks = `export async function resolve (specifier, context, next) {
    if (specifier === '@opentelemetry/api') throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' })
    return next(specifier, context)
  }`
  const code = `
    import { register } from 'node:module'
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)})
    const { default: agentEvents } = await import('${new URL('../../../index.ts', import.meta.url).href}')
    const { default: Fastify } = await import('fastify')
    const app = Fastify()
    app.register(agentEvents, { authenticate: () => null, tracing: true })
    await app.ready().catch((error) => { console.log(error.code, error.message) })
  `
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], { env: childEnv })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => { output += String(chunk) })
  child.stderr.on('data', (chunk: Buffer) => { output += String(chunk) })
  await new Promise((resolve) => { child.once('close', resolve) })
  t.match(output, /^FAE_ERR_PACKAGE_MISSING .*npm i @opentelemetry\/api\n$/)
})
