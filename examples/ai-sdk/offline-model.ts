import { simulateReadableStream } from 'ai'
import { MockLanguageModelV3 } from 'ai/test'

type DoStream = MockLanguageModelV3['doStream']
type Prompt = Parameters<DoStream>[0]['prompt']
type Part = Awaited<ReturnType<DoStream>>['stream'] extends ReadableStream<infer P> ? P : never

/**
 * A model for demonstrations and tests, without a network and a key. It reasons in words of its own, finds two dates in
 * the last message, has the tool days_between count, and answers from what the tool said.
 */
export function offlineModel (): MockLanguageModelV3 {
  return new MockLanguageModelV3({
    modelId: 'offline-1',
    doStream: async ({ prompt }) => ({ stream: simulateReadableStream({ chunks: answer(prompt), initialDelayInMs: null, chunkDelayInMs: 5 }) })
  })
}

function answer (prompt: Prompt): Part[] {
  const last = prompt.at(-1)
  if (last?.role === 'tool') {
    const [part] = last.content
    const output = part?.type === 'tool-result' ? part.output : undefined
    const { days } = (output?.type === 'json' ? output.value : {}) as { days?: number }
    return [...text(days === undefined ? 'I could not count the days.' : `It is ${days} days.`), finish('stop', 40, 6)]
  }
  const question = last?.role === 'user' ? last.content.map((part) => part.type === 'text' ? part.text : '').join(' ') : ''
  const [from, to] = question.match(/\d{4}-\d{2}-\d{2}/g) ?? []
  if (from === undefined || to === undefined) return [...text('Tell me two dates, like 2026-01-01 and 2026-12-24.'), finish('stop', 12, 14)]
  return [
    ...pieces('reasoning', 'r1', `The user names ${from} and ${to}. I had better not count in my head.`),
    ...text('Let me count.'),
    { type: 'tool-call', toolCallId: `call-${prompt.length}`, toolName: 'days_between', input: JSON.stringify({ from, to }) },
    finish('tool-calls', 20, 30)
  ]
}

function text (whole: string): Part[] {
  return pieces('text', 't1', whole)
}

/** A block of text word by word, as models produce it. */
function pieces (kind: 'text' | 'reasoning', id: string, whole: string): Part[] {
  const words = whole.match(/\S+\s*/g) ?? []
  return [{ type: `${kind}-start`, id }, ...words.map((delta): Part => ({ type: `${kind}-delta`, id, delta })), { type: `${kind}-end`, id }]
}

function finish (reason: 'stop' | 'tool-calls', input: number, output: number): Part {
  return {
    type: 'finish',
    finishReason: { unified: reason, raw: reason },
    usage: {
      inputTokens: { total: input, noCache: input, cacheRead: 0, cacheWrite: 0 },
      outputTokens: { total: output, text: output, reasoning: 0 }
    }
  }
}
