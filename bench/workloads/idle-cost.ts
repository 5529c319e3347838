import { OURS, cost } from './delivery.js'
import type { Workload } from './workload.js'

const SHAPE = { threads: 200, perThread: 1 }
/** Long enough for collections of the whole heap, which is where idle threads could cost. */
const FLOOD = { perTurn: 1, events: 120_000 }
const IDLE = { 'no idle threads': 0, '100,000 idle threads': 100_000 }

/** The stream workload with and without many threads beside it in which nothing happens. */
const idleCost: Workload = {
  units: { cpuUs: 'µs of CPU per delivered event' },
  cells: Object.entries(IDLE).map(([side, idleThreads]) => ({ row: 'stream, 1 a turn', side, measure: () => cost(OURS, { ...SHAPE, idleThreads }, FLOOD) })),
  bars: [{ row: 'stream, 1 a turn', figure: 'cpuUs', of: '100,000 idle threads', to: 'no idle threads', better: 'lower', floor: 1.05 }]
}
export default idleCost
