import type { AgentEvent, MessageContent } from '../../schemas/index.js'
import type { Store } from '../store/index.js'
import type { ConversationMessage } from './define-agent.js'

const WINDOW = 500

/** The text of a message, without its files. */
export function textOf (content: MessageContent): string {
  return typeof content === 'string' ? content : content.flatMap((part) => part.type === 'text' ? [part.text] : []).join('\n')
}

/** The latest messages of a thread, oldest first, read from the end of its log backwards. */
export async function readConversation (store: Store, threadId: string, limit: number): Promise<ConversationMessage[]> {
  const { head, first } = await store.read(threadId, Number.MAX_SAFE_INTEGER, 1)
  let events: AgentEvent[] = []
  let messages: ConversationMessage[] = []
  for (let end = head; end >= first;) {
    const start = Math.max(first, end - WINDOW + 1)
    events = [...await readRange(store, threadId, start, end), ...events]
    messages = fold(events)
    // One more than asked for: the oldest message may have begun before this window.
    if (messages.length > limit) break
    end = start - 1
  }
  return messages.slice(-limit)
}

async function readRange (store: Store, threadId: string, start: number, end: number): Promise<AgentEvent[]> {
  const events: AgentEvent[] = []
  for (let seq = start - 1; seq < end;) {
    const { entries } = await store.read(threadId, seq, end - seq)
    if (entries.length === 0) break
    for (const { json } of entries) events.push(JSON.parse(json) as AgentEvent)
    seq = entries.at(-1)!.seq
  }
  return events
}

function fold (events: readonly AgentEvent[]): ConversationMessage[] {
  const messages = new Map<string, { role: 'user' | 'assistant', content: string, messageId: string, runId?: string, partId?: string }>()
  for (const event of events) {
    if (event.type === 'user_message') {
      const { messageId, content } = event.data
      messages.set(messageId, { role: 'user', content: textOf(content), messageId })
    } else if (event.type === 'assistant_message') {
      const { messageId, partId, text } = event.data
      const message = messages.get(messageId)
      if (message === undefined) {
        messages.set(messageId, { role: 'assistant', content: text, messageId, partId, ...(event.runId !== undefined && { runId: event.runId }) })
      } else {
        message.content += message.partId === partId ? text : `\n${text}`
        message.partId = partId
      }
    }
  }
  return [...messages.values()].map(({ partId, ...message }) => message)
}
