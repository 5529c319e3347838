import { LIMIT, OURS, SOCKET_IO, WS, cost } from './delivery.js'
import type { Workload } from './workload.js'

const SHAPE = { threads: 1, perThread: 500 }
const FLOODS = { '1 a turn': { perTurn: 1, events: 400 }, '4 a turn': { perTurn: 4, events: 800 } }

/** One thread with five hundred watchers. */
const fanOut: Workload = {
  units: { cpuUs: 'µs of CPU per delivered event' },
  cells: Object.entries(FLOODS).flatMap(([row, flood]) => [OURS, WS, LIMIT, SOCKET_IO].map((side) => ({ row, side: side.name, measure: () => cost(side, SHAPE, flood) }))),
  bars: [
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower', floor: 0.6, goal: 0.5 },
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'ws-limit', better: 'lower', floor: 1.25 },
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'socket.io', better: 'lower', floor: 0.8 },
    { row: '4 a turn', figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower', floor: 0.45 }
  ]
}
export default fanOut
