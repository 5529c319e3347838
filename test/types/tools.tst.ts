import { Type } from '@sinclair/typebox'
import { describe, expect, test } from 'tstyche'
import { defineTool, type AnyTool, type ToolContext } from '../../plugins/tool-dispatcher/define-tool.js'
import type { User } from '../../plugins/thread-registry/user.js'
import { literal, nothing, now, read, reversed, search } from './definitions.js'

describe('defineTool', () => {
  test('types input from inputSchema', () => {
    defineTool({
      name: 'search',
      description: 'x',
      inputSchema: Type.Object({ query: Type.String(), limit: Type.Optional(Type.Integer()) }),
      execute ({ query, limit }, ctx) {
        expect(query).type.toBe<string>()
        expect(limit).type.toBe<number | undefined>()
        expect(ctx).type.toBe<ToolContext>()
        expect(ctx.signal).type.toBe<AbortSignal>()
        expect(ctx.user).type.toBe<User>()
        expect(ctx.run).type.toBeAssignableTo<{ threadId: string, runId: string, agentId: string }>()
        expect(ctx.progress).type.toBeCallableWith(0.5, 'half')
      }
    })
  })

  test('keeps the name as a literal', () => {
    expect(search.name).type.toBe<'search'>()
    expect(reversed.name).type.toBe<'reversed'>()
  })

  test('output is what execute returns, or the outputSchema', () => {
    expect<Awaited<ReturnType<typeof search.execute>>>().type.toBe<{ answer: string, at: Date, n: number }>()
    expect<Awaited<ReturnType<typeof now.execute>>>().type.toBe<number>()
    expect<Awaited<ReturnType<typeof read.execute>>>().type.toBe<{ text: string }>()
    expect<Awaited<ReturnType<typeof reversed.execute>>>().type.toBe<{ doubled: number }>()
    expect<Awaited<ReturnType<typeof nothing.execute>>>().type.toBe<void>()
    expect<Awaited<ReturnType<typeof literal.execute>>>().type.toBe<{ k: 'a' | 'b' }>()
  })

  test('an output that does not match outputSchema is an error', () => {
    expect(defineTool).type.not.toBeCallableWith({ name: 'bad', description: 'x', outputSchema: Type.Object({ text: Type.String() }), execute: async () => ({ text: 1 }) })
    expect(defineTool).type.toBeCallableWith({ name: 'good', description: 'x', outputSchema: Type.Object({ text: Type.String() }), execute: async () => ({ text: '1' }) })
  })

  test('name, description and execute are required, unknown fields refused', () => {
    expect(defineTool).type.not.toBeCallableWith({ description: 'x', execute () {} })
    expect(defineTool).type.not.toBeCallableWith({ name: 'x', execute () {} })
    expect(defineTool).type.not.toBeCallableWith({ name: 'x', description: 'x' })
    expect(defineTool).type.not.toBeCallableWith({ name: 'x', description: 'x', execute () {}, timeout: 5 })
  })

  test('every tool fits AnyTool', () => {
    expect([search, now, read, reversed, nothing, literal]).type.toBeAssignableTo<readonly AnyTool[]>()
  })
})
