import { parseArgs } from 'node:util'

export interface LoadOptions {
  readonly users: number
  /** Of each user. */
  readonly threads: number
  /** In all; each follows all threads of its user. */
  readonly connections: number
  /** Events a second that enter the logs, in all. */
  readonly rate: number
  /** Seconds that are measured. */
  readonly duration: number
  /** Seconds before that. */
  readonly warmup: number
  readonly store: 'memory' | 'lmdb' | 'redis'
  /** Server processes. */
  readonly nodes: number
  /** Processes that the connections are spread over. */
  readonly receivers: number
  /** The share of connections that drop and resume while events flow. */
  readonly churn: number
  readonly seed: number
  /** One receiver loses one event, to see that this is found. */
  readonly sabotage: boolean
}

const defaults = { users: 500, threads: 2, connections: 1_000, rate: 2_000, duration: 20, warmup: 2, nodes: 1, receivers: 1, churn: 0 }
const STORES = ['memory', 'lmdb', 'redis'] as const

export const usage = `Usage: npm run load-test -- [flags]

  --users N          (${defaults.users})
  --threads N        of each user (${defaults.threads})
  --connections N    in all; each follows all threads of its user (${defaults.connections})
  --rate N           events a second that enter the logs, in all (${defaults.rate}); delivered are rate * connections / users
  --duration N       seconds that are measured (${defaults.duration})
  --warmup N         seconds before that (${defaults.warmup})
  --store NAME       memory, lmdb or redis; a redis-server is started for it (memory)
  --nodes N          server processes; more than one only with redis (${defaults.nodes})
  --receivers N      processes that the connections are spread over (${defaults.receivers})
  --churn SHARE      of the connections that drop and resume while events flow, 0 to 1 (${defaults.churn})
  --seed N           of everything random; printed
  --json             the whole result on standard output

Exit codes: 0 every receiver got what the log holds, 1 something was lost, doubled, out of order or altered, 2 the flags are
wrong or this machine allows too few open files.
`

/** @throws Error that says what is wrong with the flags */
export function readOptions (args: readonly string[]): LoadOptions & { json: boolean, help: boolean } {
  const text = { type: 'string' } as const
  const { values } = parseArgs({
    args: [...args],
    options: {
      users: text, threads: text, connections: text, rate: text, duration: text, warmup: text, store: text, nodes: text, receivers: text, churn: text, seed: text, sabotage: { type: 'boolean' }, json: { type: 'boolean' }, help: { type: 'boolean' }
    }
  })
  const number = (name: keyof typeof defaults | 'seed', fallback: number, least: number, isWhole = true): number => {
    const value = Number(values[name] ?? fallback)
    if (!(value >= least) || (isWhole && !Number.isSafeInteger(value))) throw new Error(`--${name} must be a ${isWhole ? 'whole ' : ''}number of at least ${least}`)
    return value
  }
  const store = STORES.find((name) => name === (values.store ?? 'memory'))
  if (store === undefined) throw new Error(`--store must be one of ${STORES.join(', ')}`)
  const options = {
    users: number('users', defaults.users, 1),
    threads: number('threads', defaults.threads, 1),
    connections: number('connections', defaults.connections, 1),
    rate: number('rate', defaults.rate, 1),
    duration: number('duration', defaults.duration, 0.1, false),
    warmup: number('warmup', defaults.warmup, 0, false),
    store,
    nodes: number('nodes', defaults.nodes, 1),
    receivers: number('receivers', defaults.receivers, 1),
    churn: number('churn', defaults.churn, 0, false),
    seed: number('seed', Math.floor(Math.random() * 1_000_000), 0),
    sabotage: values.sabotage === true,
    json: values.json === true,
    help: values.help === true
  }
  if (options.churn > 1) throw new Error('--churn must be at most 1')
  if (options.nodes > 1 && options.store !== 'redis') throw new Error('--nodes above 1 needs --store redis: the other stores are for one process')
  if (options.users * options.threads < options.nodes) throw new Error('--nodes must be at most users * threads')
  if (options.receivers > options.users) throw new Error('--receivers must be at most users')
  return options
}

export function userOf (connection: number, { users }: LoadOptions): number { return connection % users }

/** Spreads also the connections of one user over the nodes. */
export function nodeOf (connection: number, { users, nodes }: LoadOptions): number { return (connection + Math.floor(connection / users)) % nodes }

/** How many connections follow the threads of a user. */
export function watchersOf (user: number, { users, connections }: LoadOptions): number {
  return Math.floor(connections / users) + (user < connections % users ? 1 : 0)
}

export function userId (user: number): string { return `user-${user}` }
export function threadId (user: number, index: number): string { return `thread-${user}-${index}` }

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomFrom (seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6D2B79F5) >>> 0
    let value = Math.imul(state ^ (state >>> 15), state | 1)
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61)
    return ((value ^ (value >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Milliseconds on a clock that all processes of this machine share and that nobody sets. */
export function now (): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1_000 + nanoseconds / 1_000_000
}
