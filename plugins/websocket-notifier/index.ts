import type { FastifyInstance } from 'fastify'
import { KindGuard, type TSchema } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { FAE_ERR_OPTION_INVALID } from '../../errors.js'
import { oncePerApp } from '../once-per-app.js'
import { checkIntegers, checkNames } from '../options.js'
import type {} from '../thread-registry/index.js'
import type { ConnectionLimits } from './connection.js'
import { EventEncoder, type Redact } from './encode.js'
import type { HeartbeatOptions } from './heartbeat.js'
import type { LaneLimits } from './lane.js'
import { WebSocketNotifier } from './notifier.js'

export interface WebSocketNotifierOptions {
  /** Largest event as JSON, in bytes. A larger one is refused; a tool's larger output is cut. At least 4_096. @default 131_072 */
  maxEventBytes?: number
  /** The schema of each custom event by its name. @default {} */
  events?: Readonly<Record<string, TSchema>>
  /**
   * Called with every event before it is stored; returns the data to store instead, such as a copy without what nobody
   * should see. When it throws, or returns what is no data of that event, the event is refused with FAE_ERR_EVENT_REDACT.
   * @default events are stored as they are
   */
  redact?: Redact
  /** Per connection. */
  limits?: Partial<ConnectionLimits>
  heartbeat?: Partial<HeartbeatOptions>
  /** What a run may have waiting for the store. */
  lane?: Partial<LaneLimits>
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Say it, remember it, get it to the user. */
    readonly notifier: WebSocketNotifier
  }
}

export const defaultLimits: ConnectionLimits = {
  maxPayload: 64 * 1024,
  framesPerSecond: 50,
  subscriptionsPerConnection: 100,
  connectionsPerUser: 50,
  highWaterMark: 512 * 1024,
  stallTimeoutMs: 30_000,
  maxBadFrames: 20
}

export const defaultHeartbeat: HeartbeatOptions = { intervalMs: 25_000, timeoutMs: 10_000 }
export const defaultLane: LaneLimits = { maxEvents: 1_000, maxBytes: 1024 * 1024 }

async function plugin (app: FastifyInstance, options: WebSocketNotifierOptions): Promise<void> {
  checkIntegers(options, ['maxEventBytes'], 4_096)
  for (const [name, known] of Object.entries({ limits: defaultLimits, heartbeat: defaultHeartbeat, lane: defaultLane })) {
    const group = options[name as 'limits' | 'heartbeat' | 'lane']
    if (group === undefined) continue
    checkNames(name, group, known)
    checkIntegers(group, Object.keys(group), 1)
  }
  for (const [name, schema] of Object.entries(options.events ?? {})) {
    if (!KindGuard.IsSchema(schema)) throw new FAE_ERR_OPTION_INVALID(`events.${name}`, 'expected a TypeBox schema, like Type.Object({ … })')
  }
  if (options.redact !== undefined && typeof options.redact !== 'function') throw new FAE_ERR_OPTION_INVALID('redact', 'expected a function that returns the data of an event')
  oncePerApp(app, 'fastify-agent-events/websocket-notifier')
  const notifier = new WebSocketNotifier(
    app.threads,
    new EventEncoder(options.maxEventBytes ?? 128 * 1024, options.events, options.redact),
    {
      limits: { ...defaultLimits, ...options.limits },
      heartbeat: { ...defaultHeartbeat, ...options.heartbeat }
    },
    { ...defaultLane, ...options.lane },
    app.log.child({ plugin: 'websocket-notifier' })
  )
  app.decorate('notifier', { getter: () => notifier })
  app.addHook('preClose', async () => { notifier.hub.goaway() })
  app.addHook('onClose', async () => { notifier.close() })
}

const websocketNotifier = fp(plugin, {
  fastify: '5.x',
  name: 'fastify-agent-events/websocket-notifier',
  dependencies: ['fastify-agent-events/thread-registry'],
  decorators: { fastify: ['threads'] }
})
export default websocketNotifier
export { websocketNotifier, WebSocketNotifier }
export type { Redact, RedactableEvent } from './encode.js'
export type { HistoryOptions, SendableEvent, SendOptions } from './notifier.js'
