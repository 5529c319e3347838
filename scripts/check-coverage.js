// The coverage gate, after `tap`: every room of the library has its bar, and exits 1 names the files below it.
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'

/**
 * Lines that tests must reach, in percent, by the beginning of a file's path; the first that fits counts.
 * Each bar is three points below the room's weakest file as it was measured: a line that only a race reaches may be missed.
 */
const BARS = [
  ['schemas/', 97],
  // What only a failing disk, a failing-over Redis or a lost node reaches is shown by the fault tests, whose processes are
  // killed before they could report what they ran.
  ['plugins/store/', 87],
  ['routes/', 94],
  ['inspector/', 93],
  ['plugins/', 92],
  ['client/', 95],
  ['', 97]
]
/** Run in processes of their own, where no coverage is collected, or not part of the library. */
const ELSEWHERE = ['server/', 'dist/', 'examples/', 'scripts/', 'bench/', 'test/']

const summary = JSON.parse(readFileSync('.tap/report/coverage-summary.json', 'utf8'))
let failures = 0
for (const [path, { lines }] of Object.entries(summary)) {
  if (path === 'total') continue
  const file = relative(process.cwd(), path)
  if (file.startsWith('..') || ELSEWHERE.some((folder) => file.startsWith(folder))) continue
  const [, bar] = BARS.find(([prefix]) => file.startsWith(prefix))
  if (lines.pct >= bar) continue
  failures++
  console.error(`${file}: ${lines.pct} % of lines are covered, the bar is ${bar} %`)
}
console.log(failures === 0 ? `coverage: ${summary.total.lines.pct} % of lines, every room over its bar` : `coverage: ${failures} files below their bar`)
process.exitCode = failures > 0 ? 1 : 0
