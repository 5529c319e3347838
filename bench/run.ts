/**
 * This project beside its peers, alternating in the same run, on the built package.
 *   npm run bench [-- --rounds 5 --workload fan-out --json results.json]
 */
import { execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { barsTable, figuresTable, type Result, type Results, type Table } from './results.js'
import type { Figures, Workload } from './workloads/workload.js'

const NAMES = ['stream', 'fan-out', 'burst', 'resume', 'latency', 'two-nodes', 'idle', 'idle-cost', 'registration']
const PEERS = ['ws', 'socket.io', '@socket.io/redis-streams-adapter', '@fastify/websocket', 'fastify', 'ioredis', 'lmdb']

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    /** May be given several times. */
    workload: { type: 'string', multiple: true, default: NAMES },
    /** A file, or - for the standard output. */
    json: { type: 'string' }
  }
})
const rounds = Number(values.rounds)
const print = values.json === '-' ? () => {} : console.log
const startedAt = Date.now()
/** Of others: above a few tenths the figures are theirs too, times most of all. */
const [loadBefore] = os.loadavg()

function progress (text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`)
}

async function measure (workload: string): Promise<Result> {
  if (!NAMES.includes(workload)) throw new Error(`there is no workload '${workload}', only ${NAMES.join(', ')}`)
  const { default: { units, cells, bars } } = await import(`./workloads/${workload}.js`) as { default: Workload }
  const measured = cells.map(({ row, side }) => ({ row, side, rounds: [] as Figures[] }))
  for (let round = 0; round < rounds; round++) {
    for (const [i, { row, side, measure }] of cells.entries()) {
      progress(`${workload}, round ${round + 1} of ${rounds}: ${row}, ${side}`)
      measured[i]!.rounds.push(await measure())
    }
  }
  progress('')
  return { workload, units, cells: measured, bars }
}

async function versionOf (name: string): Promise<string> {
  return (JSON.parse(await readFile(new URL(`../node_modules/${name}/package.json`, import.meta.url), 'utf8')) as { version: string }).version
}

async function describe (results: readonly Result[]): Promise<Results> {
  const [cpu] = os.cpus()
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
    minutes: Math.round((Date.now() - startedAt) / 60_000),
    rounds,
    machine: {
      processor: `${cpu!.model}, ${os.availableParallelism()} cores`,
      memory: `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
      system: `${os.type()} ${os.release()}`,
      'load average before': loadBefore!.toFixed(2),
      Node: process.version,
      'redis-server': execFileSync('redis-server', ['--version'], { encoding: 'utf8' }).match(/v=(\S+)/)![1]!,
      ...Object.fromEntries(await Promise.all(PEERS.map(async (name) => [name, await versionOf(name)])))
    },
    results
  }
}

function padded ({ head, rows }: Table): string {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)))
  return [head, ...rows].map((row) => row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join('   ')).join('\n')
}

const results: Result[] = []
for (const workload of values.workload) {
  const result = await measure(workload)
  results.push(result)
  print(`\n${workload}\n\n${padded(figuresTable(result))}`)
  // After each, so that a run that is interrupted has not been for nothing.
  if (values.json !== undefined && values.json !== '-') await writeFile(values.json, await toJson())
}
print(`\n${padded(barsTable(results))}`)
if (values.json === '-') process.stdout.write(await toJson())

async function toJson (): Promise<string> { return `${JSON.stringify(await describe(results), null, 2)}\n` }
