import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { FAE_ERR_RUN_ENDED } from '../errors.js'
import { AgentList, CancelBody, RunList, RunParams, ToolList } from '../schemas/index.js'
import { userOf } from './scope.js'

/** Runs, and what can be run. */
export const runRoutes: FastifyPluginAsyncTypebox = async (app) => {
  app.get('/runs', { schema: { response: { 200: RunList } } }, async (request) => {
    return { runs: app.agents.active({ userId: userOf(request).userId }) }
  })

  app.post('/runs/:runId/cancel', {
    schema: { params: RunParams, body: CancelBody },
    // Everything in the body is optional, and so is the body.
    preValidation: async (request) => { request.body ??= {} }
  }, async (request) => {
    const { runId } = request.params
    if (!await app.agents.cancel(runId, { ...request.body, user: userOf(request) })) throw new FAE_ERR_RUN_ENDED(runId)
    return { runId }
  })

  app.get('/agents', { schema: { response: { 200: AgentList } } }, async () => ({ agents: app.agents.list() }))

  app.get('/tools', { schema: { response: { 200: ToolList } } }, async () => ({ tools: app.tools.list() }))
}
