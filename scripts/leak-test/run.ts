import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { writeHeapSnapshot } from 'node:v8'
import { startStore, type Cleanup } from '../load-test/run.js'
import { describeMachine, type Machine } from '../machine.js'
import { compareSnapshots, readHeapSnapshot, type KindOfObject } from './heap-snapshot.js'
import type { LeakOptions } from './options.js'
import { leftovers, settle, startServer, type Counts } from './server.js'
import { judge, trendOf, type Trend, type Verdict } from './trend.js'
import type { Report, Work } from './work.js'

export interface Round {
  /** 0 is before the first one. */
  readonly round: number
  /** Connections and runs so far. */
  readonly units: number
  /** Bytes that can be reached, in the heap and in buffers beside it. */
  readonly heap: number
  readonly rss: number
  readonly counts: Counts
}

export interface LeakResult {
  readonly machine: Machine
  readonly options: LeakOptions
  readonly rounds: readonly Round[]
  /** Bytes per connection or run. */
  readonly trend: Trend
  readonly verdict: Verdict
  /** What did not come back to where it was, by round. */
  readonly left: readonly string[]
  readonly seconds: number
  /** What the heap holds before and after, in bytes, and what there is more or less of, the most bytes first. */
  readonly snapshots?: { readonly before: number, readonly after: number, readonly changed: readonly KindOfObject[] }
}

/** What is remembered of a thread is not a leak: little of it, so that all threads are full before the first round. */
const retention = { maxEvents: 40 }
const MOST_CHANGED = 12

/**
 * One leak test in this process, which needs --expose-gc; the clients are in another one.
 * @param progress one line at a time, for people
 * @param onRound called with the state at rest before the first round, then after each
 */
export async function runLeakTest (options: LeakOptions, progress: (line: string) => void = () => {}, onRound: (round: Round) => void = () => {}): Promise<LeakResult> {
  const startedAt = performance.now()
  const cleanup: Cleanup = []
  try {
    const store = await startStore(options.store, cleanup)
    const { app, url } = await startServer(store === 'memory' ? { memory: { retention } } : { ...store, retention }, options.sabotage)
    cleanup.push(() => app.close())
    const clients = fork(new URL('./clients-process.ts', import.meta.url), { execArgv: ['--import', 'tsx'], env: { PATH: process.env['PATH'] } })
    cleanup.push(async () => {
      if (clients.exitCode !== null || clients.signalCode !== null) return
      const gone = once(clients, 'exit')
      clients.kill()
      await gone
    })
    const { counts: rest } = await settle(app)
    await doWork(clients, { url, connections: options.warmup, runs: options.warmup }, (done) => { progress(`warming up: ${done}`) })

    const rounds: Round[] = []
    const left: string[] = []
    const measure = async (units: number): Promise<void> => {
      const { counts, heap, rss } = await settle(app, rest)
      const round = { round: rounds.length, units, heap, rss, counts }
      rounds.push(round)
      left.push(...leftovers(counts, rest).map((what) => `round ${round.round}: ${what}`))
      progress('')
      onRound(round)
    }
    if (options.snapshots !== undefined) {
      await settle(app, rest)
      await writeSnapshot(options.snapshots, 'before')
    }
    await measure(0)
    const upTo = (all: number, round: number): number => Math.floor(all * round / options.rounds)
    for (let round = 1; round <= options.rounds; round++) {
      const share = (all: number): number => upTo(all, round) - upTo(all, round - 1)
      await doWork(clients, { url, connections: share(options.connections), runs: share(options.runs) }, (done) => { progress(`round ${round} of ${options.rounds}: ${done}`) })
      await measure(upTo(options.connections, round) + upTo(options.runs, round))
    }
    const points = rounds.slice(1).map(({ units, heap }) => ({ x: units, y: heap }))
    return {
      machine: describeMachine(),
      options,
      rounds,
      trend: trendOf(points),
      verdict: judge(points),
      left,
      ...(options.snapshots !== undefined && { snapshots: await compare(options.snapshots) }),
      seconds: Math.round((performance.now() - startedAt) / 1_000)
    }
  } finally {
    progress('')
    for (const clean of cleanup.reverse()) await clean()
  }
}

/** @throws Error when something did not go as it must, or the clients are gone */
async function doWork (clients: ChildProcess, work: Work, onProgress: (done: string) => void): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const settleWith = (then: () => void): void => {
      clients.off('message', onMessage)
      clients.off('exit', onExit)
      then()
    }
    const onExit = (): void => { settleWith(() => { reject(new Error('The clients\' process is gone')) }) }
    const onMessage = (report: Report): void => {
      if (report.type === 'progress') onProgress(`${report.connections}/${work.connections} connections, ${report.runs}/${work.runs} runs`)
      else if (report.type === 'done') settleWith(resolve)
      else settleWith(() => { reject(new Error(report.message)) })
    }
    clients.on('message', onMessage)
    clients.on('exit', onExit)
    clients.send(work)
  })
}

async function writeSnapshot (folder: string, name: 'before' | 'after'): Promise<string> {
  await mkdir(folder, { recursive: true })
  return writeHeapSnapshot(join(folder, `${name}.heapsnapshot`))
}

async function compare (folder: string): Promise<NonNullable<LeakResult['snapshots']>> {
  const before = await readHeapSnapshot(join(folder, 'before.heapsnapshot'))
  const after = await readHeapSnapshot(await writeSnapshot(folder, 'after'))
  const bytes = (kinds: ReadonlyMap<string, KindOfObject>): number => [...kinds.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  return { before: bytes(before), after: bytes(after), changed: compareSnapshots(before, after).slice(0, MOST_CHANGED) }
}
