import { Child } from '../child.js'
import { cpuOf, withRedis } from '../redis.js'
import type { Connect } from '../watchers-process.js'
import { dialectOf, startServer, timed } from './delivery.js'
import type { Figures, Workload } from './workload.js'

const SHAPE = { threads: 200, perThread: 1 }
/** Between two floods everything arrives: a stream of Redis that is bounded loses nothing that somebody still waits for. */
const FLOOD_EVENTS = 4_000
const FLOODS = 6
const SECONDS = 3

interface Side { readonly name: string, readonly server: string, options (redis: string): object }

const SIDES: readonly Side[] = [
  { name: 'ours', server: 'ours', options: (redis) => ({ store: { redis } }) },
  { name: 'socket.io', server: 'socket-io', options: (redis) => ({ redis }) }
]

let rate: Promise<number> | undefined

/** Half of what the slower side gets across in a second when it may send as fast as it can. */
async function findRate (): Promise<number> {
  const rates: number[] = []
  for (const side of SIDES) rates.push((await withNodes(side, (nodes) => flood(nodes, 1))).perSecond)
  return Math.floor(Math.min(...rates) / 2)
}

interface Nodes { readonly nodes: readonly [Child, Child], readonly watchers: Child, redisCpu (): Promise<number> }

/** What is said on the first node is watched on the second, with a redis-server between them. */
async function withNodes<Result> ({ server, options }: Side, use: (nodes: Nodes) => Promise<Result>): Promise<Result> {
  return withRedis(async (redis) => {
    const first = startServer({ server, options: options(redis.url) })
    const second = startServer({ server, options: options(redis.url) })
    const watchers = Child.start('watchers-process')
    try {
      await first.ask('addThreads', { count: SHAPE.threads })
      await first.ask('addSpeakers', { count: SHAPE.threads })
      const connect: Connect = { ...SHAPE, url: await second.ask('url'), dialect: dialectOf(server), reading: 'count' }
      await watchers.ask('connect', connect)
      return await use({ nodes: [first, second], watchers, redisCpu: () => cpuOf(redis) })
    } finally {
      await Promise.all([first, second, watchers].map((child) => child.stop()))
    }
  })
}

async function flood ({ nodes, watchers, redisCpu }: Nodes, perTurn: number): Promise<{ perCpuSecond: number, perCpuSecondWithRedis: number, perSecond: number }> {
  const nodesCpu = async (): Promise<number> => (await nodes[0].ask<number>('cpu')) + (await nodes[1].ask<number>('cpu'))
  const once = (): Promise<{ wallMs: number }> => timed(nodes[0], watchers, 'flood', { threads: SHAPE.threads, perTurn, events: FLOOD_EVENTS }, () => FLOOD_EVENTS)
  await once()
  await once()
  const nodesBefore = await nodesCpu()
  const redisBefore = await redisCpu()
  let wallMs = 0
  for (let i = 0; i < FLOODS; i++) wallMs += (await once()).wallMs
  const nodesMs = await nodesCpu() - nodesBefore
  const redisMs = await redisCpu() - redisBefore
  const thousands = FLOOD_EVENTS * FLOODS * 1_000
  return { perCpuSecond: thousands / nodesMs, perCpuSecondWithRedis: thousands / (nodesMs + redisMs), perSecond: thousands / wallMs }
}

/** How long events are on their way when they come at a steady rate. */
async function pace ({ nodes, watchers }: Nodes, perSecond: number): Promise<Figures> {
  await watchers.ask('read', { reading: 'latency' })
  const paceFor = async (seconds: number): Promise<void> => {
    const events = perSecond * seconds
    await timed(nodes[0], watchers, 'pace', { threads: SHAPE.threads, perSecond, events, isBursty: true }, () => events)
  }
  await paceFor(1)
  await watchers.ask('latencies')
  await paceFor(SECONDS)
  return watchers.ask<Figures>('latencies')
}

async function atRate (side: Side): Promise<Figures> {
  const perSecond = await (rate ??= findRate())
  return withNodes(side, async (nodes) => ({ ...await pace(nodes, perSecond), perSecond }))
}

async function asFastAsItCan (side: Side, perTurn: number): Promise<Figures> {
  return withNodes(side, async (nodes) => {
    const { perCpuSecond, perCpuSecondWithRedis } = await flood(nodes, perTurn)
    return { perCpuSecond, perCpuSecondWithRedis }
  })
}

const FLOOD_ROWS = { '1 a turn': 1, '4 a turn': 4 }
const STEADY_ROW = 'steady'
const twoNodes: Workload = {
  units: {
    perCpuSecond: 'events per CPU second of both nodes',
    perCpuSecondWithRedis: 'events per CPU second of both and Redis',
    p99: 'p99, ms',
    p50: 'p50, ms',
    perSecond: 'events per second'
  },
  cells: [
    ...Object.entries(FLOOD_ROWS).flatMap(([row, perTurn]) => SIDES.map((side) => ({ row, side: side.name, measure: () => asFastAsItCan(side, perTurn) }))),
    ...SIDES.map((side) => ({ row: STEADY_ROW, side: side.name, measure: () => atRate(side) }))
  ],
  bars: [
    ...Object.keys(FLOOD_ROWS).flatMap((row) => [
      { row, figure: 'perCpuSecond', of: 'ours', to: 'socket.io', better: 'higher', floor: 1.6, goal: 3 },
      { row, figure: 'perCpuSecondWithRedis', of: 'ours', to: 'socket.io', better: 'higher', floor: 1.2, goal: 2 }
    ] as const),
    { row: STEADY_ROW, figure: 'p99', of: 'ours', to: 'socket.io', better: 'lower', floor: 1, goal: 0.5 },
    { row: STEADY_ROW, figure: 'p99', of: 'ours', better: 'lower', floor: 25 }
  ]
}
export default twoNodes
