/**
 * Writes the figures and charts of docs/performance.md from what `npm run bench -- --json bench/results.json` has measured.
 *   npm run bench:report
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { bars, type Bar, type ChartOptions } from '../scripts/charts.js'
import { table, writeGenerated } from '../scripts/generated.js'
import { barsTable, figuresTable, spreadOf, type Results, type Table } from './results.js'

const page = new URL('../docs/performance.md', import.meta.url)
const charts = new URL('../docs/charts/', import.meta.url)

const { date, commit, minutes, rounds, machine, results } = JSON.parse(await readFile(new URL('results.json', import.meta.url), 'utf8')) as Results

const isBusy = Number(machine['load average before']) > 1

interface Shown { readonly workload: string, readonly figure: string, readonly sides: readonly string[], readonly group: (row: string, unit: string) => string }

/** The rows of some workloads, with the sides beside each other. */
async function draw (file: string, shown: readonly Shown[], options: Omit<ChartOptions, 'x'>): Promise<void> {
  const values = shown.flatMap(({ workload, figure, sides, group }) => {
    const result = results.find((result) => result.workload === workload)
    if (result === undefined) throw new Error(`there are no results of '${workload}': run the whole bench`)
    const rows = [...new Set(result.cells.map(({ row }) => row))]
    return rows.flatMap((row) => sides.flatMap((side): Bar[] => {
      const spread = spreadOf(result, row, side, figure)
      return spread === undefined ? [] : [{ group: group(row, result.units[figure]!), series: side, value: spread.median, low: spread.low, high: spread.high }]
    }))
  })
  await writeFile(new URL(file, charts), bars(values, { ...options, x: '' }))
}

const asMarkdown = ({ head, rows }: Table): string => table(head, rows)

await writeGenerated(page, {
  machine: [
    `Measured on ${date} at commit ${commit}, in ${minutes} minutes; rounds: ${rounds}.${isBusy ? ' **The machine was busy with other work: these figures are a first look, times most of all.**' : ''}`,
    table(['', ''], Object.entries(machine))
  ].join('\n\n'),
  bars: asMarkdown(barsTable(results)),
  ...Object.fromEntries(results.map((result) => [result.workload, asMarkdown(figuresTable(result))]))
})

// In each chart a side has the same colour.
const ALL = ['ours', 'ws', 'socket.io', 'ws-limit', 'ours, lmdb']
await mkdir(charts, { recursive: true })
await draw('cpu.svg', ['stream', 'fan-out', 'burst'].map((workload) => ({ workload, figure: 'cpuUs', sides: ALL, group: (row) => `${workload}, ${row}` })), {
  title: 'What a delivered event costs its server', y: 'µs of CPU', series: ALL, width: 1_100
})
await draw('two-nodes.svg', ['perCpuSecond', 'perCpuSecondWithRedis'].map((figure) => ({ workload: 'two-nodes', figure, sides: ['ours', 'socket.io'], group: (row) => `${row}, ${figure === 'perCpuSecond' ? 'both nodes' : 'with Redis'}` })), {
  title: 'From node to node through Redis', y: 'events per CPU second'
})
await draw('latency.svg', [
  ...['p50', 'p99'].map((figure) => ({ workload: 'latency', figure, sides: ['ours', 'ws'], group: (row: string) => `${row}, ${figure}` })),
  ...['p50', 'p99'].map((figure) => ({ workload: 'two-nodes', figure, sides: ['ours', 'socket.io'], group: () => `two nodes, ${figure}` }))
], { title: 'From the call that says it to the handler that has read it', y: 'ms', series: ['ours', 'ws', 'socket.io'] })
