import t from 'tap'
import { Cluster } from 'ioredis'
import { storeConformance } from '../../../plugins/store/conformance.js'
import { RedisStore } from '../../../plugins/store/index.js'
import { startCluster } from '../../support/redis-cluster.js'
import { Reader, body, persist, readAll, start, step, thread, until, valueOf } from '../../support/store-steps.js'

const servers = await startCluster(t, ['--cluster-require-full-coverage', 'no'])
let cases = 0

function connect (): Cluster {
  const cluster = new Cluster(servers.map(({ port }) => ({ host: '127.0.0.1', port })), { enableOfflineQueue: false, lazyConnect: true })
  cluster.on('error', () => {})
  return cluster
}

storeConformance((name, fn) => t.test(`cluster: ${name}`, async (t) => { await fn(); t.pass() }), async ({ retention } = {}) => {
  const prefix = `case ${++cases}: `
  const stores: Array<{ store: RedisStore, client: Cluster }> = []
  const open = async (): Promise<RedisStore> => {
    const client = connect()
    const store = new RedisStore({ redis: client, prefix, leaseMs: 500, ...(retention !== undefined && { retention }) })
    stores.push({ store, client })
    await store.open()
    return store
  }
  const store = await open()
  return {
    store,
    second: open,
    async reopen () {
      await store.close()
      return open()
    },
    async end () {
      for (const { store, client } of stores) {
        await store.close()
        client.disconnect()
      }
    }
  }
})

t.test('channels are sharded, one master is lost and comes back, its threads go on', async (t) => {
  const client = connect()
  t.teardown(() => { client.disconnect() })
  const store = new RedisStore({ redis: client, leaseMs: 500, checkMs: 200 })
  t.teardown(() => store.close())
  await store.open()
  const threadIds = Array.from({ length: 30 }, (_, i) => `t${i}`)
  for (const threadId of threadIds) await store.putThread(thread(threadId))
  const readers = await Promise.all(threadIds.map((threadId) => Reader.on(store, threadId)))
  for (const threadId of threadIds) await store.append(threadId, [body(1)], { start: start(`run of ${threadId}`) })
  for (const reader of readers) await until('the event', () => reader.seq === 1)
  const sharded = await Promise.all(servers.map((server) => server.command('PUBSUB', 'SHARDCHANNELS') as Promise<string[]>))
  t.equal(sharded.flat().length, threadIds.length)
  for (const channels of sharded) t.ok(channels.length > 0)

  await servers[0]!.kill()
  const appending = threadIds.map((threadId) => persist(() => store.append(threadId, [body(2)], { run: step(`run of ${threadId}`, 2) })))
  await servers[0]!.start()
  t.strictSame((await Promise.all(appending)).map(({ first }) => first.seq), threadIds.map(() => 2))
  for (const [i, threadId] of threadIds.entries()) {
    const reader = readers[i]!
    await until(`the second event of ${threadId}`, () => reader.seq === 2)
    t.strictSame(reader.entries, await readAll(store, threadId))
    t.strictSame(reader.entries.map(valueOf), [1, 2])
    t.equal(reader.resets, 0)
    t.equal(reader.problem, undefined)
  }
  await until('every channel to be live again', async () => (await Promise.all(servers.map((server) => server.command('PUBSUB', 'SHARDCHANNELS') as Promise<string[]>))).flat().length === threadIds.length)
})
