import { element } from './dom.js'

/*
 * The Markdown that agents write, made of elements and texts: nothing in it can become a script or load anything. What it
 * does not know it shows as it is.
 */

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|(?<![\w*])\*([^*\s][^*]*)\*(?!\w)|\[([^\]]+)\]\(([^)\s]+)\)/g

export function markdown (text: string): HTMLElement[] {
  const lines = text.replaceAll('\r', '').split('\n')
  const blocks: HTMLElement[] = []
  let at = 0
  const take = (fits: (line: string) => boolean) => {
    const taken: string[] = []
    while (at < lines.length && fits(lines[at]!)) taken.push(lines[at++]!)
    return taken
  }
  while (at < lines.length) {
    const line = lines[at]!
    if (line.trim() === '') {
      at++
    } else if (line.startsWith('```')) {
      at++
      const code = take((next) => !next.startsWith('```'))
      at++
      blocks.push(element('pre', { tabindex: 0 }, element('code', {}, code.join('\n'))))
    } else if (/^#{1,6}\s/.test(line)) {
      at++
      blocks.push(element('p', { class: 'heading' }, ...inline(line.replace(/^#+\s+/, ''))))
    } else if (isRow(line) && /^[\s|:-]+$/.test(lines[at + 1] ?? '')) {
      blocks.push(table(take(isRow)))
    } else if (isItem(line)) {
      const items = take((next) => isItem(next) || /^\s+\S/.test(next))
      blocks.push(list(items))
    } else if (line.startsWith('>')) {
      blocks.push(element('blockquote', {}, ...markdown(take((next) => next.startsWith('>')).map((next) => next.replace(/^>\s?/, '')).join('\n'))))
    } else {
      // its first line is taken whatever it looks like, or this would never end
      at++
      const rest = take((next) => next.trim() !== '' && !isItem(next) && !/^(```|#{1,6}\s|>)/.test(next))
      blocks.push(element('p', {}, ...inline([line, ...rest].join('\n'))))
    }
  }
  return blocks
}

function isItem (line: string): boolean {
  return /^\s*([-*]|\d+[.)])\s+/.test(line)
}

function isRow (line: string): boolean {
  return line.trim().startsWith('|')
}

function list (lines: readonly string[]): HTMLElement {
  const items: string[] = []
  for (const line of lines) {
    if (isItem(line)) items.push(line.replace(/^\s*([-*]|\d+[.)])\s+/, ''))
    else items.push(`${items.pop() ?? ''} ${line.trim()}`)
  }
  return element(/^\s*\d/.test(lines[0]!) ? 'ol' : 'ul', {}, ...items.map((item) => element('li', {}, ...inline(item))))
}

function table (lines: readonly string[]): HTMLElement {
  const cells = (line: string) => line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'))
  const [head = '', , ...rows] = lines
  return element('div', { class: 'table', tabindex: 0, role: 'group', 'aria-label': 'Table' }, element('table', {},
    element('thead', {}, element('tr', {}, ...cells(head).map((cell) => element('th', { scope: 'col' }, ...inline(cell))))),
    element('tbody', {}, ...rows.map((row) => element('tr', {}, ...cells(row).map((cell) => element('td', {}, ...inline(cell))))))))
}

function inline (text: string): Array<Node | string> {
  const parts: Array<Node | string> = []
  let end = 0
  for (const match of text.matchAll(INLINE)) {
    const [whole, code, strong, emphasis, label, target] = match
    parts.push(text.slice(end, match.index))
    end = match.index + whole.length
    if (code !== undefined) parts.push(element('code', {}, code))
    else if (strong !== undefined) parts.push(element('strong', {}, ...inline(strong)))
    else if (emphasis !== undefined) parts.push(element('em', {}, ...inline(emphasis)))
    else if (/^https?:\/\//.test(target!)) parts.push(element('a', { href: target, rel: 'noopener noreferrer', target: '_blank' }, label!))
    // a path of somebody's documents leads nowhere from here
    else parts.push(element('em', {}, label!))
  }
  parts.push(text.slice(end))
  return parts
}
