import { LIMIT, LMDB, OURS, SOCKET_IO, WS, timed, withServer, type Side } from './delivery.js'
import type { Cell, Workload } from './workload.js'

const BURST = { perTurn: 50, pieces: 10_000 }
/** It takes many until all of its code is compiled as well as it gets; one takes a tenth of a second only. */
const WARMING = 30
const MEASURED = 10
const NEVER_GATHERED = { coalesceMs: 0 }

/** One answer of 10,000 pieces of text, fifty in each turn, and one watcher: a user who looks at a fast model. */
async function measure (side: Side): Promise<{ cpuUs: number }> {
  return withServer(side, { threads: 1, perThread: 1, reading: 'text' }, async (server, watchers) => {
    const characters = (answer: number): number => answer
    for (let i = 0; i < WARMING; i++) await timed(server, watchers, 'burst', BURST, characters)
    let cpuMs = 0
    for (let i = 0; i < MEASURED; i++) cpuMs += (await timed(server, watchers, 'burst', BURST, characters)).cpuMs
    return { cpuUs: cpuMs * 1_000 / MEASURED / BURST.pieces }
  })
}

function cell (row: string, side: Side): Cell { return { row, side: side.name, measure: () => measure(side) } }

const burst: Workload = {
  units: { cpuUs: 'µs of CPU per piece' },
  cells: [
    ...[{ ...OURS, options: NEVER_GATHERED }, WS, LIMIT, SOCKET_IO, { ...LMDB, options: NEVER_GATHERED }].map((side) => cell('each piece an event', side)),
    ...[OURS, WS, LMDB].map((side) => cell('gathered for 30 ms', side))
  ],
  bars: [
    { row: 'each piece an event', figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower', floor: 0.65, goal: 0.5 },
    { row: 'gathered for 30 ms', figure: 'cpuUs', of: 'ours', to: 'ws', better: 'lower', floor: 0.15, goal: 0.1 },
    { row: 'each piece an event', figure: 'cpuUs', of: 'ours', to: 'ours, lmdb', better: 'higher', goal: 0.6 },
    { row: 'gathered for 30 ms', figure: 'cpuUs', of: 'ours', to: 'ours, lmdb', better: 'higher', goal: 0.6 }
  ]
}
export default burst
