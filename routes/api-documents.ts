import type { FastifyInstance, RouteOptions } from 'fastify'
import { Kind, type TSchema } from '@sinclair/typebox'
import * as schemas from '../schemas/index.js'
import { about, describe } from './about.js'

/*
 * What the doors take and give, for other languages and tools: OpenAPI for HTTP, AsyncAPI for the WebSocket, both made of
 * the schemas that the routes check with.
 */

type Json = Record<string, unknown>

/** Of the protocol, not of the package: raised when the wire changes. */
const VERSION = '1.0.0'
const ERRORS = { content: { 'application/json': { schema: { $ref: '#/components/schemas/ErrorAnswer' } } } }

/** A route as it was registered, without what its scope puts in front. */
export interface CollectedRoute { readonly method: string, readonly path: string, readonly schema: RouteOptions['schema'] }

/** Every route that is registered in this scope from now on. */
export function collectRoutes (app: FastifyInstance): CollectedRoute[] {
  const routes: CollectedRoute[] = []
  app.addHook('onRoute', ({ method, url, schema }) => {
    for (const each of [method].flat()) {
      const path = url.slice(app.prefix.length)
      // Fastify adds a HEAD for each GET.
      if (each !== 'HEAD' && path !== '/ws') routes.push({ method: each, path, schema })
    }
  })
  return routes
}

/** GET /openapi.json and /asyncapi.json. @param at where everything lives: an option called prefix would be taken for the routes' own */
export async function documentRoutes (app: FastifyInstance, { routes, at }: { routes: readonly CollectedRoute[], at: string }): Promise<void> {
  // Made when somebody asks: by then every route is there.
  for (const [path, document] of [['/openapi.json', () => openApiDocument(routes, at)], ['/asyncapi.json', () => asyncApiDocument(at)]] as const) {
    let json: string | undefined
    app.get(path, async (_request, reply) => {
      json ??= JSON.stringify(document())
      return reply.type('application/json').serializer((body: string) => body).send(json)
    })
  }
}

/** OpenAPI 3.1 of these routes. @param prefix where they live */
export function openApiDocument (routes: readonly CollectedRoute[], prefix: string): Json {
  const components = new Components()
  components.use('ErrorAnswer')
  const paths: Record<string, Json> = {}
  for (const route of [...routes].sort((a, b) => a.path < b.path ? -1 : a.path > b.path ? 1 : 0)) {
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route, components) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'fastify-agent-events', version: VERSION, description: about.http },
    servers: [{ url: prefix === '' ? '/' : prefix }],
    paths,
    components: {
      schemas: components.toJson(),
      securitySchemes: { user: { type: 'http', scheme: 'bearer', description: 'Whatever the host\'s `authenticate` takes; the standalone server takes a JWT with AUTH=jwt' } }
    }
  }
}

function operation ({ method, path, schema = {} }: CollectedRoute, components: Components): Json {
  const { summary, description, open = false, answers = {} } = describe(`${method} ${path}`)
  const { params, querystring, body, response = {} } = schema as Record<'params' | 'querystring' | 'body', TSchema | undefined> & { response?: Record<string, TSchema> }
  const responses: Record<string, Json> = {}
  for (const [status, answer] of Object.entries(response)) responses[status] = { description: 'OK', content: { 'application/json': { schema: components.convert(answer) } } }
  for (const [status, { what, type, schema: answer, headers }] of Object.entries(answers)) {
    responses[status] = {
      description: what,
      ...(headers !== undefined && { headers: Object.fromEntries(Object.entries(headers).map(([name, text]) => [name, { description: text, schema: { type: 'string' } }])) }),
      ...(type !== undefined && { content: { [type]: { schema: answer === undefined ? { type: 'string' } : components.convert(answer) } } })
    }
  }
  const parameters = [...parametersOf('path', params, components), ...parametersOf('query', querystring, components)]
  return {
    summary,
    ...(description !== undefined && { description }),
    operationId: `${method.toLowerCase()}${path.replaceAll(/[^A-Za-z]+(\w)?/g, (_match, letter: string | undefined) => letter?.toUpperCase() ?? '')}`,
    ...(!open && { security: [{ user: [] }] }),
    ...(parameters.length > 0 && { parameters }),
    ...(body !== undefined && { requestBody: { required: body.required !== undefined && body.required.length > 0, content: { 'application/json': { schema: components.convert(body) } } } }),
    responses: { ...responses, default: { description: 'Refused, or failed', ...ERRORS } }
  }
}

function parametersOf (where: 'path' | 'query', schema: TSchema | undefined, components: Components): Json[] {
  if (schema === undefined) return []
  return Object.entries(schema['properties'] as Record<string, TSchema>).map(([name, property]) => {
    const { description, ...rest } = components.convert(property)
    return { name, in: where, required: (schema['required'] as string[] | undefined)?.includes(name) ?? false, ...(description !== undefined && { description }), schema: rest }
  })
}

/** AsyncAPI 3 of the WebSocket. @param prefix where it lives */
export function asyncApiDocument (prefix: string): Json {
  const components = new Components()
  const groups = {
    fromClient: Object.entries(schemas.clientFrames),
    frames: Object.entries(schemas.serverFrames),
    events: schemas.eventTypes.map((type) => [type, (schemas as unknown as Record<string, TSchema>)[pascal(type)]!] as const)
  }
  const messages = Object.fromEntries(Object.values(groups).flat().map(([type, schema]) => [type, { name: type, title: type, payload: components.ref(schema) }]))
  const refs = (types: ReadonlyArray<readonly [string, unknown]>): Json[] => types.map(([type]) => ({ $ref: `#/channels/socket/messages/${type}` }))
  return {
    asyncapi: '3.0.0',
    info: { title: 'fastify-agent-events', version: VERSION, description: about.socket },
    defaultContentType: 'application/json',
    servers: { app: { host: 'localhost:8000', protocol: 'ws', pathname: prefix === '' ? '/' : prefix } },
    channels: {
      socket: {
        address: '/ws',
        description: `Subprotocol ${schemas.SUBPROTOCOL}; JSON text frames, one message per frame`,
        messages: Object.fromEntries(Object.keys(messages).map((type) => [type, { $ref: `#/components/messages/${type}` }])),
        bindings: { ws: { method: 'GET', query: { type: 'object', properties: { ticket: { type: 'string', description: 'Of POST /tickets, for browsers, which cannot send headers' } } } } }
      }
    },
    operations: {
      fromClient: { action: 'receive', channel: { $ref: '#/channels/socket' }, summary: 'What a client may say', messages: refs(groups.fromClient) },
      fromServer: { action: 'send', channel: { $ref: '#/channels/socket' }, summary: 'What the server answers and tells of itself', messages: refs(groups.frames) },
      events: { action: 'send', channel: { $ref: '#/channels/socket' }, summary: 'What happens in the threads that the client has subscribed to', messages: refs(groups.events) }
    },
    components: { messages, schemas: components.toJson() }
  }
}

/** tool_completed is ToolCompleted: what the types are called. */
function pascal (type: string): string {
  return type.replaceAll(/(?:^|_)([a-z])/g, (_match, letter: string) => letter.toUpperCase())
}

/** The schemas that have a name and are used, each once. */
class Components {
  readonly #names: ReadonlyMap<unknown, string>
  readonly #used = new Map<string, Json>()

  constructor () {
    const named = Object.entries(schemas as Record<string, unknown>).filter(([, value]) => typeof value === 'object' && value !== null && Kind in value)
    this.#names = new Map(named.map(([name, value]) => [value, name]))
  }

  /** Makes sure that it is among the components. */
  use (name: string): void {
    if (this.#used.has(name)) return
    // Its place first: it may be asked for again while it is converted.
    const component: Json = {}
    this.#used.set(name, component)
    Object.assign(component, this.#plain((schemas as unknown as Record<string, unknown>)[name]))
  }

  ref (schema: unknown): Json {
    const name = this.#names.get(schema)
    if (name === undefined) throw new Error('a schema without a name')
    this.use(name)
    return { $ref: `#/components/schemas/${name}` }
  }

  /** A schema as JSON, with references in place of what has a name. */
  convert (schema: TSchema): Json {
    return this.#names.has(schema) ? this.ref(schema) : this.#plain(schema) as Json
  }

  toJson (): Json {
    return Object.fromEntries([...this.#used].sort(([a], [b]) => a < b ? -1 : 1))
  }

  #plain (value: unknown): unknown {
    if (Array.isArray(value)) return value.map((item) => this.#item(item))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.#item(item)]))
  }

  #item (value: unknown): unknown {
    return this.#names.has(value) ? this.ref(value) : this.#plain(value)
  }
}
