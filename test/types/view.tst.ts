import { describe, expect, test } from 'tstyche'
import type { AgentEvent, Client } from '../../client/index.js'
import { initialState, reduce, type Message, type Part, type Run, type TextPart, type ThreadState, type ToolPart } from '../../client/state/index.js'
import { useThread, type ThreadView } from '../../client/react/index.js'
import type { Failure } from '../../schemas/index.js'
import type { agents } from './definitions.js'

const client = {} as Client<typeof agents>

describe('parts', () => {
  const { messages } = useThread(client, 't')

  test('a tool part narrows by tool and state', () => {
    for (const message of messages) {
      for (const part of message.parts) {
        if (part.type !== 'tool') continue
        expect(part.tool).type.toBe<'search' | 'now' | 'read_section' | 'reversed'>()
        expect<'grep'>().type.not.toBeAssignableTo<typeof part.tool>()
        if (part.tool === 'search' && part.state === 'ok') {
          expect(part.output).type.toBe<{ answer: string, at: string, n: number }>()
          expect(part.args).type.toBe<{ query: string, limit?: number }>()
          expect(part.durationMs).type.toBe<number>()
          expect(part.output).type.not.toHaveProperty('body')
        }
        if (part.tool === 'now' && part.state === 'ok') expect(part.output).type.toBe<number>()
        if (part.state === 'input') expect(part.argsText).type.toBe<string>()
        if (part.tool === 'search' && part.state === 'running') expect(part.args.query).type.toBe<string>()
        if (part.state === 'denied' || part.state === 'timeout') expect(part.error).type.toBe<Failure>()
        expect(part.state).type.toBe<'input' | 'running' | 'ok' | 'error' | 'denied' | 'cancelled' | 'timeout'>()
      }
    }
  })

  test('the others', () => {
    const part = {} as Part<typeof agents>
    expect(part.type).type.toBe<'text' | 'file' | 'thinking' | 'tool' | 'custom'>()
    expect(part.id).type.toBe<string>()
    if (part.type === 'text') expect(part).type.toBe<TextPart>()
    if (part.type === 'custom') expect(part.value).type.toBe<unknown>()
  })

  test('nothing can be changed', () => {
    expect<ThreadState['messages']>().type.toBe<readonly Message[]>()
    expect<Message['parts']>().type.toBe<readonly Part[]>()
  })
})

describe('runs', () => {
  test('narrow by agent and status', () => {
    const run = {} as Run<typeof agents>
    expect(run.agent).type.toBe<'triage' | 'researcher' | 'hello'>()
    expect(run.status).type.toBe<'running' | 'success' | 'error' | 'cancelled' | 'timeout' | 'lost'>()
    if (run.agent === 'triage' && run.status === 'success') expect(run.result).type.toBe<{ answer: string }>()
    if (run.status === 'lost') expect(run.error).type.toBe<Failure>()
    if (run.status === 'running') expect(run.durationMs).type.toBe<undefined>()
  })
})

describe('the reducer', () => {
  test('is typed like the client', () => {
    const state = initialState<typeof agents>()
    expect(reduce(state, {} as AgentEvent<typeof agents>)).type.toBe<ThreadState<typeof agents>>()
    expect(reduce).type.not.toBeCallableWith(state, { type: 'tool_completed' })
  })
})

describe('useThread', () => {
  const view = useThread(client, 't')

  test('infers from the client', async () => {
    expect(view).type.toBe<ThreadView<typeof agents>>()
    expect(view.messages).type.toBe<readonly Message<typeof agents>[]>()
    expect(await (await view.send('hi', { agent: 'triage' })).result()).type.toBe<{ answer: string }>()
    expect(view.send).type.not.toBeCallableWith('hi', { agent: 'triag' })
    expect(view.cancel).type.toBeCallableWith()
    expect(view.cancel).type.toBeCallableWith('run')
  })

  test('without types all is open', () => {
    const plain = useThread({} as Client, 't')
    expect(plain).type.toBe<ThreadView>()
    for (const { parts } of plain.messages) {
      for (const part of parts) if (part.type === 'tool' && part.state === 'ok') expect(part.output).type.toBe<any>()
    }
    expect<ToolPart['tool']>().type.toBe<string>()
  })
})
