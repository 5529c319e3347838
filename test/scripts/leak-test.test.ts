import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { compareSnapshots, readHeapSnapshot } from '../../scripts/leak-test/heap-snapshot.js'
import { readOptions } from '../../scripts/leak-test/options.js'
import type { LeakResult } from '../../scripts/leak-test/run.js'
import { FEWEST_POINTS, judge, quantileOfT, trendOf } from '../../scripts/leak-test/trend.js'
import { randomFrom } from '../../scripts/load-test/options.js'
import { childEnv } from '../support/child-env.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const SHORT = ['--connections', '120', '--runs', '120', '--rounds', '12', '--warmup', '120']

/** The command as people run it. */
function leakTest (...flags: readonly string[]): Promise<{ code: number, stdout: string, stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['--expose-gc', '--import', 'tsx', 'scripts/leak-test.ts', ...flags], { cwd: root, env: childEnv, timeout: 200_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

t.test('a short run: everything comes back to where it was, exit code 0', async (t) => {
  const { code, stdout, stderr } = await leakTest(...SHORT, '--json')
  t.equal(code, 0, stdout + stderr)
  const result = JSON.parse(stdout) as LeakResult
  t.strictSame(result.left, [])
  t.not(result.verdict, 'leaks')
  t.strictSame(result.rounds.map(({ round, units }) => [round, units]), Array.from({ length: 13 }, (_, round) => [round, round * 20]))
  for (const { counts } of result.rounds) t.match(counts, { connections: 0, subscriptions: 0, feeds: 0, runs: 0, contexts: 0 })
})

t.test('a server that keeps something of every run is found: exit code 1, and what it keeps is in the snapshots', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'agent-events-leak-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const { code, stdout, stderr } = await leakTest(...SHORT, '--sabotage', '--snapshots', folder, '--json')
  t.equal(code, 1, stderr)
  const { verdict, trend, snapshots } = JSON.parse(stdout) as LeakResult
  t.equal(verdict, 'leaks')
  t.ok(trend.low > 10_000, `at least ${trend.low} bytes`)
  t.strictSame(await readdir(folder), ['after.heapsnapshot', 'before.heapsnapshot'])
  t.ok(snapshots!.after - snapshots!.before > 120 * 80_000)
  t.equal(snapshots!.changed[0]!.name, '(array)')
  t.ok(snapshots!.changed[0]!.bytes > 120 * 80_000)
  t.strictSame(compareSnapshots(await readHeapSnapshot(join(folder, 'before.heapsnapshot')), await readHeapSnapshot(join(folder, 'after.heapsnapshot'))).slice(0, 3), snapshots!.changed.slice(0, 3))
})

// ---------- the verdict ----------

const FLAT = (_round: number): number => 20_000_000

/** Heaps after so many rounds of 10,000 units: a slope in bytes per unit, and noise like a real heap's. */
function heaps (seed: number, { rounds = 20, slope = 0, noise = 50_000, base = FLAT } = {}): Array<{ x: number, y: number }> {
  const random = randomFrom(seed)
  return Array.from({ length: rounds }, (_, i) => ({ x: (i + 1) * 10_000, y: base(i) + slope * (i + 1) * 10_000 + noise * (random() + random() + random() + random() - 2) }))
}

const SEEDS = Array.from({ length: 200 }, (_, seed) => seed)

t.test('a flat heap is clean and a growing one leaks, whatever the noise', async (t) => {
  t.strictSame(SEEDS.filter((seed) => judge(heaps(seed)) !== 'clean'), [])
  t.strictSame(SEEDS.filter((seed) => judge(heaps(seed, { slope: 8 })) !== 'leaks'), [])
})

t.test('few units: a flat heap in loud noise is never called a leak', async (t) => {
  const few = (seed: number) => heaps(seed, { rounds: 12 }).map(({ x, y }) => ({ x: x / 200, y }))
  t.strictSame(SEEDS.filter((seed) => judge(few(seed)) === 'leaks'), [])
  t.ok(SEEDS.some((seed) => judge(few(seed)) === 'open'), 'and not called clean where that is not shown')
})

t.test('a heap that finds its level is no leak: a step, or growth that ends', async (t) => {
  const step = (round: number): number => round < 7 ? 20_000_000 : 21_000_000
  const level = (round: number): number => 21_000_000 - 1_000_000 * Math.exp(-round / 2)
  const slow = (round: number): number => 20_000_000 + 20_000 * round
  for (const base of [step, level]) t.strictSame(SEEDS.filter((seed) => judge(heaps(seed, { base })) === 'leaks'), [])
  t.strictSame(SEEDS.filter((seed) => judge(heaps(seed, { base: slow, noise: 5_000 }).map(({ x, y }) => ({ x: x / 200, y }))) === 'leaks'), [], 'nor is growth that is steady and small as long as few units have come')
})

t.test('the confidence is what it says: the true slope lies outside in one of a hundred', async (t) => {
  const outside = Array.from({ length: 2_000 }, (_, seed) => trendOf(heaps(seed, { slope: 3 }))).filter(({ low, high }) => low > 3 || high < 3)
  t.ok(outside.length > 2 && outside.length < 50, `${outside.length} of 2,000`)
})

t.test('slope, noise and quantiles of Student\'s t as tables have them', async (t) => {
  const { slope, noise } = trendOf([1, 2, 3, 4, 5, 6].map((x) => ({ x, y: 7 * x })))
  t.equal(slope, 7)
  t.equal(noise, 0)
  for (const [freedom, table] of [[4, 4.604], [6, 3.707], [10, 3.169], [18, 2.878], [30, 2.750]] as const) {
    t.ok(Math.abs(quantileOfT(freedom) / table - 1) < 0.02, `${freedom}: ${quantileOfT(freedom)}`)
  }
  t.throws(() => trendOf([{ x: 1, y: 1 }]), new RegExp(`needs ${FEWEST_POINTS} points`))
})

t.test('wrong flags are refused, with what is wrong', async (t) => {
  for (const [flags, words] of [
    [['--rounds', '5'], /--rounds must be a whole number of at least 12/],
    [['--runs', '1.5'], /--runs must be a whole number/],
    [['--runs', '0', '--connections', '5'], /each round something to do/],
    [['--store', 'disk'], /--store must be one of/]
  ] as const) t.throws(() => readOptions(flags), words)
})
