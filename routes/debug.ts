import type { FastifyInstance, FastifyRequest } from 'fastify'
import { FAE_ERR_FORBIDDEN } from '../errors.js'
import type { Connection } from '../plugins/websocket-notifier/connection.js'
import { Subscription } from '../plugins/websocket-notifier/subscription.js'
import { requireUser, userOf, type Authenticate } from './scope.js'

/**
 * true: open to everybody who reaches the app. 'authorize': to authenticated users to whom `authorize` allows the action
 * debug. A function: asked for every request.
 */
export type DebugOption = true | 'authorize' | ((request: FastifyRequest) => boolean | Promise<boolean>)

/** What an operator needs to see of connections, threads and runs of this process. */
export async function debugRoutes (app: FastifyInstance, { debug, authenticate }: { debug: DebugOption, authenticate: Authenticate }): Promise<void> {
  const { hub } = app.notifier
  if (debug === 'authorize') {
    requireUser(app, authenticate)
    app.addHook('preHandler', async (request) => {
      if (!await app.threads.mayDebug(userOf(request))) throw new FAE_ERR_FORBIDDEN()
    })
  }
  if (typeof debug === 'function') {
    app.addHook('onRequest', async (request) => {
      if (await debug(request) !== true) throw new FAE_ERR_FORBIDDEN()
    })
  }

  app.get('/debug/websocket/connections', async () => {
    const now = Date.now()
    const connections = [...hub.connections.values()].map((connection) => describeConnection(connection, now))
    return { count: connections.length, connections }
  })

  app.get('/debug/websocket/threads', async () => {
    const runs = app.agents.active()
    const ids = new Set([...hub.feeds.keys(), ...runs.map(({ threadId }) => threadId)])
    const threads = await Promise.all([...ids].map(async (threadId) => {
      const state = await app.threads.find(threadId)
      return {
        threadId,
        userId: state?.record.userId,
        head: state?.head,
        connections: [...hub.feeds.get(threadId)?.readers ?? []].flatMap((reader) => reader instanceof Subscription ? [reader.connection.id] : []),
        runs: runs.filter((run) => run.threadId === threadId).map(({ runId, agent, state, ageMs }) => ({ runId, agent, state, ageMs }))
      }
    }))
    return { count: threads.length, threads }
  })

  app.get('/debug/websocket/mappings', async () => {
    // User ids are anybody's strings: an object without a prototype has no names of its own.
    const users: Record<string, { connections: Record<string, string[]>, runs: Record<string, string> }> = Object.create(null)
    for (const { id, user: { userId }, subscriptions } of hub.connections.values()) {
      users[userId] ??= { connections: {}, runs: {} }
      users[userId].connections[id] = [...subscriptions.keys()]
    }
    for (const { runId, userId, threadId } of app.agents.active()) {
      users[userId] ??= { connections: {}, runs: {} }
      users[userId].runs[runId] = threadId
    }
    return { count: Object.keys(users).length, users }
  })

  app.get('/debug/registry', async () => ({
    agents: app.agents.list(),
    tools: app.tools.list(),
    runs: app.agents.active(),
    mermaid: app.agents.mermaid()
  }))
}

function describeConnection ({ id, user, connectedAt, bufferedBytes, delivered, lastAck, lastHeardAt, subscriptions }: Connection, now: number) {
  return {
    connectionId: id,
    userId: user.userId,
    ageMs: now - connectedAt,
    lastHeardMs: now - lastHeardAt,
    bufferedBytes,
    delivered,
    lastAck: lastAck === undefined ? null : { threadId: lastAck.threadId, cursor: lastAck.cursor, agoMs: now - lastAck.at },
    threads: [...subscriptions.values()].map(({ threadId, state, seq, acked, feed, cursor }) => ({
      threadId,
      state,
      cursor,
      acked,
      // Events stored and not sent, and events sent and not processed.
      behind: Math.max(0, feed.head - seq),
      unacknowledged: Math.max(0, seq - acked)
    }))
  }
}
