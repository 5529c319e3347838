// Prints what failed in the last `tap` run, and as its last line `N passed, N failed`, counted from what each test file reported.
// Exits 1 when something failed or nothing ran.
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { Parser } from 'tap-parser'

/** More are counted, but not shown. */
const SHOWN = 20
const SHOWN_CHARS = 4000

let passed = 0
/** One text each: where it is, and what tap said of it. */
const failures = []

/** Counts assertions, not the lines that sum up a subtest. */
function count (parser, file) {
  const summaries = new Set()
  parser.on('child', (child) => {
    summaries.add(child.name.replace(/\\([#\\])/g, '$1'))
    count(child, file)
  })
  parser.on('assert', ({ ok, skip, todo, name, fullname, diag }) => {
    if (summaries.delete(name) || skip || todo) return
    if (ok) passed++
    else failures.push(`${file}: ${fullname}\n${inspect(diag, { depth: 5, breakLength: 120 })}`)
  })
}

const results = '.tap/test-results'
for (const name of readdirSync(results, { recursive: true })) {
  if (!name.endsWith('.tap')) continue
  const file = name.slice(0, -'.tap'.length)
  const parser = new Parser()
  const before = failures.length
  count(parser, file)
  parser.on('complete', ({ ok, count, bailout, failures: errors }) => {
    // A file that broke off, or reports something impossible such as fewer tests than it planned, has failed too.
    if (bailout !== false) failures.push(`${file}: bailed out: ${bailout}`)
    else if (count === 0) failures.push(`${file}: reported nothing`)
    else if (!ok && failures.length === before) failures.push(`${file}: broke off, or does not add up: ${inspect(errors, { depth: 5, breakLength: 120 })}`)
  })
  parser.end(readFileSync(join(results, name)))
}
// At the end of a long output, where they are looked for.
for (const failure of failures.slice(0, SHOWN)) console.log(`not ok: ${failure.slice(0, SHOWN_CHARS)}\n`)
console.log(`${passed} passed, ${failures.length} failed`)
process.exitCode = failures.length > 0 || passed === 0 ? 1 : 0
