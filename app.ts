import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { FAE_ERR_AUTHENTICATE_MISSING, FAE_ERR_OPTION_INVALID } from './errors.js'
import agentRegistry, { type AgentRegistryOptions } from './plugins/agent-registry/index.js'
import threadRegistry, { type ThreadRegistryOptions } from './plugins/thread-registry/index.js'
import toolDispatcher, { type ToolDispatcherOptions } from './plugins/tool-dispatcher/index.js'
import websocketNotifier, { type WebSocketNotifierOptions } from './plugins/websocket-notifier/index.js'
import routes, { type RoutesOptions } from './routes/index.js'

export interface AgentEventsOptions extends ThreadRegistryOptions, WebSocketNotifierOptions, ToolDispatcherOptions, AgentRegistryOptions, RoutesOptions {
  /** Where the routes live; '/' for the root. @default '/agent-events' */
  prefix?: string
}

/** Everything at once, in the only order that works. */
async function plugin (app: FastifyInstance, { prefix = '/agent-events', authenticate, debug, metrics, operations, origins, refresh, longPollMs, streamCommentMs, ...options }: AgentEventsOptions): Promise<void> {
  if (authenticate === undefined) throw new FAE_ERR_AUTHENTICATE_MISSING()
  if (typeof prefix !== 'string' || !prefix.startsWith('/')) throw new FAE_ERR_OPTION_INVALID('prefix', "expected a path that begins with '/'")
  await app.register(threadRegistry, options)
  await app.register(websocketNotifier, options)
  await app.register(toolDispatcher, options)
  await app.register(agentRegistry, options)
  await app.register(routes, {
    authenticate,
    ...(debug !== undefined && { debug }),
    ...(metrics !== undefined && { metrics }),
    ...(operations !== undefined && { operations }),
    ...(origins !== undefined && { origins }),
    ...(refresh !== undefined && { refresh }),
    ...(longPollMs !== undefined && { longPollMs }),
    ...(streamCommentMs !== undefined && { streamCommentMs }),
    // Fastify ignores a prefix on a plugin that is wrapped in fastify-plugin: it is passed on here.
    prefix: prefix.replace(/\/+$/, '')
  })
}

const agentEvents = fp(plugin, { fastify: '5.x', name: 'fastify-agent-events' })

export default agentEvents
export { agentEvents }
