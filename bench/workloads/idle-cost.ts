import { median } from '../statistics.js'
import { OURS, cost } from './delivery.js'
import type { Workload } from './workload.js'

const SHAPE = { threads: 200, perThread: 1 }
/** Long enough for collections of the whole heap, which is where idle threads could cost. */
const FLOOD = { perTurn: 1, events: 120_000 }
const IDLE = { 'no idle threads': 0, '100,000 idle threads': 100_000 }

/** The difference is smaller than what two processes that do the same differ by. */
const PROCESSES = 3

async function measure (idleThreads: number): Promise<{ cpuUs: number }> {
  const costs: number[] = []
  for (let i = 0; i < PROCESSES; i++) costs.push((await cost(OURS, { ...SHAPE, idleThreads }, FLOOD)).cpuUs)
  return { cpuUs: median(costs) }
}

/** The stream workload with and without many threads beside it in which nothing happens. */
const idleCost: Workload = {
  units: { cpuUs: 'µs of CPU per delivered event' },
  cells: Object.entries(IDLE).map(([side, idleThreads]) => ({ row: 'stream, 1 a turn', side, measure: () => measure(idleThreads) })),
  bars: [{ row: 'stream, 1 a turn', figure: 'cpuUs', of: '100,000 idle threads', to: 'no idle threads', better: 'lower', floor: 1.05 }]
}
export default idleCost
