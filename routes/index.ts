import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { FAE_ERR_AUTHENTICATE_MISSING, FAE_ERR_OPTION_INVALID } from '../errors.js'
import type {} from '../plugins/agent-registry/index.js'
import { oncePerApp } from '../plugins/once-per-app.js'
import { checkIntegers, LONGEST_TIMER_MS } from '../plugins/options.js'
import { DEFAULT_MAX_ID_LENGTH } from '../schemas/index.js'
import { collectRoutes, documentRoutes } from './api-documents.js'
import { debugRoutes, type DebugOption } from './debug.js'
import { eventRoutes } from './events.js'
import type { OriginsOption } from './origin.js'
import { collectMetrics, metricRoutes, type MetricsOptions, type MetricsRegistry } from './metrics.js'
import { operationRoutes } from './operations.js'
import { runRoutes } from './runs.js'
import { isolateScope, requireUser, type Authenticate } from './scope.js'
import { threadRoutes } from './threads.js'
import { ticketRoutes, userOfTicket } from './tickets.js'
import { enableWebSocket, wsRoutes, type Refresh } from './ws.js'

export interface RoutesOptions {
  /** Who is asking? null or a throw is 401 on every door. Required. */
  authenticate: Authenticate
  /** The debug endpoints: true opens them to everybody, 'authorize' asks for the action debug, a function decides for each request. @default off */
  debug?: false | DebugOption
  /** Pages of other origins that may open the WebSocket. @default [] */
  origins?: OriginsOption
  /** Who a token of the frame `refresh` says somebody is; it must be the same user. @default tokens are not refreshed in band */
  refresh?: Refresh
  /** /health, /ready, /openapi.json and /asyncapi.json, which need no authentication. @default false */
  operations?: boolean
  /**
   * Metrics for Prometheus, at /metrics with `operations: true`; needs the package prom-client. true: for everybody who
   * reaches the app. @default off
   */
  metrics?: boolean | MetricsOptions
  /** How long a long-poll waits for something new, in milliseconds. @default 20_000 */
  longPollMs?: number
  /** How often an event stream says that it is alive, in milliseconds. @internal @default 15_000 */
  streamCommentMs?: number
}

/** All doors, thin: schema, decorator, reply. Register with a prefix; everything stays inside its scope. */
async function plugin (app: FastifyInstance, options: RoutesOptions): Promise<void> {
  const { authenticate, debug = false, metrics = false, operations = false, origins = [], refresh, longPollMs = 20_000, streamCommentMs = 15_000 } = options
  if (authenticate === undefined) throw new FAE_ERR_AUTHENTICATE_MISSING()
  if (typeof authenticate !== 'function') throw new FAE_ERR_OPTION_INVALID('authenticate', 'expected a function that returns a user or null')
  if (typeof debug !== 'boolean' && debug !== 'authorize' && typeof debug !== 'function') throw new FAE_ERR_OPTION_INVALID('debug', "expected true, false, 'authorize' or a function of the request")
  if (origins !== '*' && !Array.isArray(origins)) throw new FAE_ERR_OPTION_INVALID('origins', "expected '*' or a list of origins")
  checkIntegers(options, ['longPollMs', 'streamCommentMs'], 1, LONGEST_TIMER_MS)
  const measuring = metrics === true ? {} : metrics
  if (measuring !== false && (typeof measuring !== 'object' || measuring === null)) throw new FAE_ERR_OPTION_INVALID('metrics', 'expected true, false or { registry, allow }')
  if (measuring !== false && measuring.registry === undefined && !operations) throw new FAE_ERR_OPTION_INVALID('metrics', 'nobody could read them: add operations: true for /metrics, or { registry } for a door of your own')
  checkIdLength(app)
  oncePerApp(app, 'fastify-agent-events/routes')
  isolateScope(app)
  const routes = collectRoutes(app)
  if (operations) {
    await app.register(operationRoutes)
    await app.register(documentRoutes, { routes, at: app.prefix })
  }
  if (measuring !== false) {
    const registry = await collectMetrics(app, measuring.registry)
    if (operations) await app.register(metricRoutes, { registry, ...(measuring.allow !== undefined && { allow: measuring.allow }) })
  }
  if (debug !== false) await app.register(debugRoutes, { debug, authenticate })
  // In this order they close: no socket waits for a stream that takes nothing.
  await app.register(async (scope) => {
    await enableWebSocket(scope, app)
    requireUser(scope, authenticate, userOfTicket)
    await scope.register(wsRoutes, { origins, ...(refresh !== undefined && { refresh }) })
  })
  await app.register(async (scope) => {
    requireUser(scope, authenticate)
    await scope.register(threadRoutes)
    await scope.register(eventRoutes, { longPollMs, commentMs: streamCommentMs })
    await scope.register(runRoutes)
    await scope.register(ticketRoutes)
  })
}

/** An id that could be registered and never be named in a path would be a thread that nobody can read. */
function checkIdLength (app: FastifyInstance): void {
  const { routerOptions, maxParamLength } = app.initialConfig
  const most = routerOptions?.maxParamLength ?? maxParamLength ?? DEFAULT_MAX_ID_LENGTH
  const { maxIdLength } = app.threads.limits
  if (maxIdLength > most) {
    throw new FAE_ERR_OPTION_INVALID('maxIdLength', `ids of ${maxIdLength} characters do not fit the router's path parameters of ${most}: lower it, or use Fastify({ routerOptions: { maxParamLength: ${maxIdLength} } })`)
  }
}

// Encapsulated like any plugin that is not wrapped: this only gives it a name and what it needs to be registered before.
const routes = fp(plugin, {
  fastify: '5.x',
  name: 'fastify-agent-events/routes',
  encapsulate: true,
  dependencies: ['fastify-agent-events/agent-registry'],
  decorators: { fastify: ['threads', 'notifier', 'tools', 'agents'] }
})
export default routes
export { routes }
export type { Authenticate, DebugOption, MetricsOptions, MetricsRegistry, OriginsOption, Refresh }
