import { OURS, withServer, type Side } from './delivery.js'
import type { Memory } from '../server-process.js'
import type { Connect } from '../watchers-process.js'
import type { Figures, Workload } from './workload.js'

/** With more than the limit of open files allows, raise that first; each 20,000 come from a loopback address of their own. */
const CONNECTIONS = Number(process.env['BENCH_CONNECTIONS'] ?? 10_000)
const FASTIFY_WEBSOCKET: Side = { name: '@fastify/websocket', server: 'fastify-websocket' }
const ROW = `${CONNECTIONS.toLocaleString('en')} connections`

/**
 * Connections of as many users, each with a subscription to a thread of its own in which nothing happens. It is the second
 * half that is weighed: the first takes what the process has in reserve since its start.
 */
async function measure (side: Side): Promise<Figures> {
  return withServer(side, { threads: CONNECTIONS, perThread: 0, speakers: 0 }, async (server, watchers) => {
    const half: Connect = { url: await server.ask('url'), dialect: 'ours', threads: CONNECTIONS / 2, perThread: 1, reading: 'count' }
    await watchers.ask('connect', half)
    const before = await server.ask<Memory>('memory')
    await watchers.ask('connect', { ...half, firstThread: CONNECTIONS / 2 })
    const after = await server.ask<Memory>('memory')
    const kibibytes = (figure: keyof Memory): number => (after[figure] - before[figure]) / (CONNECTIONS / 2) / 1_024
    return { resident: kibibytes('resident'), used: kibibytes('used') }
  })
}

const idle: Workload = {
  units: { resident: 'KiB of resident memory per connection', used: 'of JavaScript heap and buffers' },
  cells: [OURS, FASTIFY_WEBSOCKET].map((side) => ({ row: ROW, side: side.name, measure: () => measure(side) })),
  bars: [{ row: ROW, figure: 'resident', of: 'ours', to: '@fastify/websocket', better: 'lower', floor: 1.4 }]
}
export default idle
