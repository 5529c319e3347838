/**
 * Does anything stay behind? Rounds of connections and runs against a server of this process, driven by clients of another
 * one, so that only the server's memory is measured. After each round everything is counted and the heap is collected.
 * Usage: npm run leak-test -- --help
 */
import { readOptions, usage } from './leak-test/options.js'
import { runLeakTest, type LeakResult, type Round } from './leak-test/run.js'
import { CONFIDENCE } from './leak-test/trend.js'

async function main (): Promise<void> {
  // Source maps are read with the first error that is thrown: a megabyte that is not the library's.
  process.setSourceMapsEnabled(false)
  let options: ReturnType<typeof readOptions>
  try {
    options = readOptions(process.argv.slice(2))
  } catch (error) {
    return refuse(`${(error as Error).message}\n\n${usage}`)
  }
  const { help, json, ...leak } = options
  if (help) {
    process.stdout.write(usage)
    return
  }
  if (globalThis.gc === undefined) return refuse('The collector must be exposed: npm run leak-test, or node --expose-gc\n')
  if (!json) process.stdout.write(`${leak.connections} connections and ${leak.runs} runs in ${leak.rounds} rounds, ${leak.store}, Node ${process.version}\n`)
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { process.exit(1) })
  // Whatever ends this process early, it is not a success.
  process.exitCode = 1
  const result = await runLeakTest(leak, progress, json ? undefined : printRound)
  process.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : describe(result))
  if (result.left.length === 0 && result.verdict !== 'leaks') process.exitCode = 0
}

function progress (line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`)
}

function printRound ({ round, heap, rss, counts }: Round): void {
  const names = Object.keys(counts) as Array<keyof typeof counts>
  if (round === 0) process.stdout.write(`${'round'.padEnd(8)}${'heap'.padStart(10)}${'rss'.padStart(11)}  ${names.map((name) => name.padStart(name.length + 2)).join('')}\n`)
  process.stdout.write(`${(round === 0 ? 'before' : String(round)).padEnd(8)}${megabytes(heap).padStart(10)}${megabytes(rss).padStart(11)}  ${names.map((name) => String(counts[name]).padStart(name.length + 2)).join('')}\n`)
}

function describe ({ trend: { slope, low, high, noise }, verdict, left, snapshots, seconds }: LeakResult): string {
  const lines = [`heap: ${slope.toFixed(2)} bytes per connection or run, with ${CONFIDENCE * 100} % confidence between ${low.toFixed(2)} and ${high.toFixed(2)} (noise of a round: ${(noise / 1024).toFixed(0)} KB); ${seconds} s`]
  if (snapshots !== undefined) {
    lines.push(`snapshots: ${megabytes(snapshots.before)} before, ${megabytes(snapshots.after)} after`)
    for (const { name, count, bytes } of snapshots.changed) lines.push(`  ${signed(bytes).padStart(12)} bytes ${signed(count).padStart(8)}  ${name.slice(0, 80)}`)
  }
  if (left.length > 0) lines.push(`left behind: ${left.join('; ')}`)
  if (left.length > 0 || verdict === 'leaks') lines.push('FAILED: something stays behind')
  else if (verdict === 'clean') lines.push('OK: everything came back to where it was')
  else lines.push(`OK: all counts came back, and no leak is shown; less than ${high.toFixed(0)} bytes for each connection or run is not ruled out`)
  return `${lines.join('\n')}\n`
}

function signed (value: number): string { return value > 0 ? `+${value}` : String(value) }

function megabytes (bytes: number): string { return `${(bytes / 1024 / 1024).toFixed(2)} MB` }

function refuse (message: string): void {
  process.stderr.write(message)
  process.exitCode = 2
}

await main()
