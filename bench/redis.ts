import { RedisServer } from '../test/support/redis-server.js'

/** A redis-server on a free port, gone afterwards. */
export async function withRedis<Result> (use: (redis: RedisServer) => Promise<Result>): Promise<Result> {
  const ends: Array<() => unknown> = []
  try {
    return await use(await RedisServer.start({ teardown (end) { ends.push(end) } }))
  } finally {
    for (const end of ends) await end()
  }
}

/** Milliseconds of CPU that it has used so far. */
export async function cpuOf (redis: RedisServer): Promise<number> {
  const info = String(await redis.command('INFO', 'cpu'))
  return 1_000 * (Number(/used_cpu_sys:(\S+)/.exec(info)![1]) + Number(/used_cpu_user:(\S+)/.exec(info)![1]))
}
