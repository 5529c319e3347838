import MiniSearch from 'minisearch'
import type { Document } from './documents.js'
import { blocksOf, sectionsOf, type Section } from './sections.js'

export interface Hit { path: string, heading: string, score: number, snippet: string }

// Words that say how one asks and not what one asks about.
const stopWords = new Set(('a about an and any are as at be been but by can could did do does for from get had has have how i if in is it its ' +
  'me my no not of on or our please should so some tell than that the their them then there these they this to us was we were what when where ' +
  'which who why will with would you your').split(' '))

/** Full-text index over the sections of Markdown documents; in memory, built once. */
export class SearchIndex {
  readonly #sections = new Map<string, Section>()
  readonly #titles = new Set<string>()
  readonly #index = new MiniSearch<Section & { id: string }>({
    fields: ['heading', 'text'],
    tokenize: words,
    processTerm: (word) => term(word) ?? false,
    searchOptions: { boost: { heading: 3 }, fuzzy: (word) => word.length > 4 ? 0.2 : false, prefix: (word) => word.length > 3 }
  })

  constructor (documents: readonly Document[]) {
    for (const { path, markdown } of documents) {
      for (const section of sectionsOf(path, markdown)) {
        const id = keyOf(section.path, section.heading)
        this.#sections.set(id, section)
        this.#index.add({ id, ...section })
        this.#titles.add(section.heading.split(' > ')[0]!)
      }
    }
  }

  /** How many sections there are. */
  get size (): number {
    return this.#sections.size
  }

  /** The titles of the documents. */
  get topics (): string[] {
    return [...this.#titles]
  }

  /** The sections that match a query, best first. A query without any word that matters matches nothing. */
  search (query: string, limit: number): Hit[] {
    return this.#index.search(query).slice(0, limit).map((result) => {
      const { path, heading, text } = this.#sections.get(result.id)!
      return { path, heading, score: Math.round(result.score * 100) / 100, snippet: snippet(bestBlock(text, query)) }
    })
  }

  /** The text of a section by the path and heading that a hit named; undefined for anything else, such as other files. */
  read (path: string, heading: string): string | undefined {
    return this.#sections.get(keyOf(path, heading))?.text
  }
}

/**
 * The passage of a text that says most about a query: its best block, with the block that it leads up to when
 * it ends in a colon, and the lead-in of a code block or list. The first block when none matches.
 */
export function bestPassage (text: string, query: string): string {
  const blocks = blocksOf(text)
  const best = indexOfBest(blocks, query)
  const leadIn = blocks[best - 1]
  const first = leadIn !== undefined && leadIn.trimEnd().endsWith(':') ? best - 1 : best
  const last = blocks[best]?.trimEnd().endsWith(':') === true ? best + 1 : best
  return blocks.slice(first, last + 1).join('\n\n')
}

function bestBlock (text: string, query: string): string {
  const blocks = blocksOf(text)
  return blocks[indexOfBest(blocks, query)] ?? ''
}

function indexOfBest (blocks: readonly string[], query: string): number {
  const wanted = new Set(termsOf(query))
  let best = 0
  let most = 0
  for (const [index, block] of blocks.entries()) {
    const found = new Set(termsOf(block).filter((word) => wanted.has(word))).size
    if (found > most) [best, most] = [index, found]
  }
  return best
}

function snippet (block: string): string {
  const line = block.replace(/\s+/g, ' ').trim()
  return line.length <= 160 ? line : `${line.slice(0, 160).replace(/\s+\S*$/, '')} …`
}

function termsOf (text: string): string[] {
  return words(text).map(term).filter((word) => word !== undefined)
}

function words (text: string): string[] {
  return text.split(/[^\p{L}\p{N}]+/u).filter(Boolean)
}

/** What a word is looked up as: lower case, without the commonest English endings; undefined for stop words. */
function term (word: string): string | undefined {
  const lower = word.toLowerCase()
  if (stopWords.has(lower)) return undefined
  for (const ending of ['ing', 'ed', 'es', 's', 'e']) {
    if (lower.endsWith(ending) && lower.length - ending.length >= 3) return lower.slice(0, -ending.length)
  }
  return lower
}

// JSON, because both parts may contain any separator.
function keyOf (path: string, heading: string): string {
  return JSON.stringify([path, heading])
}
