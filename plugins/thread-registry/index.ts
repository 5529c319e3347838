import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { FAE_ERR_OPTION_INVALID } from '../../errors.js'
import { checkIntegers } from '../options.js'
import { oncePerApp } from '../once-per-app.js'
import type { Authorize } from './authorize.js'
import { openStore, type StoreOption } from '../store/index.js'
import { ThreadRegistry } from './thread-registry.js'

export interface ThreadRegistryOptions {
  /** Where threads and their logs are kept. @default 'memory' */
  store?: StoreOption
  /** Longest thread and user id. @default 100 */
  maxIdLength?: number
  /** @default 10_000 */
  maxThreadsPerUser?: number
  /** May this user do that with this thread? @default only its owner may */
  authorize?: Authorize
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Whose thread is it, and which run belongs to it. */
    readonly threads: ThreadRegistry
  }
}

async function plugin (app: FastifyInstance, options: ThreadRegistryOptions): Promise<void> {
  checkIntegers(options, ['maxIdLength', 'maxThreadsPerUser'], 1)
  if (options.authorize !== undefined && typeof options.authorize !== 'function') throw new FAE_ERR_OPTION_INVALID('authorize', 'expected a function that returns true or false')
  oncePerApp(app, 'fastify-agent-events/thread-registry')
  const { store, created } = await openStore(options.store)
  const { maxIdLength = 100, maxThreadsPerUser = 10_000 } = options
  const registry = new ThreadRegistry(store, { maxIdLength, maxThreadsPerUser }, app.log.child({ plugin: 'thread-registry' }), options.authorize)
  app.decorate('threads', { getter: () => registry })
  if (created) app.addHook('onClose', () => store.close())
}

const threadRegistry = fp(plugin, {
  fastify: '5.x',
  name: 'fastify-agent-events/thread-registry'
})
export default threadRegistry
export { threadRegistry, ThreadRegistry }
export type { Action, Authorize, Resource } from './authorize.js'
export type { RegisterThreadOptions } from './thread-registry.js'
