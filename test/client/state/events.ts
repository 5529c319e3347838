import { formatCursor, type AgentEvent, type EventData, type EventType } from '../../../schemas/index.js'

const EPOCH = 'mb2k9x0q7f3c'

/** Writes events as a log would hold them: seq by seq. */
export class Log {
  readonly events: AgentEvent[] = []
  #seq: number

  constructor (head = 0) {
    this.#seq = head
  }

  add<Type extends EventType> (type: Type, data: EventData<Type>, envelope: { runId?: string, parentRunId?: string } = {}): AgentEvent {
    const seq = ++this.#seq
    const event = { v: 1, id: formatCursor(EPOCH, seq), seq, type, threadId: 't', ...envelope, timestamp: '2026-01-01T12:00:00.000Z', data } as unknown as AgentEvent
    this.events.push(event)
    return event
  }

  start (runId: string, agent = 'triage', parentRunId?: string): AgentEvent {
    return this.add('agent_started', { agent, messageId: `m-${runId}`, trigger: 'user_message', attempt: 1 }, { runId, ...(parentRunId !== undefined && { parentRunId }) })
  }

  say (runId: string, partId: string, phase: 'start' | 'delta' | 'end' | 'full', text: string): AgentEvent {
    return this.add('assistant_message', { agent: 'triage', messageId: `m-${runId}`, partId, phase, text }, { runId })
  }

  think (runId: string, thinkingId: string, phase: 'start' | 'delta' | 'end' | 'full', text: string): AgentEvent {
    return this.add('agent_thinking', { agent: 'triage', thinkingId, kind: 'reasoning', phase, text }, { runId })
  }

  complete (runId: string, data: Partial<EventData<'agent_completed'>> = {}): AgentEvent {
    return this.add('agent_completed', { agent: 'triage', status: 'success', durationMs: 5, counts: { events: 2, tools: 0 }, firstSeq: 1, ...data }, { runId })
  }

  /** A thread in which this many messages have been said, each in a run that is over. */
  fill (messages: number): this {
    for (let at = 0; at < messages; at++) {
      this.start(`run-${at}`)
      this.say(`run-${at}`, 'p', 'full', `text ${at}`)
      this.complete(`run-${at}`)
    }
    return this
  }
}
