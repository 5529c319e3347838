import type { AgentCompleted } from '../schemas/index.js'
import { AgentEventsError } from './client-error.js'
import { deferred, type Deferred } from './deferred.js'
import type { RunHandle } from './types.js'

/** Ends that are remembered: the answer to a send may come after the end of its run, most of all after a reconnect. */
const REMEMBERED = 32

/** The runs of a thread that somebody waits for, and the latest that have ended. */
export class Runs {
  readonly #waiting = new Map<string, Deferred<AgentCompleted>>()
  readonly #ended = new Map<string, AgentCompleted>()

  get size (): number { return this.#waiting.size }

  has (runId: string): boolean { return this.#waiting.has(runId) }

  /** @returns what was waited for, if it was */
  forget (runId: string): Deferred<AgentCompleted> | undefined {
    const waiting = this.#waiting.get(runId)
    this.#waiting.delete(runId)
    return waiting
  }

  complete (event: AgentCompleted): void {
    const runId = event.runId!
    this.#ended.set(runId, event)
    if (this.#ended.size > REMEMBERED) this.#ended.delete(this.#ended.keys().next().value!)
    this.forget(runId)?.resolve(event)
  }

  completed (runId: string): Promise<AgentCompleted> {
    const ended = this.#ended.get(runId)
    if (ended) return Promise.resolve(ended)
    let waiting = this.#waiting.get(runId)
    if (!waiting) this.#waiting.set(runId, waiting = deferred())
    return waiting.promise
  }

  handle<Output, Completed> (runId: string, cancel: () => Promise<void>): RunHandle<Output, Completed> {
    const completed = this.completed(runId)
    return {
      runId,
      // what the server says about a run is what its definition's types say about it
      completed: completed as Promise<Completed>,
      result: async () => resultOf(await completed) as Output,
      cancel
    }
  }

  fail (error: Error): void {
    for (const runId of this.#waiting.keys()) this.forget(runId)!.reject(error)
  }
}

function resultOf ({ threadId, data: { status, result, error, reason } }: AgentCompleted): unknown {
  if (status === 'success') return result
  throw new AgentEventsError(error?.code ?? `FAE_ERR_RUN_${status === 'error' ? 'FAILED' : status.toUpperCase()}`, error?.message ?? reason ?? `The run ended as ${status}`, { threadId })
}
