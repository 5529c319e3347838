// Prints `N passed, N failed` of the last `tap` run, counted from what each test file reported.
// Exits 1 when something failed or nothing ran.
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Parser } from 'tap-parser'

let passed = 0
let failed = 0

/** Counts assertions, not the lines that sum up a subtest. */
function count (parser) {
  const summaries = new Set()
  parser.on('child', (child) => {
    summaries.add(child.name)
    count(child)
  })
  parser.on('assert', ({ ok, skip, todo, name }) => {
    if (summaries.delete(name) || skip || todo) return
    if (ok) passed++
    else failed++
  })
  parser.on('bailout', () => { failed++ })
}

const results = '.tap/test-results'
for (const file of readdirSync(results, { recursive: true })) {
  if (!file.endsWith('.tap')) continue
  const parser = new Parser()
  count(parser)
  parser.end(readFileSync(join(results, file)))
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
