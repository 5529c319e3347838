import { createHash, timingSafeEqual } from 'node:crypto'
import { STATUS_CODES } from 'node:http'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import underPressure from '@fastify/under-pressure'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { isLocalRequest } from './authenticate-none.js'
import type { Config } from './config.js'

/** What supervisors ask must be answered also when nobody else is. */
const SUPERVISED = new Set(['/health', '/ready', '/metrics'])
const MINUTE_MS = 60_000

/** What every request meets before it is anybody's: headers, limits, CORS. */
export async function guardDoors (app: FastifyInstance, config: Config): Promise<void> {
  await app.register(helmet)
  const origins = listOf(config.CORS_ORIGINS)
  await app.register(cors, {
    origin: (origin, allow) => {
      allow(null, origin !== undefined && (origins.includes(origin) || (config.AUTH === 'none' && isLocalRequest({ host: 'localhost', origin }))))
    },
    methods: ['GET', 'HEAD', 'POST', 'DELETE'],
    exposedHeaders: ['Stream-Next-Offset', 'Stream-Cursor', 'Stream-Up-To-Date', 'ETag', 'Retry-After']
  })
  if (config.MAX_EVENT_LOOP_DELAY > 0) {
    await app.register(underPressure, {
      maxEventLoopDelay: config.MAX_EVENT_LOOP_DELAY,
      pressureHandler: (request, reply, type, value) => {
        if (SUPERVISED.has(pathOf(request.url))) return
        request.log.warn({ type, value }, 'too busy, refused')
        reply.code(503).header('retry-after', '10').send(errorBody(503, 'FAE_ERR_BUSY', 'The server is too busy. Try again in a while.'))
      }
    })
  }
  if (config.RATE_LIMIT > 0) {
    await app.register(rateLimit, {
      global: false,
      max: config.RATE_LIMIT,
      timeWindow: MINUTE_MS,
      allowList: (request: FastifyRequest) => SUPERVISED.has(pathOf(request.url)),
      errorResponseBuilder: (_request, { statusCode, max, after }) => Object.assign(
        new Error(`More than ${max} requests a minute from this address. Try again in ${after}.`), { statusCode, code: 'FAE_ERR_RATE_LIMIT' })
    })
    // For the whole app and before everything of a route: also for upgrades, refused tokens and what is not there.
    app.addHook('onRequest', app.rateLimit())
  }
}

/** Whether a request carries the operator's token; nobody does when there is none. */
export function operatorCheck ({ OPERATOR_TOKEN }: Config): ((request: FastifyRequest) => boolean) | undefined {
  if (OPERATOR_TOKEN === undefined) return undefined
  const expected = digest(OPERATOR_TOKEN)
  return ({ headers: { authorization = '' } }) => {
    const token = /^Bearer ([^ ]+)$/i.exec(authorization)?.[1]
    return token !== undefined && timingSafeEqual(digest(token), expected)
  }
}

export function listOf (text: string | undefined): string[] {
  return text === undefined ? [] : text.split(',').map((item) => item.trim()).filter((item) => item !== '')
}

/** TRUST_PROXY as Fastify takes it. A number of proxies is not among it: whoever reaches the server directly could say anything then. */
export function trustProxyOf (text: string): boolean | string[] {
  return text === 'true' || text === 'false' ? text === 'true' : listOf(text)
}

export function errorBody (statusCode: number, code: string, message: string) {
  return { statusCode, code, error: STATUS_CODES[statusCode], message }
}

/** Without the query string: it may carry user ids and tickets. */
export function pathOf (url: string): string {
  return url.split('?', 1)[0] ?? url
}

function digest (text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
