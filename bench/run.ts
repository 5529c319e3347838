/**
 * Server CPU time per delivered event, ours beside its peers, alternating in the same run.
 *   npm run bench [-- --rounds 5 --json --workload fan-out]
 */
import { fork, type ChildProcess } from 'node:child_process'
import { parseArgs } from 'node:util'
import { SHAPES, type Job } from './workload.js'

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, json: { type: 'boolean', default: false }, workload: { type: 'string' } }
})

const SERVERS = ['ours', 'ws', 'ws-limit', 'socket-io'] as const
const JOBS: readonly Job[] = [
  { workload: 'stream', perTurn: 1, events: 40_000 },
  { workload: 'stream', perTurn: 4, events: 80_000 },
  { workload: 'fan-out', perTurn: 1, events: 400 },
  { workload: 'fan-out', perTurn: 4, events: 1_200 },
  { workload: 'burst', perTurn: 50, events: 10_000 }
]

function ask<Answer> (child: ChildProcess, message: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    child.once('message', (answer) => { resolve(answer as Answer) })
    child.once('exit', (code) => { reject(new Error(`a process of the bench ended with ${code}`)) })
    if (message !== undefined) child.send(message as object)
  })
}

/** Microseconds of server CPU per delivered event. */
async function measure (server: string, job: Job): Promise<number> {
  const { threads, watchers } = SHAPES[job.workload]
  const serverProcess = fork(new URL('./server-process.ts', import.meta.url), [server], { execArgv: ['--import', 'tsx'] })
  const watchersProcess = fork(new URL('./watchers-process.ts', import.meta.url), [], { execArgv: ['--import', 'tsx'] })
  try {
    const { port, path } = await ask<{ port: number, path: string }>(serverProcess, undefined)
    await ask(serverProcess, { prepare: threads })
    await ask(watchersProcess, { start: { port, path, kind: server, threads, watchers } })
    const warm = { ...job, events: Math.max(50, Math.floor(job.events / 4)) }
    await ask(serverProcess, { warm })
    const { done } = await ask<{ done: { cpuMs: number } }>(serverProcess, { job })
    const expected = (job.events + warm.events) * watchers
    for (let tries = 0; ; tries++) {
      const { received } = await ask<{ received: number }>(watchersProcess, 'count')
      if (received === expected) break
      if (received > expected || tries === 200) throw new Error(`${server} delivered ${received} of ${expected}`)
      await new Promise((resolve) => { setTimeout(resolve, 50) })
    }
    return done.cpuMs * 1_000 / (job.events * watchers)
  } finally {
    for (const child of [serverProcess, watchersProcess]) child.removeAllListeners('exit').kill('SIGKILL')
  }
}

const rounds = Number(values.rounds)
const results: Array<{ workload: string, perTurn: number, server: string, median: number, low: number, high: number }> = []
for (const job of JOBS) {
  if (values.workload !== undefined && values.workload !== job.workload) continue
  const figures = new Map<string, number[]>(SERVERS.map((server) => [server, []]))
  for (let round = 0; round < rounds; round++) {
    for (const server of SERVERS) {
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${job.workload} ${job.perTurn} a turn, round ${round + 1} of ${rounds}: ${server}`)
      figures.get(server)!.push(await measure(server, job))
    }
  }
  for (const [server, values] of figures) {
    values.sort((a, b) => a - b)
    results.push({ workload: job.workload, perTurn: job.perTurn, server, median: values[Math.floor(values.length / 2)]!, low: values[0]!, high: values.at(-1)! })
  }
}
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')

if (values.json) {
  console.log(JSON.stringify({ node: process.version, rounds, unit: 'microseconds of server CPU per delivered event', results }, null, 2))
} else {
  console.log('microseconds of server CPU per delivered event: median (lowest to highest), and ours as a ratio')
  for (const { workload, perTurn, server, median, low, high } of results) {
    const ours = results.find((result) => result.workload === workload && result.perTurn === perTurn && result.server === 'ours')!.median
    const ratio = server === 'ours' ? '' : `ours ${(ours / median).toFixed(2)}`
    console.log(`${`${workload}, ${perTurn} a turn`.padEnd(20)} ${server.padEnd(10)} ${median.toFixed(2).padStart(8)}  (${low.toFixed(2)} to ${high.toFixed(2)})  ${ratio}`)
  }
}
