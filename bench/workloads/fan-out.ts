import { LIMIT, OURS, SOCKET_IO, WS, cost, timed, withServer, type Side } from './delivery.js'
import type { Workload } from './workload.js'

const SHAPE = { threads: 1, perThread: 500 }
const FLOODS = { '1 a turn': { perTurn: 1, events: 400 }, '4 a turn': { perTurn: 4, events: 800 } }
const PACED = 'paced, 100 a second'
const PACE = { threads: 1, perSecond: 100, events: 200, isBursty: true }
const SIDES = [OURS, WS, LIMIT, SOCKET_IO]

/** Each event has been written before the next one is said: nobody can send two of them together. */
async function paced (side: Side): Promise<{ cpuUs: number }> {
  return withServer(side, SHAPE, async (server, watchers) => {
    const deliveries = (): number => PACE.events * SHAPE.perThread
    await timed(server, watchers, 'pace', PACE, deliveries)
    return { cpuUs: (await timed(server, watchers, 'pace', PACE, deliveries)).cpuMs * 1_000 / deliveries() }
  })
}

/** One thread with five hundred watchers. */
const fanOut: Workload = {
  units: { cpuUs: 'µs of CPU per delivered event' },
  cells: [
    ...Object.entries(FLOODS).flatMap(([row, flood]) => SIDES.map((side) => ({ row, side: side.name, measure: () => cost(side, SHAPE, flood) }))),
    ...SIDES.map((side) => ({ row: PACED, side: side.name, measure: () => paced(side) }))
  ],
  bars: [
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower', floor: 0.6, goal: 0.5 },
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'socket.io', better: 'lower', floor: 0.8, goal: 0.6 },
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'ws-limit', better: 'lower', floor: 1.25, goal: 1.1 },
    { row: '4 a turn', figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower', floor: 0.45, goal: 0.35 },
    { row: '4 a turn', figure: 'cpuUs', of: 'ours', to: 'socket.io', better: 'lower', floor: 0.6, goal: 0.5 },
    { row: '4 a turn', figure: 'cpuUs', of: 'ours', to: 'ws-limit', better: 'lower', floor: 1.25, goal: 1.1 },
    { row: PACED, figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower' },
    { row: PACED, figure: 'cpuUs', of: 'ours', to: 'ws-limit', better: 'lower', floor: 1.25 },
    { row: PACED, figure: 'cpuUs', of: 'ours', to: 'socket.io', better: 'lower', floor: 0.8 }
  ]
}
export default fanOut
