import type { EventData, EventType } from '../../schemas/index.js'

const metadata = { signature: 'abc', sources: [{ url: 'https://example.com' }] }

/** A full example of each event: every field that it may have. */
export const full: { [Type in EventType]: Required<EventData<Type>> } = {
  user_message: {
    messageId: 'message_1',
    clientMessageId: 'client_1',
    content: [{ type: 'text', text: 'What is this?' }, { type: 'file', mediaType: 'image/png', url: 'https://example.com/a.png', filename: 'a.png' }],
    metadata
  },
  agent_started: {
    agent: 'triage', version: '1.2.0', messageId: 'message_2', trigger: 'user_message', attempt: 1, input: { message: 'hi' }, parentToolCallId: 'call_0', metadata
  },
  agent_thinking: {
    agent: 'triage', thinkingId: 'thinking_1', kind: 'reasoning', phase: 'delta', text: 'Hm', step: { name: 'read', index: 1, total: 3 }, metadata
  },
  tool_executing: {
    agent: 'triage', toolCallId: 'call_1', tool: 'search', phase: 'progress', title: 'Searching', args: { query: 'x' }, argsText: '{"query"', progress: 0.5, progressText: 'half', attempt: 1, timeoutMs: 30_000, metadata
  },
  tool_completed: {
    agent: 'triage', toolCallId: 'call_1', tool: 'search', status: 'ok', output: { answer: 42 }, error: { code: 'FAE_ERR_TOOL_FAILED', message: 'no', retryable: true }, durationMs: 12.5, truncated: { bytes: 1_000_000 }, metadata
  },
  assistant_message: {
    agent: 'triage', messageId: 'message_2', partId: 'part_1', phase: 'full', text: 'It is 42', finishReason: 'stop', metadata
  },
  agent_completed: {
    agent: 'triage',
    status: 'success',
    result: { answer: 42 },
    error: { code: 'FAE_ERR_RUN_FAILED', message: 'no', retryable: false },
    reason: 'enough',
    usage: [{ model: 'm', inputTokens: 1, outputTokens: 2, reasoningTokens: 3, cachedInputTokens: 4, totalTokens: 10 }],
    durationMs: 100,
    counts: { events: 7, tools: 1 },
    firstSeq: 2,
    metadata
  },
  custom: { name: 'progress', value: { done: 1 }, metadata }
}

/** The fields without which an event is refused. */
export const required: { [Type in EventType]: readonly string[] } = {
  user_message: ['messageId', 'content'],
  agent_started: ['agent', 'messageId', 'trigger', 'attempt'],
  agent_thinking: ['agent', 'thinkingId', 'kind', 'phase', 'text'],
  tool_executing: ['agent', 'toolCallId', 'tool', 'phase', 'attempt'],
  tool_completed: ['agent', 'toolCallId', 'tool', 'status', 'durationMs'],
  assistant_message: ['agent', 'messageId', 'partId', 'phase', 'text'],
  agent_completed: ['agent', 'status', 'durationMs', 'counts', 'firstSeq'],
  custom: ['name']
}
