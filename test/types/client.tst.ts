import { describe, expect, test } from 'tstyche'
import { createClient, type AgentEvent, type AgentEventsError, type AgentInput, type AgentOutput, type Client, type ClientOptions, type EventMap, type EventOf, type Thread, type ToolInput, type ToolOutput, type ToolsOf } from '../../client/index.js'
import type { EventType, Failure, MessageContent, RunStatus, ToolPhase, ToolStatus, Trigger, Usage } from '../../schemas/index.js'
import type { WebSocket } from 'ws'
import type { agents, hello, nothing, researcher, triage } from './definitions.js'

const client = {} as Client<typeof agents>
const thread = {} as Thread<typeof agents>

describe('what the definitions say', () => {
  type Search = Extract<ToolsOf<typeof triage>, { name: 'search' }>

  test('input and output are what travels as JSON', () => {
    expect<ToolInput<Search>>().type.toBe<{ query: string, limit?: number }>()
    expect<ToolOutput<Search>>().type.toBe<{ answer: string, at: string, n: number }>()
    expect<AgentInput<typeof researcher>>().type.toBe<{ topic: string }>()
    expect<AgentOutput<typeof researcher>>().type.toBe<readonly [string, number]>()
    expect<AgentOutput<typeof triage>>().type.toBe<{ answer: string }>()
  })

  test('what returns nothing arrives as nothing', () => {
    expect<ToolOutput<typeof nothing>>().type.toBe<undefined>()
    expect<AgentOutput<typeof hello>>().type.toBe<undefined>()
  })

  test('agents come as one, an array or a record, and bring those that they call', () => {
    expect<EventOf<'agent_started', typeof hello>['data']['agent']>().type.toBe<'hello'>()
    expect<EventOf<'agent_started', typeof triage>['data']['agent']>().type.toBe<'triage' | 'researcher'>()
    expect<EventOf<'agent_started', { a: typeof hello, b: typeof researcher }>['data']['agent']>().type.toBe<'hello' | 'researcher'>()
    expect<EventOf<'agent_started', typeof agents>['data']['agent']>().type.toBe<'triage' | 'researcher' | 'hello'>()
  })
})

describe('events', () => {
  test('tool_completed narrows by tool and status', () => {
    thread.on('tool_completed', ({ data }) => {
      expect(data.tool).type.toBe<'search' | 'now' | 'read_section' | 'reversed'>()
      if (data.status === 'ok' && data.tool === 'search') expect(data.output).type.toBe<{ answer: string, at: string, n: number }>()
      if (data.tool === 'now' && data.status === 'ok') expect(data.output).type.toBe<number>()
      if (data.status !== 'ok') expect(data.error).type.toBe<Failure>()
      expect<'serach'>().type.not.toBeAssignableTo<typeof data.tool>()
      if (data.tool === 'search' && data.status === 'ok') expect(data.output).type.not.toHaveProperty('body')
      expect(data.durationMs).type.toBe<number>()
    })
  })

  test('tool_executing has args on phase start alone', () => {
    thread.on('tool_executing', ({ data }) => {
      expect(data.phase).type.toBe<ToolPhase>()
      expect(data.attempt).type.toBe<number>()
      if (data.tool === 'search' && data.phase === 'start') expect(data.args).type.toBe<{ query: string, limit?: number }>()
      if (data.tool === 'search') expect(data.args).type.toBe<{ query: string, limit?: number } | undefined>()
      if (data.phase === 'progress' || data.phase === 'running') {
        expect(data.args).type.toBe<undefined>()
        expect(data.progress).type.toBe<number | undefined>()
      }
      if (data.phase === 'input_delta') {
        expect(data.argsText).type.toBe<string>()
        expect(data.args).type.toBe<undefined>()
      }
    })
  })

  test('the schemas decide which statuses there are', () => {
    thread.on('tool_completed', ({ data }) => { expect(data.status).type.toBe<ToolStatus>() })
    thread.on('agent_completed', ({ data }) => { expect(data.status).type.toBe<RunStatus>() })
    expect<keyof EventMap>().type.toBe<EventType>()
  })

  test('what the server does not say does not compile', () => {
    thread.on('tool_completed', ({ data }) => {
      if (data.tool === 'search') expect(data.output).type.toBe<{ answer: string, at: string, n: number } | undefined>()
      expect<'grep'>().type.not.toBeAssignableTo<typeof data.tool>()
    })
    thread.on('agent_completed', ({ data }) => {
      if (data.agent === 'triage' && data.status === 'success') expect(data.result).type.not.toHaveProperty('reply')
      expect<'triag'>().type.not.toBeAssignableTo<typeof data.agent>()
    })
  })

  test('agent_completed narrows by agent and status', () => {
    thread.on('agent_completed', ({ data }) => {
      if (data.agent === 'triage' && data.status === 'success') expect(data.result).type.toBe<{ answer: string }>()
      if (data.status === 'error') expect(data.error).type.toBe<Failure>()
      if (data.status === 'cancelled') expect(data.reason).type.toBe<string | undefined>()
      expect(data.usage).type.toBe<Usage[] | undefined>()
    })
  })

  test('the others have all their fields', () => {
    thread.on('user_message', (event) => { expect(event.data.content).type.toBe<MessageContent>() })
    thread.on('agent_started', (event) => { expect(event.data.trigger).type.toBe<Trigger>() })
    thread.on('agent_thinking', (event) => { expect(event.data.phase).type.toBe<'start' | 'delta' | 'end' | 'full'>() })
    thread.on('assistant_message', (event) => {
      expect(event.data.partId).type.toBe<string>()
      expect(event.runId).type.toBe<string | undefined>()
      expect(event.seq).type.toBe<number>()
    })
    thread.on('custom', (event) => { expect(event.data.value).type.toBe<unknown>() })
    expect(thread.on).type.not.toBeCallableWith('agent_finished', () => {})
  })

  test('iteration and onAny give them all, told apart by type', async () => {
    for await (const event of thread) {
      if (event.type === 'tool_completed' && event.data.tool === 'now' && event.data.status === 'ok') expect(event.data.output).type.toBe<number>()
    }
    thread.onAny((event) => {
      expect(event).type.toBe<AgentEvent<typeof agents>>()
      expect(event.type).type.toBe<EventType>()
    })
  })
})

describe('runs', () => {
  test('result is what the agent returns', async () => {
    const run = await thread.send('hi', { agent: 'triage' })
    expect(await run.result()).type.toBe<{ answer: string }>()
    expect(await run.completed).type.toBe<EventOf<'agent_completed', typeof agents>>()
    expect(await (await thread.send('hi')).result()).type.toBe<{ answer: string } | readonly [string, number] | undefined>()
  })

  test('agent and input are checked', () => {
    expect(thread.send).type.toBeCallableWith('hi', { agent: 'researcher', input: { topic: 'x' }, clientMessageId: 'm1' })
    expect(thread.send).type.toBeCallableWith(undefined, { agent: 'researcher', input: { topic: 'x' } })
    expect(thread.send).type.toBeCallableWith([{ type: 'text', text: 'x' }])
    expect(thread.send).type.not.toBeCallableWith('hi', { agent: 'triag' })
    expect(thread.send).type.not.toBeCallableWith('hi', { agent: 'researcher', input: { subject: 'x' } })
    expect(thread.send).type.not.toBeCallableWith()
  })
})

describe('without a type parameter', () => {
  const plain = createClient({ url: '/' })

  test('everything works, without casts', async () => {
    expect(plain).type.toBe<Client>()
    plain.thread('x').on('tool_completed', ({ data }) => {
      expect(data.tool).type.toBe<string>()
      if (data.status === 'ok') expect(data.output).type.toBe<any>()
    })
    const run = await plain.thread('x').send('hi', { agent: 'whoever', input: { anything: 1 } })
    expect(await run.result()).type.toBe<any>()
    const toolCallId = (event: EventOf<'tool_completed'>) => event.data.toolCallId
    expect(toolCallId).type.toBe<(event: EventOf<'tool_completed'>) => string>()
  })
})

describe('the client', () => {
  test('createClient takes the types of the server', () => {
    expect(createClient<typeof agents>({ url: '/agent-events' }).thread('t')).type.toBe<Thread<typeof agents>>()
    expect(client.connected?.inbox).type.toBe<string | undefined>()
    expect(client.error).type.toBe<AgentEventsError | undefined>()
    expect(client.error?.code).type.toBeAssignableTo<string | undefined>()
  })

  test('a WebSocket of ws and of a browser both fit', () => {
    expect<typeof WebSocket>().type.toBeAssignableTo<NonNullable<ClientOptions['WebSocket']>>()
    expect<typeof globalThis.WebSocket>().type.toBeAssignableTo<NonNullable<ClientOptions['WebSocket']>>()
    expect(createClient).type.not.toBeCallableWith({ url: '/', WebSocket: class {} })
    expect(createClient).type.not.toBeCallableWith({ url: '/', retries: 1 })
  })
})
