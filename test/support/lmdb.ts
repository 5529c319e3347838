import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ConformanceOptions, ConformanceSetup } from '../../plugins/store/conformance.js'
import { LmdbStore } from '../../plugins/store/lmdb-store.js'

/** A folder of its own, removed with the test. */
export async function newFolder (t: { teardown (fn: () => unknown): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'fae-lmdb-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A store in a fresh folder, for the conformance suite. */
export async function lmdbSetup ({ retention = {} }: ConformanceOptions = {}): Promise<ConformanceSetup> {
  const folder = await mkdtemp(join(tmpdir(), 'fae-lmdb-'))
  const stores: LmdbStore[] = []
  const openStore = async (): Promise<LmdbStore> => {
    const store = new LmdbStore({ folder, retention })
    await store.open()
    stores.push(store)
    return store
  }
  const store = await openStore()
  return {
    store,
    reopen: async () => {
      await store.close()
      return openStore()
    },
    end: async () => {
      await Promise.all(stores.map((each) => each.close()))
      await rm(folder, { recursive: true, force: true })
    }
  }
}
