import { EventEmitter } from 'node:events'
import type { Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import websocket, { type WebSocket } from '@fastify/websocket'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { FAE_ERR_BAD_REQUEST, FAE_ERR_ORIGIN, FAE_ERR_UNAUTHENTICATED } from '../errors.js'
import { SUBPROTOCOL } from '../schemas/index.js'
import type { ConnectionCommands } from '../plugins/websocket-notifier/client-frames.js'
import type { User } from '../plugins/thread-registry/user.js'
import { isAllowedOrigin, type OriginsOption } from './origin.js'
import { isExpired, userOf } from './scope.js'

/** Who is it, by a token that came in band? null or a throw is no. */
export type Refresh = (token: string, user: User) => User | null | Promise<User | null>

/** How long peers may take to leave when the app closes. */
const CLOSE_GRACE_MS = 2_000

/**
 * Makes upgrades possible in this scope, with the host's @fastify/websocket where there is one. To be called before any
 * hook that may refuse a request: the plugin ends the socket of a refused upgrade only if its own hook has seen it.
 * @param host the scope around it, where a @fastify/websocket shows that the host registers later
 */
export async function enableWebSocket (app: FastifyInstance, host: FastifyInstance): Promise<void> {
  if (app.hasDecorator('websocketServer')) warnOfHostOptions(app)
  else await app.register(websocket, { options: { ...webSocketOptions(app.notifier.hub.limits.maxPayload), server: upgradesOf(host) }, errorHandler: (error, socket, request) => { socketFailed(error, socket, request) }, preClose: (done) => { done() } })
}

/**
 * The upgrades of the app's server, unless the host's own @fastify/websocket routes them: of two that do so the second
 * finds every socket taken and complains in the log.
 */
function upgradesOf (host: FastifyInstance): Server {
  const upgrades = new EventEmitter()
  const sockets = new Set<Duplex>()
  host.addHook('onReady', async () => {
    if (host.hasDecorator('websocketServer')) return
    host.server.on('upgrade', (request, socket: Socket, head) => {
      sockets.add(socket)
      socket.once('close', () => { sockets.delete(socket) })
      upgrades.emit('upgrade', request, socket, head)
      // An answer without an upgrade, at any path of the app: nobody looks after the socket any more, not even when its peer goes.
      const answer = (socket as { _httpMessage?: ServerResponse | null })._httpMessage
      answer?.once('finish', () => { socket.destroySoon() })
    })
  })
  host.addHook('preClose', async () => {
    // Not answered yet, by any route of the app: nobody reads it, and no HTTP server closes it any more.
    for (const socket of sockets) if (socket.listenerCount('data') === 0) socket.destroy()
  })
  // Nothing but its upgrade event is used.
  return upgrades as Server
}

/** GET /ws: many threads on one socket. */
export async function wsRoutes (app: FastifyInstance, { origins, refresh }: { origins: OriginsOption, refresh?: Refresh }): Promise<void> {
  const { hub } = app.notifier
  app.addHook('preClose', async () => {
    // From now on Fastify answers 503 by itself and would leave the socket of an upgrade open for ever.
    app.server.on('upgrade', (_request, socket) => { socket.destroy() })
    // After the runs have ended: each socket gets its last events and its code.
    await hub.close(CLOSE_GRACE_MS)
  })

  const commands: ConnectionCommands = {
    send: (user, { threadId, content, input, agent, clientMessageId }) => app.agents.send({
      user,
      threadId,
      ...(content !== undefined && { content }),
      ...(input !== undefined && { input }),
      ...(agent !== undefined && { agent }),
      ...(clientMessageId !== undefined && { clientMessageId })
    }),
    cancel: (user, { runId }) => app.agents.cancel(runId, { user }),
    async refresh (user, { token }) {
      if (refresh === undefined) throw new FAE_ERR_BAD_REQUEST('This server does not refresh tokens in band: reconnect with a fresh one')
      let refreshed: User | null | undefined
      try {
        refreshed = await refresh(token, user)
      } catch (error) {
        app.log.info({ err: error, userId: user.userId }, 'refresh failed')
      }
      // A connection is one user's: its subscriptions were allowed to that one.
      if (refreshed?.userId !== user.userId || isExpired(refreshed)) throw new FAE_ERR_UNAUTHENTICATED()
      return refreshed
    }
  }

  function onError (this: WebSocket, error: Error): void { socketFailed(error, this, app) }
  const inboxes = new WeakMap<object, string>()
  app.get('/ws', {
    websocket: true,
    // Before the upgrade, so that every refusal is a real HTTP answer and the handler needs to wait for nothing.
    preHandler: async (request) => {
      if (!isAllowedOrigin(request, origins)) throw new FAE_ERR_ORIGIN()
      const { userId } = userOf(request)
      hub.checkRoom(userId)
      inboxes.set(request, (await app.threads.inbox(userId)).record.threadId)
    }
  }, (socket, request) => {
    // On the host's server too it is ours to close, after its last events, and not the host's to broadcast to.
    app.websocketServer.clients?.delete(socket)
    releaseRequest(socket, request, onError)
    hub.connect(socket, userOf(request), inboxes.get(request)!, commands)
  })
}

function webSocketOptions (maxPayload: number) {
  return {
    maxPayload,
    perMessageDeflate: false,
    clientTracking: false,
    handleProtocols: (offered: Set<string>) => offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false as const
  }
}

/**
 * Its answer, and the listener that @fastify/websocket added, would keep the whole request alive for as long as the socket
 * lives: almost half of what an idle connection weighs.
 */
function releaseRequest (socket: WebSocket, { raw: { socket: carrier } }: FastifyRequest, onError: (this: WebSocket, error: Error) => void): void {
  (carrier as Socket & { _httpMessage?: ServerResponse | null } | undefined)?._httpMessage?.detachSocket(carrier)
  // The last one is that of @fastify/websocket; those before it are the host's.
  socket.off('error', socket.listeners('error').at(-1) as () => void).on('error', onError)
}

/** What ws refuses, a frame that is too large say, it closes itself, with its code: anybody can cause that, and nobody is to be woken by it. */
function socketFailed (error: Error, socket: WebSocket, { log }: Pick<FastifyRequest, 'log'>): void {
  const isOpen = socket.readyState === socket.OPEN
  log[isOpen ? 'error' : 'info']({ err: error }, 'socket failed')
  if (isOpen) socket.terminate()
}

/** The host's own @fastify/websocket serves us too, with its options. */
function warnOfHostOptions (app: FastifyInstance): void {
  const { maxPayload = Infinity, perMessageDeflate } = app.websocketServer.options
  const wanted = app.notifier.hub.limits.maxPayload
  if (maxPayload > wanted) app.log.warn({ maxPayload, wanted }, 'the app\'s own @fastify/websocket takes larger frames than fastify-agent-events asks for')
  if (perMessageDeflate !== undefined && perMessageDeflate !== false) app.log.warn('the app\'s own @fastify/websocket compresses: memory per connection grows')
}
