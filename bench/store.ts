/**
 * The lmdb store beside the memory store, in one run: appends per second, latency and CPU, with one thread and with
 * 10,000; and how long the lmdb store takes to open with a million stored events.
 *   npm run bench:store
 */
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LmdbStore, MemoryStore, type Store } from 'fastify-agent-events/stores'

const THREADS = 10_000
const folders: string[] = []

async function newFolder (): Promise<string> {
  // Beside the sources, not among temporary files: those may be memory.
  const folder = await mkdtemp(join(process.env['BENCH_FOLDER'] ?? tmpdir(), 'fae-bench-'))
  folders.push(folder)
  return folder
}

/** As an encoder makes a piece of text: about 330 bytes. */
function body (i: number): string {
  const data = { agent: 'triage', messageId: 'msg_0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11', partId: '1', phase: 'delta', text: `piece ${i} of a text that goes on` }
  return JSON.stringify({ v: 1, type: 'assistant_message', threadId: 'thread_13679e4dcc38403a', runId: 'run_0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11', agentId: 'user123:triage:0b9d6f0e', timestamp: '2026-01-01T12:00:00.000Z', data })
}

async function newThreads (store: Store, count: number): Promise<void> {
  for (let i = 0; i < count; i += 1_000) {
    await Promise.all(Array.from({ length: Math.min(1_000, count - i) }, (_, j) => store.putThread({ threadId: `t${i + j}`, userId: `u${(i + j) % 100}`, createdAt: '2026-01-01T12:00:00.000Z' })))
  }
}

interface Load { readonly threads: number, readonly inFlight: number, readonly perAppend: number, readonly appends: number }

async function load (store: Store, { threads, inFlight, perAppend, appends }: Load): Promise<{ seconds: number, cpu: number, latencies: number[] }> {
  const latencies: number[] = []
  const bodies = Array.from({ length: perAppend }, (_, i) => body(i))
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < appends) {
      const threadId = `t${next++ % threads}`
      const before = performance.now()
      await store.append(threadId, bodies)
      latencies.push(performance.now() - before)
    }
  }
  const cpuBefore = process.cpuUsage()
  const before = performance.now()
  await Promise.all(Array.from({ length: inFlight }, lane))
  const seconds = (performance.now() - before) / 1_000
  const { user, system } = process.cpuUsage(cpuBefore)
  return { seconds, cpu: (user + system) / 1e6, latencies: latencies.sort((a, b) => a - b) }
}

function row (cells: ReadonlyArray<string | number>): void {
  console.log(cells.map((cell, i) => i === 0 ? String(cell).padEnd(30) : String(cell).padStart(i === 1 ? 8 : 12)).join(''))
}

row(['load', 'store', 'appends/s', 'events/s', 'events/CPU-s', 'p50 ms', 'p99 ms'])
for (const [name, one] of [
  ['1 thread, one at a time', { threads: 1, inFlight: 1, perAppend: 1, appends: 10_000 }],
  ['1 thread, 100 at once', { threads: 1, inFlight: 100, perAppend: 1, appends: 100_000 }],
  ['1 thread, 100 at once, of 10', { threads: 1, inFlight: 100, perAppend: 10, appends: 20_000 }],
  ['10,000 threads, 100 at once', { threads: THREADS, inFlight: 100, perAppend: 1, appends: 100_000 }],
  ['10,000 threads, 1,000 at once', { threads: THREADS, inFlight: 1_000, perAppend: 1, appends: 200_000 }],
  ['10,000 threads, 100, of 10', { threads: THREADS, inFlight: 100, perAppend: 10, appends: 20_000 }]
] as const) {
  for (const kind of ['memory', 'lmdb'] as const) {
    const store = kind === 'memory' ? new MemoryStore() : new LmdbStore({ folder: await newFolder() })
    await store.open()
    await newThreads(store, one.threads)
    await load(store, { ...one, appends: one.appends / 10 }) // warm
    const { seconds, cpu, latencies } = await load(store, one)
    const events = one.appends * one.perAppend
    row([name, kind, Math.round(one.appends / seconds), Math.round(events / seconds), Math.round(events / cpu), latencies[latencies.length >> 1]!.toFixed(3), latencies[Math.floor(latencies.length * 0.99)]!.toFixed(3)])
    await store.close()
  }
}

console.log('\nopening the lmdb store, and the first page of one thread')
row(['stored events', 'threads', 'file MiB', 'open ms', 'page ms'])
for (const events of [0, 1_000, 1_000_000]) {
  const folder = await newFolder()
  const threads = Math.max(1, events / 100)
  const store = new LmdbStore({ folder })
  await store.open()
  await newThreads(store, threads)
  if (events > 0) await load(store, { threads, inFlight: 1_000, perAppend: 10, appends: events / 10 })
  await store.close()
  const again = new LmdbStore({ folder })
  const before = performance.now()
  await again.open()
  const opened = performance.now()
  const { head } = await again.read('t0', 0)
  const read = performance.now()
  if (head !== events / threads) throw new Error(`found ${head} events`)
  row([events, threads, ((await stat(join(folder, 'data.mdb'))).size / 2 ** 20).toFixed(1), (opened - before).toFixed(1), (read - opened).toFixed(1)])
  await again.close()
}
await Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true })))
