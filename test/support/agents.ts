import { Type, defineAgent, defineTool } from '../../index.js'

/** Looks a word up by shouting it. */
export const search = defineTool({
  name: 'search',
  description: 'Search the handbook',
  inputSchema: Type.Object({ query: Type.String() }),
  async execute ({ query }) { return { answer: query.toUpperCase() } }
})

/** Thinks, uses a tool, streams its answer: every event type that a run has. */
export const triage = defineAgent({
  name: 'triage',
  description: 'Answers a support question',
  tools: [search],
  async run ({ message }, ctx) {
    await ctx.think('Looking it up')
    const hits = await ctx.tools.search({ query: message })
    await ctx.say(hits.answer)
    return { answer: hits.answer }
  }
})

/** The types of one run of triage, as its thread shows them. */
export const TRIAGE_EVENTS = ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'assistant_message', 'agent_completed'] as const
