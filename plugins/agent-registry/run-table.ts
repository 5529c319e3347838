import type { Run } from './run.js'

/** The live runs of this process: by id, by user, by thread. Nothing of a run stays when it leaves. */
export class RunTable {
  readonly #byId = new Map<string, Run>()
  readonly #byUser = new Map<string, Set<Run>>()
  readonly #byThread = new Map<string, Set<Run>>()

  get size (): number { return this.#byId.size }

  get (runId: string): Run | undefined { return this.#byId.get(runId) }
  all (): Run[] { return [...this.#byId.values()] }
  ofUser (userId: string): Run[] { return [...this.#byUser.get(userId) ?? []] }
  inThread (threadId: string): Run[] { return [...this.#byThread.get(threadId) ?? []] }

  add (run: Run): void {
    this.#byId.set(run.runId, run)
    group(this.#byUser, run.user.userId).add(run)
    group(this.#byThread, run.threadId).add(run)
  }

  delete (run: Run): void {
    if (this.#byId.get(run.runId) === run) this.#byId.delete(run.runId)
    leave(this.#byUser, run.user.userId, run)
    leave(this.#byThread, run.threadId, run)
  }
}

function group (groups: Map<string, Set<Run>>, id: string): Set<Run> {
  let runs = groups.get(id)
  if (runs === undefined) groups.set(id, runs = new Set())
  return runs
}

function leave (groups: Map<string, Set<Run>>, id: string, run: Run): void {
  const runs = groups.get(id)
  runs?.delete(run)
  if (runs?.size === 0) groups.delete(id)
}
