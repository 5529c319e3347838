import { FAE_ERR_OPTION_INVALID } from '../../errors.js'
import { LmdbStore } from './lmdb-store.js'
import { MemoryStore } from './memory-store.js'
import type { RedisStoreOptions } from './redis-options.js'
import { RedisStore } from './redis-store.js'
import { checkIntegers, checkNames } from '../options.js'
import { defaultRetention, type Retention, type Store } from './store.js'

/** The one place that chooses: a name, a name with options, or a store of your own that passes the conformance suite. */
export type StoreOption =
  | 'memory'
  | { memory: { retention?: Partial<Retention> } }
  /** Lasting, for one process: the folder's path. Needs the package lmdb. */
  | { lmdb: string, retention?: Partial<Retention> }
  /** Lasting, for many processes. Needs the package ioredis. */
  | RedisStoreOptions
  | Store

/** @returns the open store, and whether closing it is ours */
export async function openStore (option: StoreOption = 'memory'): Promise<{ store: Store, created: boolean }> {
  if (typeof option === 'object' && option !== null && 'append' in option) return { store: option, created: false }
  checkRetention(option)
  const store = createStore(option)
  await store.open()
  return { store, created: true }
}

function checkRetention (option: Exclude<StoreOption, Store>): void {
  if (typeof option !== 'object' || option === null) return
  const retention = 'memory' in option ? option.memory?.retention : option.retention
  if (retention === undefined) return
  checkNames('retention', retention, defaultRetention)
  checkIntegers(retention, Object.keys(retention), 1)
}

function createStore (option: Exclude<StoreOption, Store>): Store {
  if (option === 'memory') return new MemoryStore()
  if (typeof option === 'object' && option !== null && 'memory' in option) return new MemoryStore(option.memory?.retention)
  if (typeof option === 'object' && option !== null && 'lmdb' in option && typeof option.lmdb === 'string' && option.lmdb !== '') {
    return new LmdbStore({ folder: option.lmdb, ...(option.retention !== undefined && { retention: option.retention }) })
  }
  if (typeof option === 'object' && option !== null && 'redis' in option) return new RedisStore(option)
  throw new FAE_ERR_OPTION_INVALID('store', "expected 'memory', { memory: { retention } }, { lmdb: folder, retention }, { redis: url, prefix, retention } or a store")
}

export { LmdbStore, MemoryStore, RedisStore }
export { compactLmdb, exportLmdb, importLmdb } from './lmdb-tools.js'
export type { Imported } from './lmdb-tools.js'
export type { LmdbStoreOptions } from './lmdb-store.js'
export type { RedisStoreOptions } from './redis-options.js'
export * from './store.js'
