import { describe, expect, test } from 'tstyche'
import type { AgentEvent, ClientFrame, EventData, EventOf, EventType, Json, MessageContent, RunStatus, ServerFrame, ToolCompleted, ToolStatus } from '../../schemas/index.js'

describe('Json', () => {
  test('is what a browser receives', () => {
    expect<Json<{ at: Date, m: Map<string, number>, f: () => void, o?: Date | undefined, l: Date[] }>>().type.toBe<{ at: string, m: {}, o?: string, l: string[] }>()
    expect<Json<unknown>>().type.toBe<unknown>()
    expect<Json<any>>().type.toBe<any>()
    expect<Json<'a' | 1 | null>>().type.toBe<'a' | 1 | null>()
    expect<Json<bigint>>().type.toBe<never>()
    expect<Json<readonly [string, number]>>().type.toBe<readonly [string, number]>()
  })
})

describe('events', () => {
  test('are told apart by type', () => {
    const event = {} as AgentEvent
    expect(event.type).type.toBe<EventType>()
    if (event.type === 'tool_completed') {
      expect(event).type.toBe<ToolCompleted>()
      expect(event.data.status).type.toBe<ToolStatus>()
      expect(event.data.output).type.toBe<unknown>()
    }
    if (event.type === 'user_message') expect(event.data.content).type.toBe<MessageContent>()
    if (event.type === 'agent_completed') expect(event.data.status).type.toBe<RunStatus>()
    expect<EventOf<'tool_completed'>>().type.toBe<ToolCompleted>()
    expect<EventData<'tool_completed'>>().type.toBe<ToolCompleted['data']>()
    expect(event.v).type.toBe<1>()
    expect<AgentEvent['runId']>().type.toBe<string | undefined>()
  })

  test('content is a string or parts', () => {
    expect<string>().type.toBeAssignableTo<MessageContent>()
    expect<[{ type: 'text', text: string }, { type: 'file', mediaType: string, url: string }]>().type.toBeAssignableTo<MessageContent>()
    expect<{ type: 'text', text: string }>().type.not.toBeAssignableTo<MessageContent>()
  })
})

describe('frames', () => {
  test('are told apart by type', () => {
    expect<ClientFrame['type']>().type.toBe<'subscribe' | 'unsubscribe' | 'ack' | 'send' | 'cancel' | 'refresh' | 'pong'>()
    expect<ServerFrame['type']>().type.toBe<'connected' | 'subscribed' | 'unsubscribed' | 'accepted' | 'error' | 'ping' | 'status' | 'goaway'>()
    const frame = {} as ServerFrame
    if (frame.type === 'subscribed') expect(frame.recovered).type.toBe<boolean>()
    if (frame.type === 'status') expect(frame.mode).type.toBe<'realtime' | 'degraded'>()
  })
})
