import { readFile, writeFile } from 'node:fs/promises'

/**
 * Replaces what stands in a Markdown file between `<!-- generated: name -->` and `<!-- end -->`: figures come from results
 * and are never typed.
 * @throws Error when the file has no such place
 */
export async function writeGenerated (file: URL, parts: Readonly<Record<string, string>>): Promise<void> {
  let text = await readFile(file, 'utf8')
  for (const [name, content] of Object.entries(parts)) {
    const begin = `<!-- generated: ${name} -->`
    const from = text.indexOf(begin)
    const to = text.indexOf('<!-- end -->', from)
    if (from < 0 || to < 0) throw new Error(`${file.pathname} has no place for "${name}"`)
    text = `${text.slice(0, from + begin.length)}\n\n${content.trim()}\n\n${text.slice(to)}`
  }
  await writeFile(file, text)
}

/** Rows as a Markdown table; the first column is text, the others are figures. */
export function table (head: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => i === 0 ? '---' : '---:')), ...rows.map(line)].join('\n')
}
