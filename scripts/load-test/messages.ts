import type { LatencyCounts } from './latencies.js'
import { now } from './options.js'
import type { Verdict } from './verdict.js'

/* What the processes of a load test say to each other. */

export interface ServerStart { readonly node: number, readonly store: 'memory' | { lmdb: string } | { redis: string } }

export type Command = { type: 'talk' } | { type: 'connect', urls: string[] } | { type: 'judge' }

/** How a process does; counts since its start. */
export interface Sample {
  readonly type: 'sample'
  /** By now(). */
  readonly at: number
  readonly cpuMs: number
  readonly rss: number
  /** Events that agents were told are stored. */
  readonly sent: number
  /** What all receivers together must get of them. */
  readonly due: number
  readonly delivered: number
  /** Since the sample before. */
  readonly latencies?: LatencyCounts
}

export type Report =
  | Sample
  | { type: 'listening', url: string }
  | { type: 'silent' }
  | { type: 'connecting', connected: number }
  | { type: 'connected' }
  | { type: 'judged', verdict: Verdict, logged: number, resumed: number, notRecovered: number, cutOff: number, refusals: Record<string, number> }

export const SAMPLE_EVERY_MS = 500

export function sample (counts: Partial<Sample>): Sample {
  const { user, system } = process.cpuUsage()
  return { type: 'sample', at: now(), cpuMs: (user + system) / 1_000, rss: process.memoryUsage.rss(), sent: 0, due: 0, delivered: 0, ...counts }
}

export function report (message: Report): void { process.send!(message) }

/** Ends the process, with the error. */
export function fail (error: unknown): void { setImmediate(() => { throw error }) }

/** Does what it is told until its parent is gone. */
export function obey (commands: (command: Command) => Promise<void> | undefined): void {
  process.on('message', (command: Command) => {
    commands(command)?.catch(fail)
  })
  process.on('disconnect', () => { process.exit() })
}
