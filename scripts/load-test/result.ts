import type { Machine } from '../machine.js'
import type { LoadOptions } from './options.js'
import { isClean, type Verdict } from './verdict.js'

export interface Second {
  second: number
  /** Of this second. */
  sent: number
  delivered: number
  /** Of the events that arrived in it; 0 when none did. */
  p50: number
  p99: number
  max: number
  /** Deliveries still due at its end. */
  behind: number
}

export interface LoadResult {
  machine: Machine
  options: LoadOptions
  /** Events that agents were told are stored. */
  sent: number
  /** Events that the logs hold. */
  logged: number
  verdict: Verdict
  /** Times a connection dropped and resumed because it was told to, and was told that it had lost its place. */
  resumed: number
  notRecovered: number
  /** Times a connection was ended or not made, and what was refused, by code. */
  cutOff: number
  refusals: Record<string, number>
  /** A second, while they were measured. */
  sentPerSecond: number
  deliveredPerSecond: number
  /** Milliseconds from when an event was due to the receiver's handler. */
  latency: { count: number, p50: number, p90: number, p99: number, p999: number, max: number, bins: Array<{ from: number, to: number, count: number }> }
  /** Cores in use by all servers, and by all receivers, while they were measured; their memory at the end. */
  cores: { servers: number, receivers: number }
  memoryMiB: { servers: number, receivers: number }
  connectSeconds: number
  seconds: Second[]
}

/** What is wrong, in words; nothing when every receiver got what the log holds. */
export function problems ({ verdict, sent, logged, notRecovered }: Pick<LoadResult, 'verdict' | 'sent' | 'logged' | 'notRecovered'>): string[] {
  const found: string[] = []
  if (!isClean(verdict)) {
    for (const [what, count] of Object.entries(verdict)) if (what !== 'delivered' && count > 0) found.push(`${format(count)} ${WORDS[what as keyof Verdict]}`)
  }
  if (logged < sent) found.push(`${format(sent - logged)} confirmed to an agent and not in the log`)
  if (notRecovered > 0) found.push(`${format(notRecovered)} times a place was lost`)
  return found
}

const WORDS: Record<keyof Verdict, string> = { delivered: 'delivered', lost: 'lost', doubled: 'doubled', outOfOrder: 'out of order', altered: 'altered', unknown: 'not in the log' }

export function describe (result: LoadResult): string {
  const { options, verdict, latency, cores, memoryMiB } = result
  const found = problems(result)
  const lines = [
    `sent          ${format(result.sent)} events in ${format(options.users * options.threads)} threads, ${format(result.sentPerSecond)} a second of the ${format(options.rate)} asked for`,
    `delivered     ${format(verdict.delivered)} to ${format(options.connections)} connections, ${format(result.deliveredPerSecond)} a second`,
    `lost          ${format(verdict.lost)}`,
    `doubled       ${format(verdict.doubled)}`,
    `out of order  ${format(verdict.outOfOrder)}`,
    ...(options.churn > 0 ? [`resumed       ${format(result.resumed)} times`] : []),
    ...(result.cutOff > 0 ? [`cut off       ${format(result.cutOff)} times, and came back`] : []),
    ...Object.entries(result.refusals).map(([code, count]) => `refused       ${format(count)} times with ${code}, and tried again`),
    `latency       p50 ${ms(latency.p50)}  p90 ${ms(latency.p90)}  p99 ${ms(latency.p99)}  max ${ms(latency.max)}`,
    ...drawBins(latency.bins, latency.count),
    `servers       ${cores.servers.toFixed(2)} cores, ${format(memoryMiB.servers)} MiB; receivers ${cores.receivers.toFixed(2)} cores, ${format(memoryMiB.receivers)} MiB`,
    found.length === 0 ? 'OK: every receiver got what the log holds, once and in order' : `FAILED: ${found.join(', ')}`
  ]
  return `${lines.join('\n')}\n`
}

const BAR = 40

function drawBins (bins: LatencyBins, count: number): string[] {
  const most = Math.max(1, ...bins.map(({ count }) => count))
  return bins.map((bin) => `${`${bin.from} to ${bin.to} ms`.padStart(20)}  ${(100 * bin.count / count).toFixed(2).padStart(6)} %  ${'\u2588'.repeat(Math.round(BAR * bin.count / most))}`)
}

type LatencyBins = LoadResult['latency']['bins']

export function format (count: number): string { return Math.round(count).toLocaleString('en-US') }

export function ms (value: number): string { return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` }
