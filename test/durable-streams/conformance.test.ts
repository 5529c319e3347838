import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startWriteAdapter } from './write-adapter.js'

/*
 * Durable Streams' own conformance suite, as far as it is about reading. Its writing goes through a small adapter of this
 * folder; what is read is what our door answers.
 */

const LONG_POLL_MS = 1_000

/*
 * The suite gives an event stream two seconds to say something, which a busy machine does not always keep: hence
 * `--retry`. What our door gets wrong it gets wrong each time.
 */

const WRITES = 'is about writing, which the adapter does'
const BASE64 = 'our log holds JSON and nothing else: no stream of ours is sent as base64'
const TEXT = 'frames of text are made by the adapter: ours are one line of JSON'

/** The groups about reading, each with the tests in it that are not, or that cannot be asked of a log of JSON events. */
const GROUPS: Record<string, Record<string, string>> = {
  'Read Operations': {},
  'Long-Poll Operations': {},
  'HTTP Protocol': {
    'should enforce sequence ordering': WRITES,
    'should enforce lexicographic seq ordering ("2" then "10" rejects)': WRITES,
    'should allow lexicographic seq ordering ("09" then "10" succeeds)': WRITES,
    'should reject duplicate seq values': WRITES
  },
  'Browser Security Headers': {},
  'HEAD Metadata': {},
  'Offset Validation and Resumability': {},
  'Protocol Edge Cases': {
    'should enforce case-sensitive seq ordering': WRITES
  },
  'Long-Poll Edge Cases': {},
  'Caching and ETag': {
    'should allow If-None-Match in CORS preflight responses': 'preflights are answered by the host\'s @fastify/cors'
  },
  'Chunking and Large Payloads': {},
  'Read-Your-Writes Consistency': {},
  'SSE Mode': {
    'base64 SSE catch-up pairs every data event with a control event': BASE64,
    'should auto-detect binary streams and return base64 encoded data in SSE mode': BASE64,
    'should include Stream-SSE-Data-Encoding header for binary streams': BASE64,
    'should base64 encode data events only, control events remain JSON': BASE64,
    'should handle large binary payload with auto-detected base64 encoding': BASE64,
    'should handle binary data with special bytes using auto-detected base64 encoding': BASE64,
    'should auto-detect base64 encoding for application/x-protobuf streams': BASE64,
    'should auto-detect base64 encoding for image/png streams': BASE64,
    'should handle newlines in text/plain payloads': TEXT,
    'should prevent CRLF injection in payloads - embedded event boundaries become literal data': TEXT,
    'should prevent CRLF injection - LF-only attack vectors': TEXT,
    'should prevent CRLF injection - carriage return only attack vectors': TEXT
  },
  'JSON Mode': {},
  'Property-Based Tests (fast-check) > Byte-Exactness Property': {},
  'Property-Based Tests (fast-check) > Operation Sequence Properties': {},
  'Property-Based Tests (fast-check) > Immutability Properties': {},
  'Property-Based Tests (fast-check) > Offset Validation Properties': {}
}

interface Outcome { ancestorTitles: string[], title: string, status: string, failureMessages: string[] }

const escape = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')

async function runSuite (baseUrl: string): Promise<Outcome[]> {
  const folder = await mkdtemp(join(tmpdir(), 'fae-conformance-'))
  try {
    const file = join(folder, 'report.json')
    const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')
    const excluded = Object.entries(GROUPS).flatMap(([group, tests]) => Object.keys(tests).map((title) => `${group.replace(' > ', ' ')} ${title}`))
    const groups = Object.keys(GROUPS).map((group) => group.replace(' > ', ' '))
    const pattern = `^(?!(?:${excluded.map(escape).join('|')})$)(?:${groups.map(escape).join('|')}) `
    const { NODE_OPTIONS: _options, ...env } = process.env
    const child = spawn(process.execPath, [vitest, 'run', '--config', fileURLToPath(new URL('vitest.config.js', import.meta.url)), '--reporter=json', '--retry=4', `--outputFile=${file}`, '-t', pattern], {
      env: { ...env, CONFORMANCE_URL: baseUrl, LONG_POLL_MS: String(LONG_POLL_MS) },
      cwd: fileURLToPath(new URL('.', import.meta.url)),
      stdio: ['ignore', 'pipe', 'pipe']
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { output += String(chunk) })
    await once(child, 'close')
    const report = await readFile(file, 'utf8').catch(() => { throw new Error(`vitest left no report:\n${output}`) })
    return (JSON.parse(report) as { testResults: Array<{ assertionResults: Outcome[] }> }).testResults.flatMap(({ assertionResults }) => assertionResults)
  } finally {
    await rm(folder, { recursive: true })
  }
}

t.test('the conformance suite of Durable Streams, reading', async (t) => {
  const outcomes = await runSuite(await startWriteAdapter(t, { longPollMs: LONG_POLL_MS }))
  let passed = 0
  for (const [group, excluded] of Object.entries(GROUPS)) {
    const inGroup = outcomes.filter(({ ancestorTitles }) => ancestorTitles.filter((title) => title !== '').join(' > ') === group)
    const wanted = inGroup.filter(({ title }) => !(title in excluded))
    for (const { title, failureMessages } of wanted.filter(({ status }) => status !== 'passed')) t.fail(`${group}: ${title}`, { failureMessages })
    t.ok(wanted.length > 0, `${group}: ${wanted.length} tests pass, ${Object.keys(excluded).length} are not asked`)
    t.strictSame(Object.keys(excluded).filter((name) => !inGroup.some(({ title }) => title === name)), [], 'every exclusion names a test')
    passed += wanted.filter(({ status }) => status === 'passed').length
  }
  t.comment(`${passed} of the suite's ${outcomes.length} tests are about reading and pass`)
})
