import Fastify, { type FastifyInstance } from 'fastify'
import agentEvents, { Type, defineAgent } from 'fastify-agent-events'
import { authenticate } from '../authenticate.js'
import { research, support } from '../phase-3/agents.js'

/*
 * Phase 4, remove: one registry, no shims, no switch, no sockets of the desk's own. Threads are registered, runs have the
 * ids that they are given, and what is not an agent's event is one of the desk's own, with a schema.
 */

const report = defineAgent({
  name: 'report',
  description: 'Writes a report',
  async run ({ message }, ctx) {
    await ctx.think('Writing')
    const title = `A report on ${message}`
    await ctx.emit('report_ready', { title })
    return title
  }
})

interface Question { message: string, threadId: string }

export async function buildDesk (): Promise<{ app: FastifyInstance }> {
  const app: FastifyInstance = Fastify()
  await app.register(agentEvents, {
    agents: [support, research, report],
    events: { report_ready: Type.Object({ title: Type.String() }) },
    authenticate
  })

  for (const agent of [support, research, report]) {
    app.post<{ Body: Question, Headers: { 'x-user-id': string } }>(`/${agent.name}`, async ({ body: { message, threadId }, headers }) => {
      const userId = headers['x-user-id']
      await app.threads.register({ userId, threadId })
      const instance = await app.agents.createForUser(agent, { userId, threadId })
      return { runId: instance.runId, result: await instance.execute({ message }) }
    })
  }
  return { app }
}

if (process.argv[1] === import.meta.filename) {
  const { app } = await buildDesk()
  process.stdout.write(`the desk is at ${await app.listen({ port: Number(process.env['PORT'] ?? 3000) })}\n`)
}
