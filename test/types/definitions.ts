import { Type } from '@sinclair/typebox'
import { defineAgent } from '../../plugins/agent-registry/define-agent.js'
import { defineTool } from '../../plugins/tool-dispatcher/define-tool.js'

/* Definitions as a host writes them; the tests ask what follows from them. */

export const search = defineTool({
  name: 'search',
  description: 'Search the handbook',
  inputSchema: Type.Object({ query: Type.String(), limit: Type.Optional(Type.Integer()) }),
  async execute ({ query, limit }, { signal }) {
    signal.throwIfAborted()
    return { answer: query.toUpperCase(), at: new Date(), n: limit ?? 3 }
  }
})

export const now = defineTool({ name: 'now', description: 'The time', execute: () => Date.now() })

export const read = defineTool({
  name: 'read_section',
  description: 'Reads a section',
  inputSchema: Type.Object({ path: Type.String() }),
  outputSchema: Type.Object({ text: Type.String() }),
  execute: async ({ path }) => ({ text: path })
})

// the order of the properties must not matter to inference
export const reversed = defineTool({
  execute: async ({ a }) => ({ doubled: a * 2 }),
  inputSchema: Type.Object({ a: Type.Number() }),
  description: 'Doubles',
  name: 'reversed'
})

export const nothing = defineTool({ name: 'nothing', description: 'Returns nothing', async execute () {} })

export const literal = defineTool({
  name: 'literal',
  description: 'Returns one of two words',
  outputSchema: Type.Object({ k: Type.Union([Type.Literal('a'), Type.Literal('b')]) }),
  execute: async () => ({ k: 'a' as const })
})

export const researcher = defineAgent({
  name: 'researcher',
  description: 'Researches a topic',
  inputSchema: Type.Object({ topic: Type.String() }),
  tools: [now],
  fromMessage: ({ text }) => ({ topic: text }),
  async run ({ topic }, ctx) {
    return [topic, await ctx.tools.now()] as const
  }
})

export const triage = defineAgent({
  name: 'triage',
  description: 'Answers a support question',
  tools: [search, now, read, reversed],
  agents: [researcher],
  inputSchema: Type.Object({ message: Type.String() }),
  async run ({ message }, ctx) {
    await ctx.think('Looking it up', { kind: 'status', step: { name: 'search', index: 1, total: 2 } })
    const hits = await ctx.tools.search({ query: message })
    await ctx.say(hits.answer)
    return { answer: hits.answer }
  }
})

// default input is { message: string }, no tools
export const hello = defineAgent({
  name: 'hello',
  description: 'Says hello',
  async run ({ message }, ctx) { await ctx.say(message) }
})

export const graded = defineAgent({
  name: 'graded',
  description: 'Has a checked output',
  outputSchema: Type.Object({ grade: Type.Union([Type.Literal('good'), Type.Literal('bad')]) }),
  run: () => ({ grade: 'good' as const })
})

export const agents = [triage, researcher, hello]
