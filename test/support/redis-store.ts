import type { ConformanceOptions, ConformanceSetup } from '../../plugins/store/conformance.js'
import { RedisStore, type RedisStoreOptions } from '../../plugins/store/index.js'
import { RedisServer } from './redis-server.js'

interface Teardown { teardown (fn: () => unknown): void }

/** A store that is closed with the test. */
export async function openRedis (t: Teardown, redis: RedisStoreOptions['redis'], options: Partial<RedisStoreOptions> = {}): Promise<RedisStore> {
  const store = new RedisStore({ redis, leaseMs: 500, ...options })
  t.teardown(() => store.close())
  await store.open()
  return store
}

/** Each case of the conformance suite in a part of one server that is its own. */
export function redisSetup (t: Teardown): (options?: ConformanceOptions) => Promise<ConformanceSetup> {
  let starting: Promise<RedisServer> | undefined
  let cases = 0
  return async ({ retention } = {}) => {
    const { url } = await (starting ??= RedisServer.start(t))
    const prefix = `case ${++cases}: `
    const stores: RedisStore[] = []
    const open = async (): Promise<RedisStore> => {
      const store = new RedisStore({ redis: url, prefix, leaseMs: 500, ...(retention !== undefined && { retention }) })
      stores.push(store)
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
      async end () { await Promise.all(stores.map((one) => one.close())) }
    }
  }
}
