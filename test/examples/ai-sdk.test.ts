import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { simulateReadableStream } from 'ai'
import { MockLanguageModelV3 } from 'ai/test'
import t, { type Test } from 'tap'
import { createAssistant, type AssistantOptions } from '../../examples/ai-sdk/agent.js'
import { offlineModel } from '../../examples/ai-sdk/offline-model.js'
import { daysBetween } from '../../examples/ai-sdk/tools.js'
import type { AgentEvent, EventOf } from '../../schemas/index.js'
import { connect, post, type Receiver } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { childEnv } from '../support/child-env.js'

type Stream = Awaited<ReturnType<MockLanguageModelV3['doStream']>>['stream']
type Part = Stream extends ReadableStream<infer P> ? P : never

const QUESTION = 'How many days are there from 2026-01-01 to 2026-12-24?'
const usage = { inputTokens: { total: 3, noCache: 3, cacheRead: 0, cacheWrite: 0 }, outputTokens: { total: 4, text: 4, reasoning: 0 } }
const finish: Part = { type: 'finish', finishReason: { unified: 'stop', raw: 'stop' }, usage }

/** A thread of ada's with an assistant on this model, and a socket that follows it. */
async function start (t: Test, options: AssistantOptions) {
  const { url } = await startApp(t, { agents: [createAssistant(options)] })
  await post(url, '/threads', 'ada', { threadId: 't1' })
  const receiver = await connect(t, url, 'ada')
  receiver.send({ type: 'subscribe', threadId: 't1' })
  await receiver.frame('subscribed')
  return { url, receiver }
}

let sent = 0
async function ask (receiver: Receiver, content: string): Promise<string> {
  const ref = String(++sent)
  receiver.send({ type: 'send', ref, threadId: 't1', content, clientMessageId: ref })
  return (await receiver.frame('accepted', (frame) => frame.ref === ref)).runId
}

async function askToTheEnd (receiver: Receiver, content: string): Promise<EventOf<'agent_completed'>> {
  const runId = await ask(receiver, content)
  return receiver.frame('agent_completed', (event) => event.runId === runId)
}

/** Each block of text and each other event once: its type, and its whole text where it has one. */
function blocks (events: AgentEvent[]): string[][] {
  const seen = new Map<string, string[]>()
  for (const event of events) {
    if (event.type !== 'assistant_message' && event.type !== 'agent_thinking') {
      seen.set(event.id, [event.type])
      continue
    }
    const id = event.type === 'assistant_message' ? event.data.partId : event.data.thinkingId
    const [, before = ''] = seen.get(id) ?? []
    seen.set(id, [event.type, before + event.data.text])
  }
  return [...seen.values()]
}

function phases (events: AgentEvent[], type: 'assistant_message' | 'agent_thinking'): string[][] {
  const byBlock = new Map<string, string[]>()
  for (const event of events) {
    if (event.type !== type) continue
    const id = 'partId' in event.data ? event.data.partId : event.data.thinkingId
    byBlock.set(id, [...byBlock.get(id) ?? [], event.data.phase])
  }
  return [...byBlock.values()]
}

t.test('what the model reasons, says and calls becomes the events of its run, in its order', async (t) => {
  const model = offlineModel()
  const { receiver } = await start(t, { model, tools: [daysBetween], instructions: 'Be exact' })
  const completed = await askToTheEnd(receiver, QUESTION)
  const events = receiver.events()

  t.same(blocks(events), [
    ['user_message'],
    ['agent_started'],
    ['agent_thinking', 'The user names 2026-01-01 and 2026-12-24. I had better not count in my head.'],
    ['assistant_message', 'Let me count.'],
    ['tool_executing'],
    ['tool_completed'],
    ['assistant_message', 'It is 357 days.'],
    ['agent_completed']
  ])
  t.ok(events.every((event) => event.type !== 'agent_thinking' || event.data.kind === 'reasoning'))
  for (const [first, ...rest] of [...phases(events, 'agent_thinking'), ...phases(events, 'assistant_message')]) {
    t.equal(first, 'start', 'streamed')
    t.equal(rest.at(-1), 'end')
  }

  const call = events.find((event) => event.type === 'tool_executing')
  t.match(call?.data, { toolCallId: 'call-2', tool: 'days_between', args: { from: '2026-01-01', to: '2026-12-24' } })
  t.match(events.find((event) => event.type === 'tool_completed')?.data, { toolCallId: 'call-2', status: 'ok', output: { days: 357 } })
  t.match(completed.data, {
    status: 'success',
    result: { text: 'It is 357 days.', finishReason: 'stop' },
    usage: [{ model: 'offline-1', inputTokens: 60, outputTokens: 36, totalTokens: 96 }]
  }, 'usage of both steps in one sum')

  const [first, second, ...more] = model.doStreamCalls
  t.equal(more.length, 0, 'two steps')
  t.match(first?.prompt, [{ role: 'system', content: 'Be exact' }, { role: 'user', content: [{ type: 'text', text: QUESTION }] }])
  const [tool] = first?.tools ?? []
  t.match(tool, { name: 'days_between', description: daysBetween.description })
  t.same(tool?.type === 'function' && JSON.parse(JSON.stringify(tool.inputSchema)), JSON.parse(JSON.stringify(daysBetween.inputSchema)), 'TypeBox is JSON Schema')
  t.match(second?.prompt.at(-1), { role: 'tool', content: [{ type: 'tool-result', toolCallId: 'call-2', output: { type: 'json', value: { days: 357 } } }] }, 'the result went back to the model')
})

t.test('the conversation so far goes to the model', async (t) => {
  const model = offlineModel()
  const { receiver } = await start(t, { model, tools: [daysBetween] })
  await askToTheEnd(receiver, QUESTION)
  await askToTheEnd(receiver, 'Thanks')
  t.match(model.doStreamCalls.at(-1)?.prompt, [
    { role: 'user', content: [{ text: QUESTION }] },
    { role: 'assistant', content: [{ text: 'Let me count.\nIt is 357 days.' }] },
    { role: 'user', content: [{ text: 'Thanks' }] }
  ])
  t.equal(model.doStreamCalls.at(-1)?.prompt.length, 3)
})

t.test('a tool that fails is told to the model, which may go on', async (t) => {
  const { receiver } = await start(t, { model: offlineModel(), tools: [daysBetween] })
  const completed = await askToTheEnd(receiver, 'From 2026-01-01 to 2026-13-45?')
  t.match(receiver.events().find((event) => event.type === 'tool_completed')?.data, { status: 'error', error: { message: /not a day of the calendar/ } })
  t.same(blocks(receiver.events()).at(-2), ['assistant_message', 'I could not count the days.'])
  t.equal(completed.data.status, 'success')
})

t.test('arguments that do not fit are told to the model too', async (t) => {
  const model = new MockLanguageModelV3({
    doStream: async ({ prompt }) => ({
      stream: simulateReadableStream<Part>({
        chunks: prompt.at(-1)?.role === 'tool'
          ? [{ type: 'text-start', id: 't' }, { type: 'text-delta', id: 't', delta: 'Sorry' }, { type: 'text-end', id: 't' }, finish]
          : [
              { type: 'tool-call', toolCallId: 'c1', toolName: 'days_between', input: '{"from":"tomorrow"}' },
              { type: 'finish', finishReason: { unified: 'tool-calls', raw: undefined }, usage }
            ]
      })
    })
  })
  const { receiver } = await start(t, { model, tools: [daysBetween] })
  const completed = await askToTheEnd(receiver, 'How many days?')
  t.match(receiver.events().find((event) => event.type === 'tool_completed')?.data, { toolCallId: 'c1', status: 'error', error: { code: 'FAE_ERR_TOOL_INPUT' } })
  t.match(model.doStreamCalls[1]?.prompt.at(-1), { role: 'tool', content: [{ toolCallId: 'c1', output: { type: 'error-text', value: /invalid at/ } }] })
  t.match(completed.data, { status: 'success', result: { text: 'Sorry' } })
})

t.test('blocks that overlap stay apart', async (t) => {
  const model = new MockLanguageModelV3({
    doStream: async () => ({
      stream: simulateReadableStream<Part>({
        chunks: [
          { type: 'text-start', id: 'a' },
          { type: 'reasoning-start', id: 'b' },
          { type: 'text-delta', id: 'a', delta: 'one ' },
          { type: 'reasoning-delta', id: 'b', delta: 'hm ' },
          { type: 'text-start', id: 'c' },
          { type: 'text-delta', id: 'c', delta: 'three' },
          { type: 'text-delta', id: 'a', delta: 'two' },
          { type: 'text-end', id: 'a' },
          { type: 'reasoning-delta', id: 'b', delta: 'hm' },
          { type: 'reasoning-end', id: 'b' },
          { type: 'text-end', id: 'c' },
          finish
        ]
      })
    })
  })
  const { receiver } = await start(t, { model })
  await askToTheEnd(receiver, 'Hello')
  t.same(blocks(receiver.events()).slice(2, -1).sort(), [['agent_thinking', 'hm hm'], ['assistant_message', 'one two'], ['assistant_message', 'three']])
})

t.test('cancel in the middle of a stream aborts the model', async (t) => {
  let signal: AbortSignal | undefined
  let cancelled = false
  const model = new MockLanguageModelV3({
    doStream: async ({ abortSignal }) => {
      signal = abortSignal
      return {
        stream: new ReadableStream<Part>({
          start (controller) {
            controller.enqueue({ type: 'text-start', id: 't' })
            controller.enqueue({ type: 'text-delta', id: 't', delta: 'This goes on for ' })
            controller.enqueue({ type: 'text-delta', id: 't', delta: 'ever' })
            abortSignal?.addEventListener('abort', () => {
              cancelled = true
              controller.error(abortSignal.reason)
            })
          }
        })
      }
    }
  })
  const { receiver } = await start(t, { model })
  const runId = await ask(receiver, 'Tell me all')
  await receiver.frame('assistant_message')
  t.equal(signal?.aborted, false)
  receiver.send({ type: 'cancel', runId })
  const completed = await receiver.frame('agent_completed')
  t.match(completed.data, { status: 'cancelled', error: { code: 'FAE_ERR_RUN_CANCELLED' } })
  t.ok(signal?.aborted && cancelled, 'the model was told')
  const [said] = phases(receiver.events(), 'assistant_message')
  t.equal(said?.at(-1), 'end', 'what was open is closed')
  t.equal(receiver.events().at(-1)?.type, 'agent_completed')
})

t.test('a model that fails ends the run as error', async (t) => {
  const outOfOrder = new MockLanguageModelV3({ doStream: async () => { throw new Error('out of order') } })
  const { receiver } = await start(t, { model: outOfOrder })
  const completed = await askToTheEnd(receiver, 'Hello')
  t.match(completed.data, { status: 'error', error: { message: 'out of order' } })
  t.same(blocks(receiver.events()), [['user_message'], ['agent_started'], ['agent_completed']])
})

t.test('also in the middle of a stream', async (t) => {
  const model = new MockLanguageModelV3({
    doStream: async () => ({
      stream: simulateReadableStream<Part>({
        chunks: [{ type: 'text-start', id: 't' }, { type: 'text-delta', id: 't', delta: 'I think' }, { type: 'error', error: new Error('overloaded') }, { ...finish, finishReason: { unified: 'error', raw: undefined } }]
      })
    })
  })
  const { receiver } = await start(t, { model })
  const completed = await askToTheEnd(receiver, 'Hello')
  t.match(completed.data, { status: 'error', error: { message: 'overloaded' } })
  t.same(blocks(receiver.events()).slice(2), [['assistant_message', 'I think'], ['agent_completed']])
  t.equal(phases(receiver.events(), 'assistant_message')[0]?.at(-1), 'end')
})

t.test('run.ts shows it in a terminal', async (t) => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--import', 'tsx', 'examples/ai-sdk/run.ts', 'From 2026-02-01 to 2026-03-01?'], { env: childEnv })
  t.match(stdout, /\d+ tool_completed .*"output":\{"days":28\}/)
  t.match(stdout, /It is 28 days\.\n$/)
  t.equal(stderr, '')
})
