/*
 * A process that is killed: writes to a store as fast as it can and says on its standard output what it was told.
 *   node --import tsx crash-child.ts <folder> <round> <events that stay in a thread>
 */
import { LmdbStore } from '../../plugins/store/lmdb-store.js'
import type { RunInfo } from '../../plugins/store/store.js'
import { tell } from './tell.js'

const [folder = '', round = '0', maxEvents = '1000'] = process.argv.slice(2)
const THREADS = 12

/** One line of what a client would know by now. */
export type Heard =
  | { readonly type: 'ready' }
  | { readonly type: 'delivered', readonly threadId: string, readonly seq: number, readonly json: string }
  | { readonly type: 'confirmed', readonly threadId: string, readonly first: number, readonly last: number, readonly tag: string, readonly key?: string }
  | { readonly type: 'started' | 'ended', readonly threadId: string, readonly runId: string }

function say (...heard: Heard[]): void {
  tell(...heard)
}

const store = new LmdbStore({ folder, retention: { maxEvents: Number(maxEvents) } })
await store.open()

let counter = 0
const bodies = (tag: string, count: number): string[] => Array.from({ length: count }, (_, i) => JSON.stringify({ v: 1, type: 'custom', data: { name: 'crash', value: `${tag} ${i}` }, fill: 'x'.repeat((counter * 37) % 700) }))

async function write (threadId: string): Promise<void> {
  for (;;) {
    const tag = `${round}.${counter++}`
    const key = `key ${tag}`
    const told = await store.append(threadId, bodies(tag, 1 + counter % 5), { key })
    say({ type: 'confirmed', threadId, first: told.first.seq, last: told.last.seq, tag, key })
  }
}

async function run (threadId: string): Promise<void> {
  for (;;) {
    const runId = `run ${round}.${counter++}`
    const info: RunInfo = { userId: 'u1', agent: 'triage', agentId: 'u1:triage:1', messageId: 'm', trigger: 'api', startedAt: Date.now(), input: '{"message":"x"}' }
    let tag = `${round}.${counter++}`
    const started = await store.append(threadId, bodies(tag, 1), { start: { runId, info, started: true, maxRuns: 1_000_000, mode: 'now' } })
    say({ type: 'confirmed', threadId, first: started.first.seq, last: started.last.seq, tag }, { type: 'started', threadId, runId })
    for (let n = 2; n <= 12; n++) {
      tag = `${round}.${counter++}`
      const told = await store.append(threadId, bodies(tag, 3), { run: { runId, fence: 1, n, ...(n % 2 === 0 ? { opens: [['tool:1', 'x']] } : { closes: ['tool:1'] }), ...(n === 12 && { ends: 'success' }) } })
      say({ type: 'confirmed', threadId, first: told.first.seq, last: told.last.seq, tag })
    }
    say({ type: 'ended', threadId, runId })
  }
}

for (let i = 0; i < THREADS; i++) {
  const threadId = `t${i}`
  await store.putThread({ threadId, userId: 'u1', createdAt: '2026-01-01T12:00:00.000Z' })
  await store.watch(threadId, {
    events (entries) { say(...entries.map(({ seq, json }) => ({ type: 'delivered' as const, threadId, seq, json }))) },
    gap () { throw new Error('a gap') },
    deleted () { throw new Error('deleted') }
  })
}
say({ type: 'ready' })
await Promise.all(Array.from({ length: THREADS }, (_, i) => [write(`t${i}`), run(`t${i}`)]).flat())
