import type { Cluster, Redis, RedisOptions } from 'ioredis'
import { FAE_ERR_OPTION_INVALID, FAE_ERR_PACKAGE_MISSING } from '../../errors.js'
import { checkIntegers } from '../options.js'
import type { Retention } from './store.js'

export interface RedisStoreOptions {
  /**
   * Where Redis is: a URL, options of ioredis (also for Sentinel), or the host's own client, which stays open. A Cluster
   * is always the host's own client. What is made from a URL or options is made with ioredis' offline queue and
   * re-sending off; on a host's own client the scripts ask the server for its run_id themselves, which costs it some
   * microseconds per call.
   */
  readonly redis: string | RedisOptions | Redis | Cluster
  /** Put before every key and channel; without braces. @default '' */
  readonly prefix?: string
  readonly retention?: Partial<Retention>
  /** How long a process may be silent before its runs are given to others, in milliseconds. @default 5_000 */
  readonly leaseMs?: number
  /** How often the subscriber's connection is probed, in milliseconds. @default 5_000 */
  readonly probeMs?: number
  /** How often the position of every watched thread is compared, in milliseconds. @default 3_000 */
  readonly checkMs?: number
}

/** @throws FAE_ERR_OPTION_INVALID */
export function checkRedisOptions (options: RedisStoreOptions): void {
  checkIntegers(options, ['leaseMs', 'probeMs', 'checkMs'], 50)
  const { redis, prefix = '' } = options
  if (typeof prefix !== 'string' || /[{}]/.test(prefix)) throw new FAE_ERR_OPTION_INVALID('prefix', 'expected a string without braces')
  if (typeof redis === 'string' ? !/^(rediss?:\/\/|\/)/.test(redis) : typeof redis !== 'object' || redis === null) {
    throw new FAE_ERR_OPTION_INVALID('redis', 'expected a redis:// or rediss:// URL, options of ioredis, or a client of ioredis')
  }
}

export function isClient (redis: RedisStoreOptions['redis']): redis is Redis | Cluster {
  return typeof redis === 'object' && 'duplicate' in redis
}

export function isCluster (client: Redis | Cluster): client is Cluster {
  return 'isCluster' in client && client.isCluster
}

/** No process waits longer than this between two attempts to connect. */
export const LONGEST_RETRY_MS = 2_500

/**
 * What every connection of our own has: nothing is queued or sent again behind our back, since the order of appends
 * and the server they reach must be known.
 */
export const connectionOptions = {
  lazyConnect: true,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  replyMapping: 'legacy',
  // What was under way is rejected as soon as the connection is gone.
  maxRetriesPerRequest: 0,
  retryStrategy: (times: number) => Math.min(50 * 2 ** Math.min(times, 6), 0.8 * LONGEST_RETRY_MS) * (0.75 + Math.random() / 2),
  // Reconnect without sending the command again: the master is elsewhere.
  reconnectOnError: (error: Error) => error.message.includes('READONLY')
} as const satisfies RedisOptions

/** @throws FAE_ERR_PACKAGE_MISSING */
export async function createClient (redis: string | RedisOptions): Promise<Redis> {
  let ioredis
  try {
    ioredis = await import('ioredis')
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new FAE_ERR_PACKAGE_MISSING('The Redis store', 'ioredis', 'ioredis')
  }
  const options = { connectTimeout: 5_000, connectionName: 'agent-events', ...(typeof redis === 'object' && redis), ...connectionOptions }
  return typeof redis === 'string' ? new ioredis.Redis(redis, options) : new ioredis.Redis(options)
}
