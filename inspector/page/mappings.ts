import { element, svg } from './dom.js'
import { count, shortId } from './format.js'
import type { Mappings } from './operator-view.js'

/** Nodes of a column; more would be a carpet. */
const MOST_NODES = 24
const ROW = 34
const WIDTH = 960
const COLUMNS = [0, 370, 740] as const
const NODE_WIDTH = 220

interface Node { readonly id: string, readonly label: string, readonly kind: 'user' | 'connection' | 'thread', readonly column: 0 | 1 | 2 }

/** Users, their connections and the threads these read, as three columns with lines between them. */
export function drawMappings (box: HTMLElement, { users }: Mappings): void {
  const columns: [Node[], Node[], Node[]] = [[], [], []]
  const lines: Array<{ readonly from: string, readonly to: string, isRun: boolean }> = []
  const known = new Set<string>()
  let hidden = 0
  const add = (id: string, label: string, kind: Node['kind'], column: Node['column']) => {
    if (known.has(id)) return true
    if (columns[column].length >= MOST_NODES) {
      hidden++
      return false
    }
    known.add(id)
    columns[column].push({ id, label, kind, column })
    return true
  }
  for (const [userId, { connections, runs }] of Object.entries(users)) {
    const user = `user ${userId}`
    if (!add(user, userId, 'user', 0)) continue
    for (const [connectionId, threads] of Object.entries(connections)) {
      const connection = `connection ${connectionId}`
      if (!add(connection, connectionId, 'connection', 1)) continue
      lines.push({ from: user, to: connection, isRun: false })
      for (const threadId of threads) {
        if (add(`thread ${threadId}`, threadId, 'thread', 2)) lines.push({ from: connection, to: `thread ${threadId}`, isRun: false })
      }
    }
    for (const threadId of new Set(Object.values(runs))) {
      const thread = `thread ${threadId}`
      if (!add(thread, threadId, 'thread', 2)) continue
      const watching = lines.filter(({ from, to }) => to === thread && Object.keys(connections).some((connectionId) => from === `connection ${connectionId}`))
      for (const line of watching) line.isRun = true
      // nobody of them looks, and the run goes on
      if (watching.length === 0) lines.push({ from: user, to: thread, isRun: true })
    }
  }
  const key = JSON.stringify([columns, lines, hidden])
  if (box.dataset.drawn === key) return
  box.dataset.drawn = key
  if (known.size === 0) return box.replaceChildren(element('p', { class: 'note' }, 'Nobody is here: no connection and no run.'))

  const tallest = Math.max(...columns.map(({ length }) => length))
  const height = tallest * ROW + 24
  const places = new Map<string, readonly [number, number]>()
  for (const nodes of columns) {
    const top = 24 + ((tallest - nodes.length) * ROW) / 2
    for (const [at, node] of nodes.entries()) places.set(node.id, [COLUMNS[node.column], top + at * ROW + ROW / 2])
  }
  const said = `${count(columns[0].length, 'user')}, ${count(columns[1].length, 'connection')}, ${count(columns[2].length, 'thread')}. The tables below say the same.`
  const drawing = svg('svg', { class: 'mapping', viewBox: `-2 0 ${WIDTH + 4} ${height}`, role: 'img', 'aria-label': said },
    ...['Users', 'Connections', 'Threads'].map((title, column) => svg('text', { class: 'mapping-head', x: COLUMNS[column]! + 2, y: 12 }, title)),
    ...lines.map(({ from, to, isRun }) => {
      const [x, y] = places.get(from)!
      const [toX, toY] = places.get(to)!
      const start = x + NODE_WIDTH
      const middle = (start + toX) / 2
      return svg('path', { class: isRun ? 'mapping-line run' : 'mapping-line', d: `M${start} ${y}C${middle} ${y} ${middle} ${toY} ${toX} ${toY}` })
    }),
    ...columns.flat().map(({ id, label, kind }) => {
      const [x, y] = places.get(id)!
      return svg('g', { class: `mapping-node ${kind}` },
        svg('title', {}, label),
        svg('rect', { x, y: y - 13, width: NODE_WIDTH, height: 26, rx: 8 }),
        svg('text', { x: x + 12, y: y + 4.5 }, shortId(label, 26)))
    }))
  const isAnyRun = lines.some(({ isRun }) => isRun)
  box.replaceChildren(
    element('div', { class: 'mapping-box' }, drawing),
    listOf(users),
    ...isAnyRun || hidden > 0 ? [element('p', { class: 'note' }, [isAnyRun ? 'Dashed: a run is at work in the thread.' : '', hidden > 0 ? `${count(hidden, 'more', 'more')} are in the tables.` : ''].filter(Boolean).join(' '))] : [])
}

/** The same where there is no room for a drawing. */
function listOf (users: Mappings['users']): HTMLElement {
  return element('ul', { class: 'mapping-list' }, ...Object.entries(users).slice(0, MOST_NODES).map(([userId, { connections, runs }]) => element('li', {}, element('strong', {}, userId),
    element('ul', {},
      ...Object.entries(connections).slice(0, MOST_NODES).map(([connectionId, threads]) => element('li', {}, 'connection ', element('code', { title: connectionId }, shortId(connectionId)),
        element('ul', {}, ...threads.slice(0, MOST_NODES).map((threadId) => element('li', {}, 'reads ', element('code', { title: threadId }, shortId(threadId, 20))))))),
      ...Object.entries(runs).slice(0, MOST_NODES).map(([, threadId]) => element('li', {}, 'a run is at work in ', element('code', { title: threadId }, shortId(threadId, 20))))))))
}
