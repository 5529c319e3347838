import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { FAE_ERR_THREAD_NOT_FOUND } from '../errors.js'
import { ListQuery, MessageAccepted, MessageBody, RegisterThread, Thread, ThreadList, ThreadParams } from '../schemas/index.js'
import { userOf } from './scope.js'

/** Threads: make, list, say something in, read. */
export const threadRoutes: FastifyPluginAsyncTypebox = async (app) => {
  app.post('/threads', { schema: { body: RegisterThread, response: { 200: Thread, 201: Thread } } }, async (request, reply) => {
    const { created, ...thread } = await app.threads.register({ ...request.body, userId: userOf(request).userId })
    return reply.code(created ? 201 : 200).send(thread)
  })

  app.get('/threads', { schema: { querystring: ListQuery, response: { 200: ThreadList } } }, async (request) => {
    return { threads: await app.threads.list({ ...request.query, userId: userOf(request).userId }) }
  })

  app.get('/threads/:threadId', { schema: { params: ThreadParams, response: { 200: Thread } } }, async (request) => {
    const { threadId } = request.params
    await app.threads.access(userOf(request), 'read', threadId)
    const thread = await app.threads.get(threadId)
    if (thread === undefined) throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
    return thread
  })

  app.delete('/threads/:threadId', { schema: { params: ThreadParams } }, async (request, reply) => {
    const { threadId } = request.params
    await app.threads.access(userOf(request), 'delete', threadId)
    if (!await app.threads.delete(threadId)) throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
    return reply.code(204).send()
  })

  app.post('/threads/:threadId/messages', { schema: { params: ThreadParams, body: MessageBody, response: { 202: MessageAccepted } } }, async (request, reply) => {
    const accepted = await app.agents.send({ ...request.body, threadId: request.params.threadId, user: userOf(request) })
    return reply.code(202).send(accepted)
  })
}
