import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RedisServer } from './redis-server.js'
import { until } from './store-steps.js'

interface Teardown { teardown (fn: () => unknown): void }

/** What sentinels do every second, every two or every ten seconds they do so often, in milliseconds, where they can be told: since Redis 7. */
const HURRY = ['info-period', 500, 'ping-period', 200, 'ask-period', 200, 'publish-period', 200]

export interface Watched {
  readonly master: RedisServer
  readonly replica: RedisServer
  /** How a client finds whoever is the master. */
  readonly options: { sentinels: Array<{ host: string, port: number }>, name: string }
}

/** The replica hears nothing more of its master, which is not seen from outside. */
export async function cutReplication (master: RedisServer, replica: RedisServer): Promise<void> {
  await replica.command('CONFIG', 'SET', 'masterauth', 'a password that the master does not know')
  await replica.command('CLIENT', 'KILL', 'TYPE', 'master')
  await until('the replica to be gone', async () => /connected_slaves:0/.test(String(await master.command('INFO', 'replication'))))
}

/** A master and its replica under the eyes of three sentinels, all of whom know each other. */
export async function startSentinels (t: Teardown, args: readonly string[] = []): Promise<Watched> {
  // By default it waits five seconds for more replicas to come.
  const all = [...args, '--repl-diskless-sync-delay', '0']
  const master = await RedisServer.start(t, { args: all })
  const replica = await RedisServer.start(t, { args: [...all, '--replicaof', '127.0.0.1', String(master.port)] })
  await until('the replica', async () => /master_link_status:up/.test(String(await replica.command('INFO', 'replication'))))
  // What is written after its copy was made begins to come up to a second later.
  await master.command('SET', 'written', 'after the copy')
  await until('the replica to follow', async () => await replica.command('EXISTS', 'written') === 1)
  const sentinels = await Promise.all([0, 1, 2].map(() => RedisServer.start(t, {
    async args (folder, port) {
      const file = join(folder, 'sentinel.conf')
      await writeFile(file, [
        `port ${port}`, 'bind 127.0.0.1', `dir ${folder}`, 'loglevel warning',
        `sentinel monitor main 127.0.0.1 ${master.port} 2`, 'sentinel down-after-milliseconds main 1000', 'sentinel failover-timeout main 2000'
      ].join('\n'))
      return [file, '--sentinel']
    }
  })))
  await Promise.all(sentinels.map((sentinel) => sentinel.command('SENTINEL', 'DEBUG', ...HURRY).catch(() => {})))
  await until('the sentinels to know all', async () => {
    const known = await Promise.all(sentinels.map(async (sentinel) => String(await sentinel.command('INFO', 'sentinel'))))
    return known.every((info) => /slaves=1,sentinels=3/.test(info))
  })
  return { master, replica, options: { sentinels: sentinels.map(({ port }) => ({ host: '127.0.0.1', port })), name: 'main' } }
}
