/**
 * Says anything to every door of a listening app, as frames, as HTTP and as bytes: no crash, no 5xx, no answer and no log line
 * that names another user. Prints the seed; exits 1 with the smallest input that something is wrong with.
 *   npm run fuzz [-- --runs N --seed S]
 */
import { parseArgs } from 'node:util'
import { fuzz } from '../test/support/fuzz.js'

const { values } = parseArgs({ options: { runs: { type: 'string', default: '10000' }, seed: { type: 'string', default: String(Date.now() % 2 ** 31) } } })
const [runs, seed] = [Number(values.runs), Number(values.seed)]
if (!Number.isSafeInteger(runs) || runs < 1 || !Number.isSafeInteger(seed)) {
  process.stderr.write('--runs is a number of inputs, --seed a whole number\n')
  process.exit(2)
}
process.stdout.write(`${runs} inputs, seed ${seed}\n`)
// Whatever ends this process early, it is not a success.
process.exitCode = 1
const began = Date.now()
const onProgress = (done: number): void => { if (process.stderr.isTTY && done % 100 === 0) process.stderr.write(`\r\x1b[K${done} of ${runs}`) }
const { inputs, answers, failure } = await fuzz({ runs, seed, onProgress })
if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
process.stdout.write(`${inputs.frame} frames, ${inputs.http} requests, ${inputs.bytes} times bytes in ${Math.round((Date.now() - began) / 1_000)} s\n`)
for (const [answer, count] of Object.entries(answers).sort(([, a], [, b]) => b - a)) process.stdout.write(`${String(count).padStart(8)}  ${answer}\n`)
if (failure === undefined) {
  process.stdout.write('OK: every answer was one that may be given\n')
  process.exitCode = 0
} else {
  process.stdout.write(`FAILED: ${failure.why}\nThe smallest input: ${failure.input}\n`)
}
