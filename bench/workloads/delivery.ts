import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Child } from '../child.js'
import type { Burst, Flood, Pace } from '../server-process.js'
import type { Connect, Reading } from '../watchers-process.js'

/** A server of the bench: its file in bench/servers, with its options. */
export interface Side { readonly name: string, readonly server: string, readonly options?: object, readonly isOnDisk?: boolean }

export const OURS: Side = { name: 'ours', server: 'ours' }
/** With the lmdb store, in a new folder each time. */
export const LMDB: Side = { name: 'ours, lmdb', server: 'ours', isOnDisk: true }
export const WS: Side = { name: 'ws', server: 'ws' }
export const LIMIT: Side = { name: 'ws-limit', server: 'ws-limit' }
export const SOCKET_IO: Side = { name: 'socket.io', server: 'socket-io' }

/** A server with its watchers, each in a process of its own; all ended afterwards. */
export async function withServer<Result> ({ server, options = {}, isOnDisk = false }: Side, shape: { threads: number, perThread: number, speakers?: number, reading?: Reading, idleThreads?: number }, use: (server: Child, watchers: Child) => Promise<Result>): Promise<Result> {
  const { threads, perThread, speakers = threads, reading = 'count', idleThreads = 0 } = shape
  const folder = isOnDisk ? await newFolder() : undefined
  const serverProcess = startServer({ server, options: { ...options, ...(folder !== undefined && { store: { lmdb: folder } }) } })
  const watchers = Child.start('watchers-process')
  try {
    await serverProcess.ask('addThreads', { count: threads })
    if (idleThreads > 0) await serverProcess.ask('addIdleThreads', { count: idleThreads })
    await serverProcess.ask('addSpeakers', { count: speakers })
    const connect: Connect = { url: await serverProcess.ask('url'), dialect: dialectOf(server), threads, perThread, reading }
    await watchers.ask('connect', connect)
    return await use(serverProcess, watchers)
  } finally {
    await Promise.all([serverProcess.stop(), watchers.stop()])
    if (folder !== undefined) await rm(folder, { recursive: true })
  }
}

export function startServer ({ server, options = {} }: Pick<Side, 'server' | 'options'>): Child { return Child.start('server-process', server, JSON.stringify(options)) }

/** BENCH_FOLDER where temporary files are in memory. */
export function newFolder (): Promise<string> { return mkdtemp(join(process.env['BENCH_FOLDER'] ?? tmpdir(), 'fae-bench-')) }

export function dialectOf (server: string): Connect['dialect'] { return server === 'socket-io' ? 'socket-io' : 'ours' }

/** Milliseconds of CPU and of time that a command and the delivery of all it says take. */
export async function timed (server: Child, watchers: Child, command: 'flood' | 'burst' | 'pace', input: Flood | Burst | Pace, units: (answer: number) => number): Promise<{ cpuMs: number, wallMs: number }> {
  const before = await watchers.ask<number>('received')
  const cpuBefore = await server.ask<number>('cpu')
  const startedAt = performance.now()
  const expected = before + units(await server.ask<number>(command, input))
  const received = await watchers.ask<number>('until', { count: expected })
  if (received !== expected) throw new Error(`delivered ${received} of ${expected}`)
  return { cpuMs: await server.ask<number>('cpu') - cpuBefore, wallMs: performance.now() - startedAt }
}

/** What a delivered event costs its server, once it is warm. */
export async function cost (side: Side, shape: { threads: number, perThread: number, idleThreads?: number }, { perTurn, events }: { perTurn: number, events: number }): Promise<{ cpuUs: number }> {
  const { threads, perThread, idleThreads } = shape
  return withServer(side, shape, async (server, watchers) => {
    // What it took to make them does not count.
    if (idleThreads !== undefined) await server.ask('memory')
    const deliveries = (flood: Flood): number => flood.events * perThread
    const flood = { threads, perTurn, events }
    const warm = { ...flood, events: Math.floor(events / 4) }
    await timed(server, watchers, 'flood', warm, () => deliveries(warm))
    const { cpuMs } = await timed(server, watchers, 'flood', flood, () => deliveries(flood))
    return { cpuUs: cpuMs * 1_000 / deliveries(flood) }
  })
}
