import Fastify from 'fastify'
import agentEvents, { defineAgent, defineTool, Type } from 'fastify-agent-events'

const handbook = {
  returns: 'Send it back within 30 days.',
  delivery: 'It takes two days, by bicycle.'
}

const search = defineTool({
  name: 'search',
  description: 'Search the handbook',
  inputSchema: Type.Object({ query: Type.String() }),
  execute: ({ query }) => Object.entries(handbook).filter(([topic]) => query.includes(topic)).map(([, text]) => text)
})

const triage = defineAgent({
  name: 'triage',
  description: 'Answers a support question',
  tools: [search],
  async run ({ message }, ctx) {                                    // agent_started
    await ctx.think('Looking it up')                                // agent_thinking
    const found = await ctx.tools.search({ query: message })        // tool_executing, tool_completed
    await ctx.say(found.join(' ') || 'The handbook does not say.')  // assistant_message
    return { found: found.length }                                  // agent_completed
  }
})

const app = Fastify()
await app.register(agentEvents, {
  agents: [triage],
  authenticate: async (request) => ({ userId: 'ada' })              // who is asking: look into your session, null is nobody
})
await app.listen({ port: 3000 })
