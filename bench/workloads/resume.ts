import { setTimeout } from 'node:timers/promises'
import type { Child } from '../child.js'
import { OURS, SOCKET_IO, withServer, type Side } from './delivery.js'
import type { Figures, Workload } from './workload.js'

const SHAPE = { threads: 50, perThread: 10 }
const CLIENTS = SHAPE.threads * SHAPE.perThread
const EVENTS = 5_000
const DELIVERIES = EVENTS * SHAPE.perThread
/** The flow takes 2.5 s; in the middle of it all are gone at once, and all come back at once. */
const PACE = { threads: SHAPE.threads, perSecond: 2_000, events: EVENTS, isBursty: true }
const DROP_AFTER_MS = 700
const GONE_MS = 700
/** So long without anything new, and what is missing is lost. */
const SILENCE_MS = 2_000

async function measure (side: Side): Promise<Figures> {
  return withServer(side, { ...SHAPE, reading: 'order' }, async (server, watchers) => {
    const cpuBefore = await server.ask<number>('cpu')
    const flow = server.ask('pace', PACE)
    await setTimeout(DROP_AFTER_MS)
    await watchers.ask('drop')
    await setTimeout(GONE_MS)
    await watchers.ask('resume')
    await flow
    await arrival(watchers)
    const cpuMs = await server.ask<number>('cpu') - cpuBefore
    const { p99, p50, whole, missing } = await watchers.ask<Record<'p99' | 'p50' | 'whole' | 'missing', number>>('whole', { events: EVENTS / SHAPE.threads })
    return { p99, p50, whole, missing, cpuUs: cpuMs * 1_000 / DELIVERIES }
  })
}

/** Resolves when everything has arrived, or nothing does any more. */
async function arrival (watchers: Child): Promise<void> {
  for (let received = 0, newestAt = performance.now(); received < DELIVERIES && performance.now() - newestAt < SILENCE_MS;) {
    await setTimeout(20)
    const before = received
    received = await watchers.ask<number>('received')
    if (received > before) newestAt = performance.now()
  }
}

const ROW = `${CLIENTS} clients resume`
const resume: Workload = {
  units: { p99: 'p99 until caught up, ms', p50: 'p50, ms', whole: 'clients with everything, in order, once', missing: 'events missing', cpuUs: 'µs of CPU per delivered event' },
  cells: [OURS, SOCKET_IO].map((side) => ({ row: ROW, side: side.name, measure: () => measure(side) })),
  bars: [
    { row: ROW, figure: 'whole', of: 'ours', better: 'higher', floor: CLIENTS },
    { row: ROW, figure: 'missing', of: 'ours', better: 'lower', floor: 0 },
    { row: ROW, figure: 'p99', of: 'ours', better: 'lower', floor: 1_000 }
  ]
}
export default resume
