import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RedisServer } from './redis-server.js'
import { until } from './store-steps.js'

interface Teardown { teardown (fn: () => unknown): void }

export interface Watched {
  readonly master: RedisServer
  readonly replica: RedisServer
  /** How a client finds whoever is the master. */
  readonly options: { sentinels: Array<{ host: string, port: number }>, name: string }
}

/** A master and its replica under the eyes of three sentinels, all of whom know each other. */
export async function startSentinels (t: Teardown, args: readonly string[] = []): Promise<Watched> {
  const master = await RedisServer.start(t, { args })
  const replica = await RedisServer.start(t, { args: [...args, '--replicaof', '127.0.0.1', String(master.port)] })
  await until('the replica', async () => /master_link_status:up/.test(String(await replica.command('INFO', 'replication'))))
  const sentinels = await Promise.all([0, 1, 2].map(() => RedisServer.start(t, {
    async args (folder, port) {
      const file = join(folder, 'sentinel.conf')
      await writeFile(file, [
        `port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, 'loglevel warning',
        `sentinel monitor main 127.0.0.1 ${master.port} 2`, 'sentinel down-after-milliseconds main 1000', 'sentinel failover-timeout main 5000'
      ].join('\n'))
      return [file, '--sentinel']
    }
  })))
  await until('the sentinels to know all', async () => {
    const known = await Promise.all(sentinels.map(async (sentinel) => String(await sentinel.command('INFO', 'sentinel'))))
    return known.every((info) => /slaves=1,sentinels=3/.test(info))
  })
  return { master, replica, options: { sentinels: sentinels.map(({ port }) => ({ host: '127.0.0.1', port })), name: 'main' } }
}
