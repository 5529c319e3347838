import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { LoadResult } from '../../scripts/load-test/result.js'
import { childEnv } from '../support/child-env.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const SHORT = ['--users', '10', '--connections', '20', '--rate', '200', '--duration', '2', '--warmup', '0.5', '--seed', '7']

interface Ended { code: number, stdout: string, stderr: string }

/** The command as people run it. */
function loadTest (...flags: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['--import', 'tsx', 'scripts/load-test.ts', ...flags], { cwd: root, env: childEnv, timeout: 200_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

t.test('everything that was sent arrives: exit code 0, and the figures as JSON', async (t) => {
  const { code, stdout, stderr } = await loadTest(...SHORT, '--json')
  t.equal(code, 0, stderr)
  const result = JSON.parse(stdout) as LoadResult
  t.equal(result.options.seed, 7)
  t.ok(result.sent >= 400, `${result.sent} sent`)
  t.equal(result.logged, result.sent)
  t.strictSame(result.verdict, { delivered: result.sent * 2, lost: 0, doubled: 0, outOfOrder: 0, altered: 0, unknown: 0 }, 'each event at both of its user\'s connections')
  t.ok(result.latency.count > 0)
  t.equal(result.latency.bins.reduce((sum, { count }) => sum + count, 0), result.latency.count)
  t.strictSame(result.seconds.map(({ second }) => second), [1, 2])
})

t.test('connections that drop and resume over two nodes get everything too', async (t) => {
  const { code, stdout, stderr } = await loadTest(...SHORT, '--store', 'redis', '--nodes', '2', '--receivers', '2', '--churn', '0.5', '--json')
  t.equal(code, 0, stderr)
  const result = JSON.parse(stdout) as LoadResult
  t.ok(result.resumed > 0, `${result.resumed} times resumed`)
  t.equal(result.verdict.delivered, result.sent * 2)
})

t.test('one event that one receiver lost is found: exit code 1', async (t) => {
  const { code, stdout } = await loadTest(...SHORT, '--duration', '1', '--sabotage')
  t.equal(code, 1)
  t.match(stdout, /^lost +1$/m)
  t.match(stdout, /^FAILED: 1 lost$/m)
})

t.test('wrong flags: exit code 2, and what is wrong', async (t) => {
  const { code, stderr } = await loadTest('--nodes', '2')
  t.equal(code, 2)
  t.match(stderr, /--nodes above 1 needs --store redis[^]*Usage: npm run load-test/)
})
