import { FAE_ERR_RUN_LOST } from '../../errors.js'
import type { EventData, RunStatus } from '../../schemas/index.js'
import type { RunEventType } from './run-writer.js'

/** Something of a run that was begun and not yet ended, with all that is needed to end it: also by another process. */
export type OpenItem =
  | { kind: 'tool', agent: string, toolCallId: string, tool: string, startedAt: number }
  | { kind: 'thinking', agent: string, thinkingId: string, thinkingKind: EventData<'agent_thinking'>['kind'] }
  | { kind: 'message', agent: string, messageId: string, partId: string }

export type Closing = { [Type in RunEventType]: { type: Type, data: EventData<Type> } }[RunEventType]

/** What an event opens or closes in its run, by the id under which the store keeps it. */
export function openedBy (type: RunEventType, data: EventData<RunEventType>): { id: string, item?: OpenItem } | undefined {
  switch (type) {
    case 'tool_executing': {
      const { agent, toolCallId, tool } = data as EventData<'tool_executing'>
      return { id: `tool:${toolCallId}`, item: { kind: 'tool', agent, toolCallId, tool, startedAt: Date.now() } }
    }
    case 'tool_completed': return { id: `tool:${(data as EventData<'tool_completed'>).toolCallId}` }
    case 'agent_thinking': {
      const { agent, thinkingId, kind, phase } = data as EventData<'agent_thinking'>
      if (phase === 'full' || phase === 'delta') return undefined
      const id = `thinking:${thinkingId}`
      return phase === 'start' ? { id, item: { kind: 'thinking', agent, thinkingId, thinkingKind: kind } } : { id }
    }
    case 'assistant_message': {
      const { agent, messageId, partId, phase } = data as EventData<'assistant_message'>
      if (phase === 'full' || phase === 'delta') return undefined
      const id = `message:${partId}`
      return phase === 'start' ? { id, item: { kind: 'message', agent, messageId, partId } } : { id }
    }
    case 'custom': return undefined
  }
}

/** The event that closes an item because its run ends. */
export function closingOf (item: OpenItem, status: RunStatus): Closing {
  switch (item.kind) {
    case 'tool': return {
      type: 'tool_completed',
      data: {
        agent: item.agent,
        toolCallId: item.toolCallId,
        tool: item.tool,
        status: status === 'timeout' ? 'timeout' : status === 'error' || status === 'lost' ? 'error' : 'cancelled',
        error: status === 'lost'
          ? { code: 'FAE_ERR_RUN_LOST', message: new FAE_ERR_RUN_LOST(item.agent).message }
          : { code: 'FAE_ERR_TOOL_CANCELLED', message: `The run ended (${status}) while the tool was at work` },
        durationMs: Math.max(0, Date.now() - item.startedAt)
      }
    }
    case 'thinking': return {
      type: 'agent_thinking',
      data: { agent: item.agent, thinkingId: item.thinkingId, kind: item.thinkingKind, phase: 'end', text: '' }
    }
    case 'message': return {
      type: 'assistant_message',
      data: { agent: item.agent, messageId: item.messageId, partId: item.partId, phase: 'end', text: '', finishReason: status }
    }
  }
}
