/**
 * Servers with agents that talk, and receivers that write down what they get, all in processes of their own; at the end
 * each receiver's record is compared with the log. Usage: npm run load-test -- --help
 */
import { readOptions, usage } from './load-test/options.js'
import { describe, format, problems } from './load-test/result.js'
import { fileLimitProblem, runLoadTest } from './load-test/run.js'

function progress (line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`)
}

async function main (): Promise<void> {
  let options: ReturnType<typeof readOptions>
  try {
    options = readOptions(process.argv.slice(2))
  } catch (error) {
    return refuse(`${(error as Error).message}\n\n${usage}`)
  }
  const { help, json, ...load } = options
  if (help) {
    process.stdout.write(usage)
    return
  }
  const problem = fileLimitProblem(load)
  if (problem !== undefined) return refuse(`${problem}\n`)
  const { users, threads, connections, rate, duration, store, nodes, churn, seed } = load
  if (!json) process.stdout.write(`${format(users)} users with ${threads} threads each, ${format(connections)} connections, ${format(rate)} events/s for ${duration} s, ${store}, ${nodes === 1 ? 'one node' : `${nodes} nodes`}, churn ${churn}, seed ${seed}\n`)
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { process.exit(1) })
  // Whatever ends this process early, it is not a success.
  process.exitCode = 1
  const result = await runLoadTest(load, progress)
  process.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : describe(result))
  if (problems(result).length === 0) process.exitCode = 0
}

function refuse (message: string): void {
  process.stderr.write(message)
  process.exitCode = 2
}

await main()
