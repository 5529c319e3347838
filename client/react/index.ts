'use client'

import { useMemo, useSyncExternalStore } from 'react'
import type { AnyAgent } from '../../plugins/agent-registry/define-agent.js'
import type { ThreadState } from '../state/types.js'
import type { Client, Thread } from '../types.js'
import { emptyState, listen, shownState } from './thread-store.js'

/** A thread as a component shows it. */
export interface ThreadView<T = AnyAgent> extends ThreadState<T> {
  /** The same as Thread.send; the same function in every render. */
  readonly send: Thread<T>['send']
  /**
   * Asks for the end of a run, or of all runs of the thread that have not ended; resolves when they have. The same function
   * in every render.
   * @throws AgentEventsError with the server's code
   */
  readonly cancel: (runId?: string) => Promise<void>
}

/**
 * Shows a thread from its beginning and keeps up with it, with one render per frame at most. All components that show a
 * thread of a client share one state; when the last one is unmounted, it is freed and, unless somebody else uses it, the
 * thread is closed. On a server, and until the first frame, the thread is empty and idle.
 * @param client should be made once, outside of components
 */
export function useThread<T> (client: Client<T>, threadId: string): ThreadView<T> {
  const { subscribe, getSnapshot, actions } = useMemo(() => ({
    subscribe: (listener: () => void) => listen(client, threadId, listener),
    getSnapshot: () => shownState(client, threadId),
    actions: actionsOf(client, threadId)
  }), [client, threadId])
  const state = useSyncExternalStore(subscribe, getSnapshot, emptyState<T>)
  return useMemo(() => ({ messages: state.messages, runs: state.runs, status: state.status, cursor: state.cursor, ...actions }), [state, actions])
}

function actionsOf<T> (client: Client<T>, threadId: string): Pick<ThreadView<T>, 'send' | 'cancel'> {
  return {
    send: (content, options) => client.thread(threadId).send(content, options),
    async cancel (runId) {
      const runIds = runId !== undefined ? [runId] : runningIn(client, threadId)
      const thread = client.thread(threadId)
      await Promise.all(runIds.map((id) => thread.cancel(id)))
    }
  }
}

function runningIn<T> (client: Client<T>, threadId: string): string[] {
  return shownState(client, threadId).runs.flatMap((run) => run.status === 'running' ? [run.runId] : [])
}
