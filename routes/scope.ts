import { STATUS_CODES } from 'node:http'
import { Socket } from 'node:net'
import { Value } from '@sinclair/typebox/value'
import type { TSchema } from '@sinclair/typebox'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest, FastifySchemaCompiler } from 'fastify'
import { FAE_ERR_BAD_REQUEST, FAE_ERR_INTERNAL, FAE_ERR_UNAUTHENTICATED } from '../errors.js'
import { compileSchema } from '../schemas/validate.js'
import type { User } from '../plugins/thread-registry/user.js'

/** Who is asking? `null` or a throw is answered 401 on every door. */
export type Authenticate = (request: FastifyRequest) => User | null | Promise<User | null>

type Instead = (request: FastifyRequest) => Promise<User | null | undefined>

declare module 'fastify' {
  interface FastifyRequest {
    /** Who is asking, inside the routes of fastify-agent-events. */
    agentEventsUser: User | null
  }
}

/** What our wire needs must not depend on the host's settings: validator, serializer and error handler of its own. */
export function isolateScope (scope: FastifyInstance): void {
  scope.setValidatorCompiler(typeboxValidator)
  scope.setSerializerCompiler(() => JSON.stringify)
  scope.setErrorHandler(answerError)
  // A query may hold a ticket or a host's token: no log line of ours shows it.
  scope.addHook('onRoute', (route) => { route.logSerializers = { ...route.logSerializers, req: describeRequest } })
  // After a refused upgrade no HTTP server looks after the socket any more: a peer that stays would hold app.close() open.
  scope.addHook('onResponse', async ({ raw: { headers, socket } }) => {
    if (headers.upgrade !== undefined && socket instanceof Socket) socket.destroySoon()
  })
}

/**
 * Asks before every route of the scope.
 * @param instead who it is by other means: undefined to ask `authenticate`
 */
export function requireUser (scope: FastifyInstance, authenticate: Authenticate, instead?: Instead): void {
  scope.decorateRequest('agentEventsUser', null)
  scope.addHook('onRequest', async (request) => {
    // What it throws says nothing about who asks: a store that is away knows of no ticket, and a 401 would be final.
    let user = await instead?.(request)
    if (user === undefined) {
      try {
        user = await authenticate(request)
      } catch (error) {
        request.log.info({ err: error }, 'authenticate failed')
      }
    }
    // Who was somebody until just now is nobody.
    if (user === null || user === undefined || isExpired(user)) throw new FAE_ERR_UNAUTHENTICATED()
    request.server.threads.checkUserId(user.userId)
    request.agentEventsUser = user
  })
}

/** Whether the authentication has ended. One that never does says so by nothing, or by Infinity, which is null in a ticket's JSON. */
export function isExpired ({ expiresAt }: User): boolean {
  return (expiresAt ?? Infinity) <= Date.now()
}

/** The authenticated user; the hook above has run before any handler. */
export function userOf (request: FastifyRequest): User {
  if (request.agentEventsUser === null) throw new FAE_ERR_UNAUTHENTICATED()
  return request.agentEventsUser
}

const typeboxValidator: FastifySchemaCompiler<TSchema> = ({ schema, httpPart = 'request' }) => {
  const check = compileSchema(schema)
  return (value: unknown) => {
    // Queries and parameters are text: numbers and booleans in them are converted, bodies are taken as they are.
    const converted = httpPart === 'body' ? value : Value.Convert(schema, value)
    const problem = check(converted)
    if (problem === undefined) return { value: converted }
    return { error: new FAE_ERR_BAD_REQUEST(`${httpPart} is invalid at '${problem.path}': ${problem.message}`) }
  }
}

function describeRequest ({ method, url, host, ip, socket }: FastifyRequest): Record<string, unknown> {
  return { method, url: url.replace(/\?.*$/s, ''), host, remoteAddress: ip, remotePort: socket.remotePort }
}

function answerError (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const { code, statusCode = 500, message } = error
  const isKnown = typeof code === 'string' && (code.startsWith('FAE_ERR_') || (code.startsWith('FST_ERR_') && statusCode < 500))
  if (statusCode >= 500) request.log.error({ err: error }, 'request failed')
  const answer = isKnown ? { statusCode, code, message } : withoutDetails(statusCode)
  reply.code(answer.statusCode).send({ statusCode: answer.statusCode, code: answer.code, error: STATUS_CODES[answer.statusCode] ?? 'Error', message: answer.message })
}

/** What an outsider may see of an error that is not ours: nothing but its kind. */
function withoutDetails (statusCode: number): { statusCode: number, code: string, message: string } {
  if (statusCode >= 500) {
    const { code, message } = new FAE_ERR_INTERNAL()
    return { statusCode: 500, code, message }
  }
  const { code, message } = new FAE_ERR_BAD_REQUEST(STATUS_CODES[statusCode] ?? 'Bad request')
  return { statusCode, code, message }
}
