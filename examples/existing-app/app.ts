import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import agentEvents, { defineAgent, defineTool, Type } from 'fastify-agent-events'

/*
 * A forum that was there first. It has its own Ajv settings, its own error handler, its own /health, /threads and /echo,
 * and it takes in fastify-agent-events below a prefix. Neither changes the other.
 */

export interface ForumOptions {
  /** Whether the forum registers its own @fastify/websocket before or after the plugin. @default 'before' */
  sockets?: 'before' | 'after'
  /** Where the plugin's routes live. @default the plugin's own, '/agent-events' */
  prefix?: string
  /** As Fastify takes it. @default false */
  logger?: NonNullable<FastifyServerOptions['logger']>
}

interface Topic { title: string, stars: number }

class ForumError extends Error {
  statusCode = 409
}

export async function buildForum ({ sockets = 'before', prefix, logger = false }: ForumOptions = {}): Promise<FastifyInstance> {
  const app: FastifyInstance = Fastify({
    logger,
    // Fields that a schema does not list are dropped, texts become numbers, and there is a keyword of the forum's own.
    ajv: {
      customOptions: { removeAdditional: 'all', coerceTypes: 'array' },
      plugins: [(ajv) => ajv.addKeyword({ keyword: 'notBlank', type: 'string', validate: (isAsked: boolean, text: string) => !isAsked || text.trim() !== '' })]
    }
  })
  app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
    reply.code(error.statusCode ?? 500).send({ forum: 'sorry', reason: error.message })
  })

  const topics: Topic[] = []
  const agents = [makeLibrarian(topics)]
  const registerAgentEvents = () => app.register(agentEvents, {
    agents,
    ...(prefix !== undefined && { prefix }),
    authenticate: (request) => {
      const userId = request.headers['x-user-id']
      return typeof userId === 'string' ? { userId } : null
    }
  })

  if (sockets === 'after') await registerAgentEvents()
  await app.register(websocket)
  if (sockets === 'before') await registerAgentEvents()

  app.get('/health', async () => ({ forum: 'open', topics: topics.length }))
  app.get('/threads', async () => topics)
  app.post<{ Body: Topic }>('/threads', { schema: { body: topicSchema } }, async ({ body }, reply) => {
    if (topics.some(({ title }) => title === body.title)) throw new ForumError(`'${body.title}' is there already`)
    topics.push(body)
    return reply.code(201).send(body)
  })
  app.get('/echo', { websocket: true }, (socket) => {
    socket.on('message', (data, isBinary) => { socket.send(data, { binary: isBinary }) })
  })
  return app
}

/** An agent that works on the forum's own data. */
function makeLibrarian (topics: readonly Topic[]) {
  const findTopics = defineTool({
    name: 'find_topics',
    description: 'Finds topics of the forum by a word of their title',
    inputSchema: Type.Object({ word: Type.String() }),
    execute: ({ word }) => topics.filter(({ title }) => title.toLowerCase().includes(word.toLowerCase()))
  })
  return defineAgent({
    name: 'librarian',
    description: 'Knows what the forum has talked about',
    tools: [findTopics],
    async run ({ message }, ctx) {
      await ctx.think('Looking through the topics')
      const found = await ctx.tools.find_topics({ word: message })
      await ctx.say(found.length === 0 ? 'Nothing yet.' : found.map(({ title }) => title).join(', '))
      return { found: found.length }
    }
  })
}

const topicSchema = {
  type: 'object',
  required: ['title'],
  additionalProperties: false,
  properties: { title: { type: 'string', notBlank: true }, stars: { type: 'integer', default: 0 } }
}

if (process.argv[1] === import.meta.filename) {
  const app = await buildForum({ sockets: process.argv[2] === 'after' ? 'after' : 'before' })
  process.stdout.write(`the forum is at ${await app.listen({ port: Number(process.env['PORT'] ?? 3000) })}\n`)
}
