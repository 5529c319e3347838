import { LIMIT, LMDB, OURS, SOCKET_IO, WS, cost } from './delivery.js'
import type { Workload } from './workload.js'

const SHAPE = { threads: 200, perThread: 1 }
const FLOODS = { '1 a turn': { perTurn: 1, events: 120_000 }, '4 a turn': { perTurn: 4, events: 160_000 } }

/** Two hundred threads with one watcher each. */
const stream: Workload = {
  units: { cpuUs: 'µs of CPU per delivered event' },
  cells: Object.entries(FLOODS).flatMap(([row, flood]) => [OURS, WS, LIMIT, SOCKET_IO, LMDB].map((side) => ({ row, side: side.name, measure: () => cost(side, SHAPE, flood) }))),
  bars: [
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower', floor: 1.25, goal: 1 },
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'socket.io', better: 'lower', floor: 0.8, goal: 0.5 },
    { row: '1 a turn', figure: 'cpuUs', of: 'ours', to: 'ours, lmdb', better: 'higher', goal: 0.6 },
    { row: '4 a turn', figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower' },
    { row: '4 a turn', figure: 'cpuUs', of: 'ours', to: 'socket.io', better: 'lower' },
    { row: '4 a turn', figure: 'cpuUs', of: 'ours', to: 'ours, lmdb', better: 'higher', goal: 0.6 }
  ]
}
export default stream
