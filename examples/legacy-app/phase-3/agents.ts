import { Type, defineAgent, defineTool } from 'fastify-agent-events'

const HANDBOOK: Record<string, string> = { refund: 'Refunds take five days.', password: 'Reset it on the sign-in page.' }

export const searchHandbook = defineTool({
  name: 'search_handbook',
  description: 'Searches the handbook of the desk',
  inputSchema: Type.Object({ query: Type.String() }),
  execute ({ query }) {
    if (query === 'crash') throw new Error('the handbook is locked')
    return HANDBOOK[query] ?? 'Nothing about that.'
  }
})

export const readSources = defineTool({
  name: 'read_sources',
  description: 'Reads what there is on a topic',
  inputSchema: Type.Object({ topic: Type.String() }),
  execute: ({ topic }) => [`On ${topic}`, `Against ${topic}`]
})

export const support = defineAgent({
  name: 'support',
  description: 'Answers from the handbook',
  tools: [searchHandbook],
  async run ({ message }, ctx) {
    await ctx.think('Looking it up')
    return ctx.say(await ctx.tools.search_handbook({ query: message }))
  }
})

export const research = defineAgent({
  name: 'research',
  description: 'Reads around and tells of each step',
  tools: [readSources],
  run: ({ message }, ctx) => ctx.tools.read_sources({ topic: message })
})
