import { resolve } from 'node:path'
import type { StoreOption } from 'fastify-agent-events'

/** A store as STORE names it. */
export interface ChosenStore {
  readonly option: StoreOption
  /** For people and logs: no password in it. */
  readonly description: string
  /** Only of lmdb. */
  readonly folder?: string
}

/** @param store memory, lmdb:<folder> or redis[s]://…, as config.ts has checked it */
export function chooseStore (store: string): ChosenStore {
  if (store === 'memory') return { option: 'memory', description: 'memory: nothing is kept when the process ends' }
  if (store.startsWith('lmdb:')) {
    const folder = resolve(store.slice('lmdb:'.length))
    return { option: { lmdb: folder }, description: `lmdb in ${folder}`, folder }
  }
  return { option: { redis: store }, description: `redis at ${hostOf(store)}` }
}

function hostOf (url: string): string {
  return URL.canParse(url) ? new URL(url).host : 'an address that is no URL'
}
