import { FAE_ERR_RUN_LOST } from '../../errors.js'
import type { EventData, RunStatus } from '../../schemas/index.js'
import type { Appended, RunInfo, RunRecord, Store } from '../store/index.js'
import { encodeScope } from '../websocket-notifier/encode.js'
import type { WebSocketNotifier } from '../websocket-notifier/notifier.js'
import { closingOf, type OpenItem } from '../websocket-notifier/open-items.js'

/*
 * Runs that no agent of this process stands behind: what a dead process left, and what waited in a queue and never had
 * its turn. Both get what is missing of their events.
 */

/** agent_started as a record says it. */
export function startedData ({ agent, messageId, trigger, input, parentToolCallId }: RunInfo, version?: string): EventData<'agent_started'> {
  return {
    agent,
    ...(version !== undefined && { version }),
    messageId,
    trigger,
    attempt: 1,
    ...(input !== undefined && { input: JSON.parse(input) as unknown }),
    ...(parentToolCallId !== undefined && { parentToolCallId })
  }
}

/**
 * Ends a run that never began: it still has both its ends.
 * @param ending how agent_completed says it
 * @param takesOver its owner is gone: this process becomes it
 * @throws FAE_ERR_RUN_STALE, FAE_ERR_RUN_ENDED when somebody else was first
 */
export async function endUnbegun (notifier: WebSocketNotifier, record: RunRecord, status: RunStatus, ending: Pick<EventData<'agent_completed'>, 'reason' | 'error'>, takesOver = false): Promise<Appended> {
  const { threadId, runId, info, n } = record
  const { agent, agentId } = info
  const fence = takesOver ? record.fence + 1 : record.fence
  const body = notifier.encoder.encodeStarted(encodeScope({ threadId, runId, agentId }), startedData(info))
  const { first } = await notifier.append(threadId, [body], { run: { runId, fence, n: n + 1, starts: true, ...(takesOver && { takesOver }) } })
  // Only now its position is known. From here on it is begun, so that its end is tried until it is stored.
  const writer = notifier.openRun({ threadId, runId, agentId, agent, fence, n: n + 1, events: 1 }, () => {})
  return writer.finish(status, (counts) => ({ agent, status, ...ending, durationMs: Math.max(0, Date.now() - info.startedAt), counts, firstSeq: first.seq }))
}

/**
 * Ends a run whose process is gone: closes what it had open, then says `lost`. The raised fence refuses whatever its old
 * owner may still write.
 * @throws FAE_ERR_RUN_STALE, FAE_ERR_RUN_ENDED when somebody else was first or the owner is alive after all
 */
export async function endLost (store: Store, notifier: WebSocketNotifier, record: RunRecord): Promise<Appended> {
  const { threadId, runId, info, fence, n, firstSeq } = record
  const scope = encodeScope({ threadId, runId, agentId: info.agentId, ...(info.parentRunId !== undefined && { parentRunId: info.parentRunId }) })
  const bodies = Object.values(record.open).reverse().map((item) => {
    const { type, data } = closingOf(JSON.parse(item) as OpenItem, 'lost')
    return notifier.encoder.encode(scope, type, data, Infinity)
  })
  const counts = await countEvents(store, threadId, runId, firstSeq)
  bodies.push(notifier.encoder.encode(scope, 'agent_completed', {
    agent: info.agent,
    status: 'lost',
    error: { code: 'FAE_ERR_RUN_LOST', message: new FAE_ERR_RUN_LOST(info.agent).message, retryable: true },
    durationMs: Math.max(0, Date.now() - info.startedAt),
    counts: { events: counts.events + bodies.length + 1, tools: counts.tools },
    firstSeq
  }, Infinity))
  return notifier.append(threadId, bodies, { run: { runId, fence: fence + 1, n: n + 1, takesOver: true, ends: 'lost' } })
}

/** What of a run is retained. */
async function countEvents (store: Store, threadId: string, runId: string, firstSeq: number): Promise<{ events: number, tools: number }> {
  const tools = new Set<string>()
  let events = 0
  for (let seq = firstSeq - 1; ;) {
    const { entries, head } = await store.read(threadId, seq)
    for (const { json } of entries) {
      const event = JSON.parse(json) as { runId?: string, type: string, data: { toolCallId?: string } }
      if (event.runId !== runId || event.type === 'user_message') continue
      events++
      if (event.type === 'tool_executing') tools.add(event.data.toolCallId!)
    }
    seq = entries.at(-1)?.seq ?? head
    if (seq >= head) return { events, tools: tools.size }
  }
}
