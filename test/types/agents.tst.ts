import { Type } from '@sinclair/typebox'
import { describe, expect, test } from 'tstyche'
import { defineAgent, type AgentContext, type AnyAgent, type ConversationMessage, type IncomingMessage } from '../../plugins/agent-registry/define-agent.js'
import type { MasterAgentRegistry } from '../../plugins/agent-registry/index.js'
import type { User } from '../../plugins/thread-registry/user.js'
import type { EventPosition } from '../../schemas/index.js'
import { agents, graded, hello, now, read, researcher, reversed, search, triage } from './definitions.js'

describe('inside run', () => {
  test('tools and agents are typed functions', () => {
    defineAgent({
      name: 'triage',
      description: 'x',
      tools: [search, now, read, reversed],
      agents: [researcher],
      inputSchema: Type.Object({ message: Type.String() }),
      async run ({ message }, ctx) {
        expect(message).type.toBe<string>()
        expect(await ctx.tools.search({ query: message })).type.toBe<{ answer: string, at: Date, n: number }>()
        expect(await ctx.tools.now()).type.toBe<number>()
        expect(await ctx.tools.read_section({ path: 'x' })).type.toBe<{ text: string }>()
        expect(await ctx.tools.reversed({ a: 1 })).type.toBe<{ doubled: number }>()
        expect(await ctx.agents.researcher({ topic: 'x' })).type.toBe<readonly [string, number]>()

        expect(ctx.tools).type.not.toHaveProperty('serach')
        expect(ctx.agents).type.not.toHaveProperty('nobody')
        expect(ctx.tools.search).type.not.toBeCallableWith({ query: 1 })
        expect(ctx.tools.search).type.not.toBeCallableWith({})
        expect(ctx.tools.search).type.not.toBeCallableWith()
        expect(ctx.tools.search).type.not.toBeCallableWith({ query: 'x', nope: 1 })
        expect(ctx.agents.researcher).type.not.toBeCallableWith({ subject: 'x' })
      }
    })
  })

  test('an agent without inputSchema and tools gets a message and nothing to call', () => {
    defineAgent({
      name: 'hello',
      description: 'x',
      async run (input, ctx) {
        expect(input).type.toBe<{ message: string }>()
        expect(ctx.tools).type.not.toHaveProperty('search')
        expect(ctx.agents).type.not.toHaveProperty('researcher')
      }
    })
  })

  test('the rest of ctx', async () => {
    const ctx = {} as AgentContext
    async function * pieces () { yield 'a' }
    expect(await ctx.think('x')).type.toBe<void>()
    expect(ctx.think).type.toBeCallableWith(pieces(), { kind: 'reasoning', step: { name: 'read', index: 1 }, metadata: { signature: 'x' } })
    expect(ctx.think).type.not.toBeCallableWith('x', { kind: 'other' })
    expect(await ctx.say('x')).type.toBe<string>()
    expect(ctx.say).type.toBeCallableWith(pieces(), { metadata: { sources: [] } })
    expect(ctx.say).type.not.toBeCallableWith(1)
    expect(await ctx.callTool('search', { query: 'x' }, { toolCallId: 'call_1', argsText: '{"query":"x"}' })).type.toBe<unknown>()
    expect(await ctx.messages({ limit: 3 })).type.toBe<ConversationMessage[]>()
    expect(ctx.usage).type.toBeCallableWith({ model: 'm', inputTokens: 1 })
    expect(ctx.usage).type.not.toBeCallableWith({ inputTokens: 1 })
    expect(await ctx.emit('progress', { done: 1 })).type.toBe<EventPosition>()
    expect(ctx.signal).type.toBe<AbortSignal>()
    expect(ctx.user).type.toBe<User>()
    expect(ctx.context).type.toBe<Readonly<Record<string, unknown>>>()
    expect(ctx.run).type.toBeAssignableTo<{ readonly threadId: string, readonly runId: string, readonly agentId: string }>()
  })
})

describe('defineAgent', () => {
  test('fromMessage must make the input', () => {
    defineAgent({
      name: 'x',
      description: 'x',
      inputSchema: Type.Object({ topic: Type.String() }),
      fromMessage (message) {
        expect(message).type.toBe<IncomingMessage>()
        return { topic: message.text }
      },
      run ({ topic }) { expect(topic).type.toBe<string>() }
    })
    expect(defineAgent).type.not.toBeCallableWith({ name: 'x', description: 'x', inputSchema: Type.Object({ topic: Type.String() }), fromMessage: () => ({ subject: 'x' }), run () {} })
  })

  test('an output that does not match outputSchema is an error', () => {
    expect(defineAgent).type.not.toBeCallableWith({ name: 'x', description: 'x', outputSchema: Type.Object({ grade: Type.Number() }), run: () => ({ grade: 'x' }) })
  })

  test('concurrency and onDisconnect are one of the known', () => {
    expect(defineAgent).type.toBeCallableWith({ name: 'x', description: 'x', concurrency: 'interrupt', onDisconnect: { cancelAfterMs: 5 }, run () {} })
    expect(defineAgent).type.not.toBeCallableWith({ name: 'x', description: 'x', concurrency: 'sometimes', run () {} })
    expect(defineAgent).type.not.toBeCallableWith({ name: 'x', description: 'x', onDisconnect: 'stop', run () {} })
  })

  test('every agent fits AnyAgent', () => {
    expect(agents).type.toBeAssignableTo<readonly AnyAgent[]>()
    expect([triage, researcher, hello, graded]).type.toBeAssignableTo<readonly AnyAgent[]>()
  })
})

describe('the registry', () => {
  const registry = {} as MasterAgentRegistry

  test('a definition is the typed key', async () => {
    const agent = await registry.createForUser(triage, { userId: 'u' })
    expect(await agent.execute({ message: 'ping' })).type.toBe<{ answer: string }>()
    expect(agent.execute).type.not.toBeCallableWith({ mesage: 'ping' })
    expect(await (await registry.createForUser(hello, { userId: 'u', context: { tenant: 't' } })).execute({ message: 'x' })).type.toBe<void>()
    expect(await (await registry.createForUser(graded, { userId: 'u', user: { userId: 'u' } })).execute({ message: 'x' })).type.toBe<{ grade: 'good' | 'bad' }>()
    expect(await registry.run(researcher, { userId: 'u', input: { topic: 't' } })).type.toBe<readonly [string, number]>()
    expect(registry.run).type.not.toBeCallableWith(researcher, { userId: 'u', input: { subject: 't' } })
    expect(registry.run).type.not.toBeCallableWith(researcher, { userId: 'u' })
  })

  test('a name works too and gives unknown', async () => {
    const agent = await registry.createForUser('triage', { userId: 'u', threadId: 't' })
    expect(await agent.execute({ message: 'x' })).type.toBe<unknown>()
    expect(await registry.run('triage', { userId: 'u' })).type.toBe<unknown>()
    expect(registry.createForUser).type.not.toBeCallableWith('triage', {})
  })
})
