import { parseArgs } from 'node:util'
import { FEWEST_POINTS } from './trend.js'

export interface LeakOptions {
  readonly connections: number
  readonly runs: number
  readonly rounds: number
  /** Connections, and runs, before the first round. */
  readonly warmup: number
  readonly store: 'memory' | 'lmdb' | 'redis'
  /** A folder. */
  readonly snapshots?: string
  /** The server keeps a little of every run, to see that this is found. */
  readonly sabotage: boolean
}

const defaults = { connections: 10_000, runs: 20_000, rounds: 20, warmup: 2_000 }
const FEWEST_ROUNDS = 2 * FEWEST_POINTS
const STORES = ['memory', 'lmdb', 'redis'] as const

export const usage = `Usage: npm run leak-test -- [flags]

  --connections N   connect, subscribe, disconnect: how often in all (${defaults.connections})
  --runs N          runs in all, of every kind and ending (${defaults.runs})
  --rounds N        in how many rounds, with a measurement after each, ${FEWEST_ROUNDS} or more (${defaults.rounds})
  --warmup N        connections, and as many runs, before the first round (${defaults.warmup})
  --store NAME      memory, lmdb or redis; a redis-server is started for it (memory)
  --snapshots DIR   write before.heapsnapshot and after.heapsnapshot there, for Chromium's memory panel, and compare them
  --json            the whole result on standard output

Exit codes: 0 every count came back to where it was and no growth of the heap is shown, 1 something stays behind, 2 the flags
are wrong.
`

/** @throws Error that says what is wrong with the flags */
export function readOptions (args: readonly string[]): LeakOptions & { json: boolean, help: boolean } {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const { values } = parseArgs({ args: [...args], options: { connections: text, runs: text, rounds: text, warmup: text, store: text, snapshots: text, sabotage: flag, json: flag, help: flag } })
  const number = (name: keyof typeof defaults, least: number): number => {
    const value = Number(values[name] ?? defaults[name])
    if (!Number.isSafeInteger(value) || value < least) throw new Error(`--${name} must be a whole number of at least ${least}`)
    return value
  }
  const store = STORES.find((name) => name === (values.store ?? 'memory'))
  if (store === undefined) throw new Error(`--store must be one of ${STORES.join(', ')}`)
  const options = {
    connections: number('connections', 0),
    runs: number('runs', 0),
    rounds: number('rounds', FEWEST_ROUNDS),
    warmup: number('warmup', 0),
    store,
    ...(values.snapshots !== undefined && { snapshots: values.snapshots }),
    sabotage: values.sabotage === true,
    json: values.json === true,
    help: values.help === true
  }
  if (options.connections + options.runs < options.rounds) throw new Error('--connections and --runs must give each round something to do')
  return options
}
