import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { histogram, lineChart } from './charts.js'
import { table, writeGenerated } from './generated.js'
import type { LeakResult } from './leak-test/run.js'
import { CONFIDENCE, SMALLEST_LEAK } from './leak-test/trend.js'
import { format, ms, type LoadResult } from './load-test/result.js'
import type { Machine } from './machine.js'

/** Results as they are kept. */
export interface Measured<Result> { readonly date: string, readonly commit: string, readonly note?: string, readonly results: Result }

/** By their names. */
export type LoadResults = Readonly<Record<string, LoadResult>>

export const LOADS: Readonly<Record<string, readonly string[]>> = {
  'as it is by default': [],
  '10,000 connections, each thread in 2 tabs': ['--users', '5000', '--threads', '1', '--connections', '10000', '--rate', '10000'],
  '10,000 connections, each thread in 10 tabs': ['--users', '1000', '--threads', '1', '--connections', '10000', '--rate', '2000'],
  'half of the connections drop and resume': ['--churn', '0.5'],
  lmdb: ['--store', 'lmdb'],
  'redis, two nodes, a fifth drop and resume': ['--store', 'redis', '--nodes', '2', '--churn', '0.2']
}
/** More loads, with the defaults but for the rate. */
export const RATES = [500, 1_000, 2_000, 4_000, 8_000]

export function rateName (rate: number): string { return `rate ${rate}` }

export async function readMeasured<Result> (file: URL): Promise<Measured<Result>> {
  return JSON.parse(await readFile(file, 'utf8')) as Measured<Result>
}

function machineLine ({ date, commit, note }: Measured<unknown>, { cpu, cores, memoryGiB, platform, node }: Machine): string {
  return `Measured on ${date} at commit ${commit}: ${cpu}, ${cores} cores, ${memoryGiB} GiB, ${platform}, Node ${node}.${note === undefined ? '' : ` ${note}`}`
}

/** docs/load-test.md and its charts, with what has been measured; the first two loads at least. @param docs a folder's URL, with a slash at its end */
export async function writeLoadPage (measured: Measured<LoadResults>, docs: URL): Promise<void> {
  const loads = Object.keys(LOADS).filter((name) => name in measured.results).map((name) => [name, measured.results[name]!] as const)
  const rates = RATES.map(rateName).filter((name) => name in measured.results).map((name) => measured.results[name]!)
  const [[, byDefault], [, tenThousand]] = loads as [readonly [string, LoadResult], readonly [string, LoadResult]]
  await writeGenerated(new URL('load-test.md', docs), {
    machine: machineLine(measured, byDefault.machine),
    loads: table(['', 'connections', 'events/s asked for', 'events/s', 'delivered/s', 'delivered', 'lost', 'doubled', 'out of order', 'resumed'], loads.map(([name, { options, sentPerSecond, deliveredPerSecond, verdict, resumed }]) => [
      name, format(options.connections), format(options.rate), format(sentPerSecond), format(deliveredPerSecond), format(verdict.delivered), format(verdict.lost), format(verdict.doubled), format(verdict.outOfOrder), format(resumed)
    ])),
    latencies: table(['', 'p50', 'p90', 'p99', 'max', 'servers\' cores', 'receivers\' cores', 'CPU of the servers per delivered event'], loads.map(([name, { latency, cores, deliveredPerSecond }]) => [
      name, ms(latency.p50), ms(latency.p90), ms(latency.p99), ms(latency.max), cores.servers.toFixed(2), cores.receivers.toFixed(2), `${(cores.servers * 1e6 / deliveredPerSecond).toFixed(0)} µs`
    ])),
    commands: ['```sh', ...loads.map(([name, { options: { seed } }]) => `npm run load-test -- ${[...LOADS[name]!, '--seed', seed].join(' ')}   # ${name}`), '```'].join('\n'),
    rates: table(['events/s asked for', 'events/s', 'delivered/s', 'p50', 'p99', 'servers\' cores', 'lost'], rates.map(({ options, sentPerSecond, deliveredPerSecond, latency, cores, verdict }) => [
      format(options.rate), format(sentPerSecond), format(deliveredPerSecond), ms(latency.p50), ms(latency.p99), cores.servers.toFixed(2), format(verdict.lost)
    ]))
  })
  await writeChart(docs, 'load-latency', histogram(byDefault.latency.bins.filter(({ from }) => from > 0), { title: `Latency of ${format(byDefault.latency.count)} events at ${format(byDefault.options.connections)} connections`, x: 'milliseconds from due to handled', y: 'events', xScale: 'log' }))
  await writeChart(docs, 'load-delivered', lineChart(tenThousand.seconds.flatMap(({ second, sent, delivered }) => [{ x: second, y: sent, series: 'into the logs' }, { x: second, y: delivered, series: 'delivered' }]), { title: `${format(tenThousand.options.connections)} connections`, x: 'seconds', y: 'events in this second' }))
  await writeChart(docs, 'load-rates', lineChart(rates.flatMap(({ options, latency }) => [{ x: options.rate, y: latency.p50, series: 'p50' }, { x: options.rate, y: latency.p99, series: 'p99' }]), { title: `Latency as the rate rises, ${format(byDefault.options.connections)} connections`, x: 'events a second into the logs', y: 'milliseconds', xScale: 'log', yScale: 'log' }))
}

/** docs/memory.md and its chart. @param docs a folder's URL, with a slash at its end */
export async function writeMemoryPage (measured: Measured<LeakResult>, docs: URL): Promise<void> {
  const { machine, options, rounds, trend, verdict, left, seconds, snapshots } = measured.results
  const [before, after] = [rounds[0]!, rounds.at(-1)!]
  const names = Object.keys(before.counts) as Array<keyof typeof before.counts>
  await writeGenerated(new URL('memory.md', docs), {
    machine: `${machineLine(measured, machine)} It took ${Math.round(seconds / 60)} minutes.`,
    counts: table(['', 'before', `after ${format(options.connections)} connections and ${format(options.runs)} runs`, 'highest after any round'], [
      ['heap and buffers', megabytes(before.heap), megabytes(after.heap), megabytes(Math.max(...rounds.map(({ heap }) => heap)))],
      ['resident memory', megabytes(before.rss), megabytes(after.rss), megabytes(Math.max(...rounds.map(({ rss }) => rss)))],
      ...names.map((name) => [name, format(before.counts[name]), format(after.counts[name]), format(Math.max(...rounds.map(({ counts }) => counts[name])))])
    ]),
    trend: table(['', ''], [
      ['growth for each connection or run', `${trend.slope.toFixed(2)} bytes`],
      [`with ${CONFIDENCE * 100} % confidence between`, `${trend.low.toFixed(2)} and ${trend.high.toFixed(2)} bytes`],
      ['how far a round lies from the line (standard deviation)', `${format(trend.noise / 1_024)} KiB`],
      ['smallest leak that counts', `${SMALLEST_LEAK} bytes`],
      ['left behind', left.length === 0 ? 'nothing' : left.join('; ')],
      ['verdict', verdict === 'open' ? 'no leak is shown; less than the upper figure is not ruled out' : verdict]
    ]),
    snapshots: table([`of ${format(snapshots!.before / 1024)} KiB before and ${format(snapshots!.after / 1024)} KiB after`, 'objects', 'bytes'], snapshots!.changed.map(({ name, count, bytes }) => [`\`${name}\``, signed(count), signed(bytes)]))
  })
  await writeChart(docs, 'memory-heap', lineChart(rounds.flatMap(({ units, heap, rss }) => [{ x: units, y: heap / 2 ** 20, series: 'heap and buffers' }, { x: units, y: rss / 2 ** 20, series: 'resident' }]), { title: 'Memory after each round, with nobody connected', x: 'connections and runs so far', y: 'MiB' }))
}

async function writeChart (docs: URL, name: string, svg: string): Promise<void> {
  await mkdir(new URL('charts/', docs), { recursive: true })
  await writeFile(new URL(`charts/${name}.svg`, docs), svg)
}

function megabytes (bytes: number): string { return `${(bytes / 2 ** 20).toFixed(1)} MiB` }

function signed (value: number): string { return value > 0 ? `+${format(value)}` : format(value) }
