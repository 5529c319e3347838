import { OURS, WS, timed, withServer, type Side } from './delivery.js'
import type { Figures, Workload } from './workload.js'

const SHAPE = { threads: 1_000, perThread: 1 }
const FLOOD = { threads: 1_000, perTurn: 1, events: 30_000 }
const SIDES = [OURS, WS]
const SECONDS = 8

let rate: Promise<number> | undefined

/** Half of what the slower side delivers in a second when it may send as fast as it can. */
async function findRate (): Promise<number> {
  const rates: number[] = []
  for (const side of SIDES) {
    rates.push(await withServer(side, SHAPE, async (server, watchers) => {
      await timed(server, watchers, 'flood', FLOOD, () => FLOOD.events)
      return FLOOD.events / (await timed(server, watchers, 'flood', FLOOD, () => FLOOD.events)).wallMs * 1_000
    }))
  }
  return Math.floor(Math.min(...rates) / 2)
}

/** How the events come: each in a turn of its own, as from agents that know nothing of each other, or many in one turn. */
const ROWS = { 'one by one': { isBursty: false }, 'in bursts': { isBursty: true } }

/** A thousand threads with one watcher each, at a steady rate: from the call that says it to the handler that has read it. */
async function measure (side: Side, { isBursty }: { isBursty: boolean }): Promise<Figures> {
  const perSecond = await (rate ??= findRate())
  return withServer(side, { ...SHAPE, reading: 'latency' }, async (server, watchers) => {
    const pace = { threads: SHAPE.threads, perSecond, events: perSecond * 2, isBursty }
    await timed(server, watchers, 'pace', pace, () => pace.events)
    await watchers.ask('latencies')
    await timed(server, watchers, 'pace', { ...pace, events: perSecond * SECONDS }, () => perSecond * SECONDS)
    return { ...await watchers.ask<Figures>('latencies'), perSecond }
  })
}

const latency: Workload = {
  units: { p99: 'p99, ms', p50: 'p50, ms', perSecond: 'events per second' },
  cells: Object.entries(ROWS).flatMap(([row, pace]) => SIDES.map((side) => ({ row, side: side.name, measure: () => measure(side, pace) }))),
  bars: [
    { row: 'one by one', figure: 'p99', of: 'ours', to: 'ws', better: 'lower', floor: 1.5 },
    { row: 'in bursts', figure: 'p99', of: 'ours', better: 'lower', floor: 10 }
  ]
}
export default latency
