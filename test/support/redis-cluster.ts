import { Cluster } from 'ioredis'
import { RedisServer } from './redis-server.js'
import { until } from './store-steps.js'

interface Teardown { teardown (fn: () => unknown): void }

const SLOTS = 16_384

/** The host's own client, made as the documentation says. */
export function connectCluster (ports: readonly number[]): Cluster {
  return new Cluster(ports.map((port) => ({ host: '127.0.0.1', port })))
}

/** Three masters that share the slots, and keep everything. @param args more of redis-server's */
export async function startCluster (t: Teardown, args: readonly string[] = []): Promise<RedisServer[]> {
  const all = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '1000', '--appendonly', 'yes', '--appendfsync', 'always', ...args]
  const servers = await Promise.all([0, 1, 2].map(() => RedisServer.start(t, { args: all })))
  const share = Math.ceil(SLOTS / servers.length)
  for (const [i, server] of servers.entries()) {
    await server.command('CLUSTER', 'ADDSLOTSRANGE', i * share, Math.min(SLOTS, (i + 1) * share) - 1)
    await server.command('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
    if (i > 0) await server.command('CLUSTER', 'MEET', '127.0.0.1', servers[0]!.port)
  }
  for (const server of servers) {
    await until('the cluster', async () => {
      const info = String(await server.command('CLUSTER', 'INFO'))
      return /cluster_state:ok/.test(info) && /cluster_known_nodes:3/.test(info)
    })
  }
  return servers
}
