import { OURS, withServer, type Side } from './delivery.js'
import type { Memory } from '../server-process.js'
import type { Connect } from '../watchers-process.js'
import type { Figures, Workload } from './workload.js'

/** With more than the limit of open files allows, raise that first; each 20,000 come from a loopback address of their own. */
const CONNECTIONS = Number(process.env['BENCH_CONNECTIONS'] ?? 10_000)
/** Connected before the first look, so that code and caches do not count. */
const WARM = 100
const FASTIFY_WEBSOCKET: Side = { name: '@fastify/websocket', server: 'fastify-websocket' }
const ROW = `${CONNECTIONS.toLocaleString('en')} connections`

/** Connections of as many users, each with a subscription to a thread of its own in which nothing happens. */
async function measure (side: Side): Promise<Figures> {
  return withServer(side, { threads: CONNECTIONS, perThread: 0, speakers: 0 }, async (server, watchers) => {
    const connect: Connect = { url: await server.ask('url'), dialect: 'ours', threads: WARM, perThread: 1, reading: 'count' }
    await watchers.ask('connect', connect)
    const before = await server.ask<Memory>('memory')
    await watchers.ask('connect', { ...connect, threads: CONNECTIONS })
    const after = await server.ask<Memory>('memory')
    const kibibytes = (figure: keyof Memory): number => (after[figure] - before[figure]) / CONNECTIONS / 1_024
    return { rss: kibibytes('rss'), used: kibibytes('used') }
  })
}

const idle: Workload = {
  units: { rss: 'KiB of resident memory per connection', used: 'of JavaScript heap and buffers' },
  cells: [OURS, FASTIFY_WEBSOCKET].map((side) => ({ row: ROW, side: side.name, measure: () => measure(side) })),
  bars: [{ row: ROW, figure: 'rss', of: 'ours', to: '@fastify/websocket', better: 'lower', floor: 1.4 }]
}
export default idle
