import { setTimeout as pause } from 'node:timers/promises'
import type { Hit } from './search-index.js'
import { bestPassage } from './search-index.js'

export interface Source { path: string, heading: string }
export interface Reading extends Source { text: string }

const pieceLength = 24
const topicsNamed = 12

/** The hits worth reading: at most three, and none that is much worse than the best. */
export function worthReading (hits: readonly Hit[]): readonly Hit[] {
  const best = hits[0]?.score ?? 0
  return hits.filter((hit) => hit.score >= best * 0.4).slice(0, 3)
}

/** An answer in the documents' own words, with its sources. */
export function answerFrom (readings: readonly Reading[], question: string): string {
  const passages = readings.map(({ heading, text }) => `**${heading}**\n\n${bestPassage(text, question)}`)
  const sources = readings.map(({ path, heading }) => `- ${path}: ${heading}`)
  return [...passages, `Sources:\n${sources.join('\n')}`].join('\n\n')
}

/** What is said when nothing matches: no guess, but where to go on. */
export function answerFromNothing (question: string, topics: readonly string[]): string {
  if (topics.length === 0) return 'I have no documents to answer from. Start the server with --docs DIR, a folder of Markdown documents.'
  const more = topics.length > topicsNamed ? `, and ${topics.length - topicsNamed} more` : ''
  return `I found nothing about “${question.slice(0, 200)}” in the documents. They are about: ${topics.slice(0, topicsNamed).join(', ')}${more}.`
}

/**
 * A text in small pieces that break between words and join to the same text. They come at about the pace of a
 * model, since all at once would show nobody that answers are streamed.
 *
 * @param paceMs milliseconds between two pieces
 * @throws AbortError once the signal is aborted
 */
export async function * inPieces (text: string, paceMs: number, signal: AbortSignal): AsyncGenerator<string, void, undefined> {
  let piece = ''
  for (const word of text.match(/\S+\s*|\s+/g) ?? []) {
    piece += word
    if (piece.length < pieceLength) continue
    yield piece
    piece = ''
    await pause(paceMs, undefined, { signal })
  }
  if (piece !== '') yield piece
}
