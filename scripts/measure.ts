/**
 * The figures of docs/load-test.md and docs/memory.md: measures, keeps the results beside the tests, and writes both pages'
 * tables and charts from what is kept.
 *   node --import tsx scripts/measure.ts load [--note TEXT] [--only NAME] [--duration SECONDS]   about 6 minutes; needs a build
 *   node --import tsx scripts/measure.ts leak [--note TEXT]                 about 7 minutes; needs a build
 *   node --import tsx scripts/measure.ts pages                              only writes the pages
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'
import type { LeakResult } from './leak-test/run.js'
import { readOptions } from './load-test/options.js'
import { format, ms, problems, type LoadResult } from './load-test/result.js'
import { fileLimitProblem, runLoadTest } from './load-test/run.js'
import { LOADS, RATES, rateName, readMeasured, writeLoadPage, writeMemoryPage, type LoadResults, type Measured } from './measured-pages.js'

const SEED = ['--seed', '1']
const RATE_FLAGS = ['--duration', '8']
/** V8 goes on compiling for a long time. */
const LEAK = ['--connections', '100000', '--runs', '100000', '--warmup', '10000']

const LOAD_RESULTS = new URL('./load-test/results.json', import.meta.url)
const LEAK_RESULTS = new URL('./leak-test/results.json', import.meta.url)
const docs = new URL('../docs/', import.meta.url)

async function measureLoad (note: string | undefined, only: string | undefined, duration: readonly string[]): Promise<void> {
  const results: Record<string, LoadResult> = only === undefined ? {} : { ...(await readMeasured<LoadResults>(LOAD_RESULTS)).results }
  const jobs = [...Object.entries(LOADS), ...RATES.map((rate) => [rateName(rate), ['--rate', String(rate), ...RATE_FLAGS]] as const)]
  for (const [name, flags] of jobs) {
    if (only !== undefined && only !== name) continue
    const options = readOptions([...flags, ...duration, ...SEED])
    const problem = fileLimitProblem(options)
    if (problem !== undefined) throw new Error(problem)
    process.stdout.write(`${name}\n`)
    results[name] = await runLoadTest(options, (line) => { if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`) })
    const found = problems(results[name])
    process.stdout.write(`  ${found.length === 0 ? `${format(results[name].deliveredPerSecond)} delivered/s, p99 ${ms(results[name].latency.p99)}` : found.join(', ')}\n`)
    if (found.length > 0) process.exitCode = 1
    await keep(LOAD_RESULTS, results, note)
  }
}

async function measureLeak (note: string | undefined): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'agent-events-snapshots-'))
  try {
    const child = spawn(process.execPath, ['--expose-gc', '--import', 'tsx', 'scripts/leak-test.ts', ...LEAK, '--snapshots', folder, '--json'], { cwd: new URL('../', import.meta.url), stdio: ['ignore', 'pipe', 'inherit'] })
    const [json, [code]] = await Promise.all([text(child.stdout), once(child, 'exit') as Promise<[number | null]>])
    if (json === '') throw new Error(`The leak test ended with ${code}`)
    await keep(LEAK_RESULTS, JSON.parse(json) as LeakResult, note)
    process.exitCode = code ?? 1
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function keep (file: URL, results: unknown, note: string | undefined): Promise<void> {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
  const measured: Measured<unknown> = { date: new Date().toISOString().slice(0, 10), commit, ...(note !== undefined && { note }), results }
  await writeFile(file, `${JSON.stringify(measured, null, 1)}\n`)
}

const { values: { note, only, duration }, positionals: [what] } = parseArgs({ allowPositionals: true, options: { note: { type: 'string' }, only: { type: 'string' }, duration: { type: 'string' } } })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { process.exit(1) })
if (what === 'load') await measureLoad(note, only, duration === undefined ? [] : ['--duration', duration])
if (what === 'leak') await measureLeak(note)
if (what === 'load' || what === 'pages') await writeLoadPage(await readMeasured(LOAD_RESULTS), docs)
if (what === 'leak' || what === 'pages') await writeMemoryPage(await readMeasured(LEAK_RESULTS), docs)
if (!['load', 'leak', 'pages'].includes(what ?? '')) {
  process.stderr.write('Usage: node --import tsx scripts/measure.ts load|leak|pages\n')
  process.exitCode = 2
}
