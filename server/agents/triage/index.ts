import { defineAgent, defineTool, Type } from 'fastify-agent-events'
import type { FastifyBaseLogger } from 'fastify'
import { answerFrom, answerFromNothing, inPieces, worthReading, type Reading } from './answer.js'
import { folder, projectDocuments, readDocuments, type DocumentSource } from './documents.js'
import { SearchIndex } from './search-index.js'

export interface TriageOptions {
  /** Folder of Markdown documents. @default this project's own README and docs */
  docsDir?: string
  /** Milliseconds between two pieces of an answer. @default 10 */
  paceMs?: number
  log?: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/**
 * The demo agent: answers questions from a folder of Markdown documents, without a model, a network or a key.
 * Reading the folder begins at once and is waited for by the first question.
 */
export function createTriage ({ docsDir, log, paceMs = 10 }: TriageOptions = {}) {
  const ready = buildIndex(docsDir === undefined ? projectDocuments() : folder(docsDir), log)

  const searchDocs = defineTool({
    name: 'search_docs',
    description: 'Full-text search over the documents; answers with the sections that match, best first',
    inputSchema: Type.Object({
      query: Type.String(),
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 20 }))
    }),
    async execute ({ query, limit = 5 }) {
      return { hits: (await ready).search(query, limit) }
    }
  })

  const readSection = defineTool({
    name: 'read_section',
    description: 'The text of one section, by the path and heading that search_docs named',
    inputSchema: Type.Object({ path: Type.String(), heading: Type.String() }),
    async execute ({ path, heading }) {
      const text = (await ready).read(path, heading)
      if (text === undefined) throw new Error(`There is no section '${heading}' in '${path}'. Use the path and heading of a hit of search_docs.`)
      return { text }
    }
  })

  return defineAgent({
    name: 'triage',
    description: 'Answers questions from a folder of Markdown documents and names its sources',
    tools: [searchDocs, readSection],
    async run ({ message }, ctx) {
      await ctx.think('Searching the documents')
      const { hits } = await ctx.tools.search_docs({ query: message })
      const readings: Reading[] = []
      for (const { path, heading } of worthReading(hits)) {
        const { text } = await ctx.tools.read_section({ path, heading })
        readings.push({ path, heading, text })
      }
      const answer = readings.length > 0
        ? answerFrom(readings, message)
        : answerFromNothing(message, (await ready).topics)
      await ctx.say(inPieces(answer, paceMs, ctx.signal))
      return { answer, sources: readings.map(({ path, heading }) => ({ path, heading })) }
    }
  })
}

async function buildIndex (source: DocumentSource | undefined, log: TriageOptions['log']): Promise<SearchIndex> {
  if (source === undefined) {
    log?.warn("triage has nothing to answer from: this project's docs are not here. Give a folder with --docs or DOCS.")
    return new SearchIndex([])
  }
  const { documents, problems } = await readDocuments(source)
  for (const problem of problems) log?.warn(`triage: ${problem}`)
  const index = new SearchIndex(documents)
  const counts = { docs: source.root, documents: documents.length, sections: index.size }
  if (index.size === 0) log?.warn(counts, 'triage has nothing to answer from')
  else log?.info(counts, 'triage has read its documents')
  return index
}
