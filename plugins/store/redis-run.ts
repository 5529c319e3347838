import type { MutableRun } from './run-ledger.js'
import type { RunInfo, RunRecord } from './store.js'

/** A run as the scripts describe it; empty where there is none. */
export type RunReply = [] | [
  runId: string, state: RunRecord['state'], fence: string, n: string, firstSeq: string, lastSeq: string, callFirst: string, epoch: string,
  root: 'r' | 'c', created: string, info: string, open: string, input: string
]

export function readRun (threadId: string, reply: RunReply): RunRecord | undefined {
  if (reply.length === 0) return undefined
  const [runId, state, fence, n, firstSeq, lastSeq, , , , , info, open, input] = reply
  return {
    runId,
    threadId,
    state,
    fence: Number(fence),
    n: Number(n),
    firstSeq: Number(firstSeq),
    lastSeq: Number(lastSeq),
    open: open === '' ? {} : JSON.parse(open) as Record<string, string>,
    info: { ...JSON.parse(info) as RunInfo, ...(input !== '' && { input }) }
  }
}

/** As it is kept: the input by itself, so that it can go when the run has begun. */
export function splitInfo ({ input = '', ...info }: RunInfo): { info: string, input: string } {
  return { info: JSON.stringify(info), input }
}

/** How the state of a run begins once this process has made a call of it; see RUNS in redis-lua.ts. */
export function stateWords ({ state, fence, n, epoch, callFirst, lastSeq }: HeldRun, node: string): string {
  return `${state} ${fence} ${n} ${epoch} ${callFirst} ${lastSeq} ${node}`
}

/** What a process remembers of a run of its own, as its calls have left it. */
export type HeldRun = MutableRun & {
  /** A call that ends it is under way or has not been answered. */
  isEnding: boolean
}

export function holdRun (run: RunRecord): HeldRun {
  return { ...run, open: { ...run.open }, callFirst: run.lastSeq, epoch: '', isEnding: false }
}
