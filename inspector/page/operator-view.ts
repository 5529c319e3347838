import { byId, element, setText, svg } from './dom.js'
import { bytes, count, duration, shortId } from './format.js'
import { drawMappings } from './mappings.js'
import { Refusal, type Server } from './server.js'

const POLL_MS = 2_000
/** Samples in a small curve: two minutes. */
const SAMPLES = 60
/** Rows of a table; more would be a wall. */
const MOST_ROWS = 200

/** Whom the server asked: every process that shares its store. */
interface Asked { readonly nodes: ReadonlyArray<{ readonly node: string, readonly answered: boolean }> }
interface ConnectionInfo {
  readonly connectionId: string
  readonly node: string
  readonly userId: string
  readonly ageMs: number
  readonly lastHeardMs: number
  readonly bufferedBytes: number
  readonly delivered: number
  readonly lastAck: { readonly threadId: string, readonly cursor: string, readonly agoMs: number } | null
  readonly threads: ReadonlyArray<{ readonly threadId: string, readonly state: string, readonly behind: number, readonly unacknowledged: number }>
}
interface WatchedThread {
  readonly threadId: string
  readonly userId?: string
  readonly head?: number
  readonly connections: readonly string[]
  readonly runs: ReadonlyArray<{ readonly runId: string, readonly agent: string, readonly state: string, readonly ageMs: number }>
}
export interface Mappings {
  readonly users: Readonly<Record<string, { readonly connections: Readonly<Record<string, readonly string[]>>, readonly runs: Readonly<Record<string, string>> }>>
}

/** What operators see: connections, threads, who is mapped to what; asked again and again while it is shown. */
export class OperatorView {
  readonly #notice = byId('operator-notice')
  readonly #body = byId('operator-body')
  readonly #poll = byId('poll')
  readonly #token = byId<HTMLInputElement>('operator-token')
  readonly #rates: number[] = []
  #delivered = new Map<string, number>()
  #server: Server | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #isShown = false
  #isPaused = false
  #asked = 0
  #askedAt: number | undefined
  #answeredAt = ''

  constructor () {
    this.#poll.addEventListener('click', () => {
      this.#isPaused = !this.#isPaused
      this.#poll.setAttribute('aria-pressed', String(this.#isPaused))
      if (this.#isPaused && this.#answeredAt !== '') setText(byId('operator-note'), `Paused: this is what was known at ${this.#answeredAt}.`)
      this.#next(0)
    })
    byId('operator-identity').addEventListener('submit', (event) => {
      event.preventDefault()
      this.#next(0)
    })
    document.addEventListener('visibilitychange', () => { this.#next(0) })
  }

  use (server: Server): void {
    this.#server = server
    byId('operator-identity').hidden = server.settings.identify !== 'bearer'
    this.#delivered = new Map()
    this.#askedAt = undefined
    this.#rates.length = 0
    this.#next(0)
  }

  show (isShown: boolean): void {
    this.#isShown = isShown
    this.#next(0)
  }

  #next (ms: number): void {
    clearTimeout(this.#timer)
    if (!this.#isShown || this.#isPaused || document.hidden || this.#server === undefined) return
    this.#timer = setTimeout(() => { this.#ask() }, ms)
  }

  async #ask (): Promise<void> {
    const asked = ++this.#asked
    const server = this.#server!
    const token = this.#token.value === '' ? undefined : this.#token.value
    try {
      const [{ connections, nodes }, { threads }, mappings] = await Promise.all([
        server.get<Asked & { connections: ConnectionInfo[] }>('/debug/websocket/connections', token),
        server.get<{ threads: WatchedThread[] }>('/debug/websocket/threads', token),
        server.get<Mappings>('/debug/websocket/mappings', token)
      ])
      if (asked !== this.#asked || this.#isPaused) return
      this.#notice.hidden = true
      this.#body.hidden = false
      this.#answeredAt = new Date().toLocaleTimeString('en', { hour12: false })
      setText(byId('operator-note'), `What ${whoKnows(nodes)}, asked again every two seconds; last at ${this.#answeredAt}.`)
      this.#draw(connections, threads, mappings, nodes.length > 1)
    } catch (error) {
      if (asked === this.#asked) this.#explain(error as Error)
    }
    this.#next(POLL_MS)
  }

  #explain (error: Error): void {
    this.#body.hidden = true
    this.#notice.hidden = false
    const status = error instanceof Refusal ? error.status : 0
    const [title, text] = status === 404
      ? ['The debug endpoints are off', 'They show who is connected, so nobody gets them by default. To see them here, register the routes with debug: true, or with a function that says who is an operator: debug: (request) => request.session.isAdmin']
      : status === 401 || status === 403
        ? ['This is for operators', `The server does not let you see its connections. ${this.#server!.settings.identify === 'bearer' ? 'Enter the operator\'s token above.' : 'Sign in as somebody whom its debug option lets in.'}`]
        : ['The server does not answer', 'This page asks again every two seconds.']
    if (this.#notice.dataset.title === title) return
    this.#notice.dataset.title = title
    this.#notice.replaceChildren(element('h2', {}, title), element('p', {}, text))
  }

  #draw (connections: readonly ConnectionInfo[], threads: readonly WatchedThread[], mappings: Mappings, hasManyNodes: boolean): void {
    delete this.#notice.dataset.title
    this.#measure(connections)
    const subscriptions = connections.flatMap(({ threads }) => threads)
    const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0)
    const live = sum(threads.map(({ runs }) => runs.length))
    byId('totals').replaceChildren(
      total('connections', connections.length),
      total('users', new Set(connections.map(({ userId }) => userId)).size),
      total('threads watched', threads.filter(({ connections }) => connections.length > 0).length),
      total('runs at work', live),
      total('not acknowledged', sum(subscriptions.map(({ behind, unacknowledged }) => behind + unacknowledged))),
      total('events a second', this.#rates.at(-1) ?? 0, this.#rates)
    )
    drawMappings(byId('mappings'), mappings)
    fill(byId('connections'), 'Nobody is connected.', ['Connection', ...hasManyNodes ? ['Node'] : [], 'User', 'For', 'Last heard', 'Delivered', 'In the socket', 'Threads'], connections.map((connection) => [
      id(connection.connectionId),
      ...hasManyNodes ? [id(connection.node)] : [],
      connection.userId,
      duration(connection.ageMs),
      `${duration(connection.lastHeardMs)} ago`,
      connection.delivered.toLocaleString('en'),
      bytes(connection.bufferedBytes),
      element('ul', { class: 'plain' }, ...connection.threads.map(({ threadId, state, behind, unacknowledged }) => element('li', {},
        id(threadId), ' ', element('span', { class: 'chip', 'data-state': state }, state),
        behind > 0 && element('span', { class: 'chip warn' }, `${behind} behind`),
        unacknowledged > 0 && element('span', { class: 'chip warn' }, `${unacknowledged} not acknowledged`))))
    ]))
    fill(byId('watched'), 'No thread is watched or at work.', ['Thread', 'Owner', 'Events', 'Connections', 'Runs at work'], threads.map(({ threadId, userId, head, connections, runs }) => [
      id(threadId),
      userId ?? 'unknown',
      head === undefined ? '' : head.toLocaleString('en'),
      String(connections.length),
      element('ul', { class: 'plain' }, ...runs.map(({ runId, agent, state, ageMs }) => element('li', {}, agent, ' ', element('span', { class: 'chip', 'data-state': state }, state), ` ${duration(ageMs)} `, id(runId))))
    ]))
  }

  #measure (connections: readonly ConnectionInfo[]): void {
    const now = performance.now()
    let fresh = 0
    const delivered = new Map<string, number>()
    for (const connection of connections) {
      delivered.set(connection.connectionId, connection.delivered)
      fresh += connection.delivered - (this.#delivered.get(connection.connectionId) ?? 0)
    }
    if (this.#askedAt !== undefined) this.#rates.push(Math.round(fresh / ((now - this.#askedAt) / 1_000)))
    if (this.#rates.length > SAMPLES) this.#rates.shift()
    this.#askedAt = now
    this.#delivered = delivered
  }
}

/** "3 processes know", and who of them did not answer. */
function whoKnows (nodes: Asked['nodes']): string {
  if (nodes.length === 1) return 'this process knows'
  const silent = nodes.filter(({ answered }) => !answered).map(({ node }) => node)
  return `${nodes.length - silent.length} of ${nodes.length} processes know${silent.length > 0 ? ` (no answer from ${silent.join(', ')})` : ''}`
}

function total (name: string, value: number, curve?: readonly number[]): HTMLElement {
  return element('li', { class: 'total' }, element('strong', {}, value.toLocaleString('en')), element('span', {}, name), curve !== undefined && sparkline(curve))
}

function sparkline (samples: readonly number[]): Element {
  const most = Math.max(1, ...samples)
  const shown = Math.max(15, samples.length)
  const points = samples.map((sample, at) => `${(((shown - samples.length + at) / (shown - 1)) * 100).toFixed(1)},${(23 - (sample / most) * 21).toFixed(1)}`)
  return svg('svg', { class: 'sparkline', viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('polyline', { points: points.join(' ') }))
}

function id (text: string): HTMLElement {
  return element('code', { title: text }, shortId(text, 18))
}

/** A table; on a narrow page each row becomes a card, and each cell says what it is. */
function fill (box: HTMLElement, empty: string, heads: readonly string[], rows: ReadonlyArray<ReadonlyArray<Node | string>>): void {
  // what somebody is reading, or has the focus in, stays
  if (box.contains(document.getSelection()?.anchorNode ?? null) && document.getSelection()?.isCollapsed === false) return
  if (rows.length === 0) return box.replaceChildren(element('p', { class: 'note' }, empty))
  const shown = rows.slice(0, MOST_ROWS)
  box.replaceChildren(
    element('table', { class: 'cards' },
      element('thead', {}, element('tr', {}, ...heads.map((head) => element('th', { scope: 'col' }, head)))),
      element('tbody', {}, ...shown.map((cells) => element('tr', {}, ...cells.map((cell, at) => element('td', { 'data-head': heads[at] }, cell)))))),
    ...rows.length > MOST_ROWS ? [element('p', { class: 'note' }, `and ${count(rows.length - MOST_ROWS, 'more', 'more')}`)] : [])
}
