/** A part of a document under one heading, without the parts under deeper headings. */
export interface Section {
  /** Path of the document, with forward slashes, relative to the indexed folder. */
  readonly path: string
  /** The headings from the document's title down, joined by ` > `; unique within the document. */
  readonly heading: string
  readonly text: string
}

const headingLine = /^(#{1,6})\s+(.+?)\s*#*\s*$/
const fenceLine = /^\s*(`{3,}|~{3,})/

/** Cuts a Markdown document into its sections. Text before the first heading goes by the path. */
export function sectionsOf (path: string, markdown: string): Section[] {
  const sections: Section[] = []
  const trail: string[] = []
  const seen = new Map<string, number>()
  let lines: string[] = []
  let fence: string | undefined

  const close = () => {
    const text = lines.join('\n').trim()
    lines = []
    if (text === '') return
    const heading = trail.filter(Boolean).join(' > ') || path
    const times = (seen.get(heading) ?? 0) + 1
    seen.set(heading, times)
    sections.push({ path, heading: times === 1 ? heading : `${heading} (${times})`, text })
  }

  for (const line of withoutFrontMatter(markdown).split(/\r?\n/)) {
    fence = fenceAfter(line, fence)
    const match = fence === undefined ? headingLine.exec(line) : null
    if (match === null) {
      lines.push(line)
      continue
    }
    close()
    const level = match[1]!.length
    trail.length = Math.min(trail.length, level - 1)
    trail[level - 1] = match[2]!.replaceAll('`', '')
  }
  close()
  return sections
}

/** The blocks of a text: paragraphs, lists, tables and whole code blocks, in order. */
export function blocksOf (text: string): string[] {
  const blocks: string[] = []
  let lines: string[] = []
  let fence: string | undefined
  const close = () => {
    if (lines.length > 0) blocks.push(lines.join('\n'))
    lines = []
  }
  for (const line of text.split('\n')) {
    const before = fence
    fence = fenceAfter(line, fence)
    if (before === undefined && fence !== undefined) close()
    if (before === undefined && fence === undefined && line.trim() === '') close()
    else lines.push(line)
    if (before !== undefined && fence === undefined) close()
  }
  close()
  return blocks
}

/** The fence that is open after a line, given the one that was open before it. */
function fenceAfter (line: string, open: string | undefined): string | undefined {
  const fence = fenceLine.exec(line)?.[1]
  if (fence === undefined) return open
  if (open === undefined) return fence
  return fence.startsWith(open) ? undefined : open
}

function withoutFrontMatter (markdown: string): string {
  return markdown.replace(/^\uFEFF?---\r?\n[\s\S]*?\r?\n---\r?\n/, '')
}
