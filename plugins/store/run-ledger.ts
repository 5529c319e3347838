import {
  FAE_ERR_RUN_ENDED, FAE_ERR_RUN_EXISTS, FAE_ERR_RUN_HOLE, FAE_ERR_RUN_NOT_FOUND, FAE_ERR_RUN_QUEUE_FULL, FAE_ERR_RUN_STALE, FAE_ERR_THREAD_BUSY
} from '../../errors.js'
import { MAX_WAITING_RUNS, type RunRecord, type RunStart, type RunStep } from './store.js'

/** A run record while a store works on it. The stores that decide in this process share these rules. */
export type MutableRun = {
  -readonly [K in keyof RunRecord]: K extends 'open' ? Record<string, string> : RunRecord[K]
} & {
  /** seq of the first event of the last call, for its repeat. */
  callFirst: number
  /** Epoch of the last call: in a new epoch the owner's first call may leave a hole in n. */
  epoch: string
  /** The run that was handed out when this one ended, for the repeat of that call. */
  next?: string
}

export function isLive (run: RunRecord): boolean {
  return run.state === 'running' || run.state === 'queued'
}

/** A child run lives inside its parent: the queue of a thread counts root runs only. */
export function isRoot (run: RunRecord): boolean {
  return run.info.parentRunId === undefined
}

/**
 * Checks `start` against the thread's live root runs and answers with the state the run begins in. A child run never
 * waits: its parent, which is live, waits for it.
 */
export function checkStart (start: RunStart, known: RunRecord | undefined, roots: readonly RunRecord[]): 'running' | 'queued' {
  if (known !== undefined) throw new FAE_ERR_RUN_EXISTS(start.runId)
  if (start.mode === 'now' || start.info.parentRunId !== undefined || roots.length === 0) return 'running'
  if (start.mode === 'reject') throw new FAE_ERR_THREAD_BUSY(start.info.agent)
  if (roots.filter(({ state }) => state === 'queued').length >= MAX_WAITING_RUNS) throw new FAE_ERR_RUN_QUEUE_FULL(MAX_WAITING_RUNS)
  return 'queued'
}

/** The record that `start` creates; its bodies were stored as seq first to last. */
export function startRun (threadId: string, start: RunStart, state: 'running' | 'queued', epoch: string, first: number, last: number): MutableRun {
  return {
    runId: start.runId,
    threadId,
    state,
    fence: 1,
    n: 1,
    firstSeq: start.started ? first : 0,
    lastSeq: last,
    callFirst: first,
    epoch,
    open: {},
    info: start.info
  }
}

/**
 * Checks a step of a run before anything is stored.
 * @returns true when it repeats the last call, whose position is then the answer.
 */
export function checkStep (run: MutableRun | undefined, step: RunStep, epoch: string): boolean {
  if (run === undefined) throw new FAE_ERR_RUN_NOT_FOUND(step.runId)
  if (step.fence === run.fence && step.n === run.n) return true
  if (!isLive(run)) throw new FAE_ERR_RUN_ENDED(step.runId)
  const expectedFence = step.takesOver === true ? run.fence + 1 : run.fence
  if (step.fence !== expectedFence) throw new FAE_ERR_RUN_STALE(step.runId)
  if (step.n === run.n + 1) return false
  // A takeover read an older record: it reads again. Its own owner may leave a hole once, where the store forgot a tail.
  if (step.takesOver === true) throw new FAE_ERR_RUN_STALE(step.runId)
  if (run.epoch !== epoch && step.n > run.n) return false
  throw new FAE_ERR_RUN_HOLE(step.runId, run.n + 1, step.n)
}

/** Enters a stored step into its record. */
export function applyStep (run: MutableRun, step: RunStep, epoch: string, first: number, last: number): void {
  run.fence = step.fence
  run.n = step.n
  run.epoch = epoch
  run.callFirst = first
  run.lastSeq = last
  if (run.state === 'queued') run.state = 'running'
  if (step.starts === true) {
    run.firstSeq = first
    // Only who begins the run needs its input; from now on its agent_started has it.
    const { input, ...info } = run.info
    run.info = info
  }
  if (step.opens !== undefined) for (const [id, item] of step.opens) run.open[id] = item
  if (step.closes !== undefined) for (const id of step.closes) delete run.open[id]
  if (step.ends !== undefined) {
    run.state = step.ends
    run.open = {}
  }
}
