import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { FAE_ERR_OPTION_INVALID } from '../errors.js'
import { readPage, type Asset } from './assets.js'

export interface InspectorOptions {
  /** Where the host's routes of fastify-agent-events are: the prefix they were registered with. @default '/agent-events' */
  base?: string
  /**
   * How the page says who is asking. session: it says nothing, the host knows by a cookie or a proxy. userId: the person
   * types a name, sent as query parameter `userId`; for servers that believe it. bearer: the person pastes a token, sent as
   * Authorization header, and for the WebSocket exchanged for a one-time ticket. @default 'session'
   */
  identify?: 'session' | 'userId' | 'bearer'
  /** Messages that an empty thread offers to send. @default [] */
  suggestions?: readonly string[]
}

const IDENTIFY = ['session', 'userId', 'bearer']

/** Nothing from elsewhere, nothing inline, and no text that becomes markup. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'self'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'"
].join('; ')

const HEADERS = {
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  // always asked about, so that a new version is seen at once; answered by 304 otherwise
  'cache-control': 'no-cache'
}

/**
 * Pages to watch agents at work, below the prefix it is registered with. They see what the routes at `base` show whoever
 * asks; to keep the pages themselves from others, register this in a scope with an authentication of its own. May be
 * registered more than once.
 *
 * @throws FAE_ERR_OPTION_INVALID
 * @throws FAE_ERR_INSPECTOR_FILES in a clone that has not been built
 */
export async function inspector (app: FastifyInstance, options: InspectorOptions): Promise<void> {
  const { base = '/agent-events', identify = 'session', suggestions = [] } = options
  // of this origin only: no other one would be allowed to answer the page
  if (typeof base !== 'string' || !/^\/(?![/\\])[^?#]*$/.test(base)) throw new FAE_ERR_OPTION_INVALID('base', "expected a path like '/agent-events'")
  if (!IDENTIFY.includes(identify)) throw new FAE_ERR_OPTION_INVALID('identify', `expected one of ${IDENTIFY.join(', ')}`)
  if (!Array.isArray(suggestions) || !suggestions.every((text) => typeof text === 'string')) throw new FAE_ERR_OPTION_INVALID('suggestions', 'expected a list of strings')

  const { page, assets } = await readPage({ base: base.replace(/\/+$/, ''), identify, suggestions })
  const isRoot = app.prefix === '' || app.prefix === '/'
  // the page names its files relative to itself, so that it also works behind a proxy that takes away part of the path
  app.get('/', isRoot ? {} : { prefixTrailingSlash: 'slash' }, (request, reply) => answer(page, request, reply))
  if (!isRoot) {
    app.get('/', { prefixTrailingSlash: 'no-slash' }, (request, reply) => {
      const [path = '', query] = request.url.split('?', 2)
      return reply.redirect(`./${path.split('/').at(-1)}/${query === undefined ? '' : `?${query}`}`)
    })
  }
  // a route for each: what is not listed cannot be asked for
  for (const [path, asset] of assets) app.get(`/assets/${path}`, (request, reply) => answer(asset, request, reply))
}

function answer ({ type, etag, body }: Asset, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.headers(HEADERS).header('etag', etag)
  return request.headers['if-none-match'] === etag ? reply.code(304).send() : reply.type(type).send(body)
}

export default inspector
