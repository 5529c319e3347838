import type { Message, Part, Run, ThreadState } from '../../client/state/index.js'
import { KeyedList, element, setAttributes, setText, svg, type View } from './dom.js'
import { count, duration, json, scaleOf } from './format.js'
import { partKey, type RunTimes, type Span, type Tick, type Timings } from './timings.js'

/** One line of the timeline: a part of a run, or an agent that it called. */
interface Row {
  readonly key: string
  readonly kind: 'thinking' | 'tool' | 'text' | 'custom' | 'agent'
  readonly state: string
  readonly label: string
  readonly note: string
  readonly depth: number
  readonly span: Span | undefined
  readonly detail: readonly (readonly [string, string])[]
}

/** Where a moment is on the drawing, in percent. */
interface Scale { readonly start: number, readonly lengthMs: number }

const KINDS = { thinking: 'Thought', tool: 'Tool', text: 'Answer', custom: 'Event', agent: 'Agent' } as const
const STATES: Readonly<Record<string, string>> = { input: 'arguments are being written', running: 'running', streaming: 'streaming', ok: 'ok', done: '', success: 'success' }

/** A run as bars over time: what it thought, which tools it used and for how long, and its answer as it came. */
export class Timeline {
  readonly element: HTMLElement
  readonly #rows: KeyedList<Row>
  readonly #list = element('ol', { class: 'rows' })
  readonly #grid = element('div', { class: 'grid', 'aria-hidden': 'true' })
  readonly #ticks = svg('svg', { class: 'ticks', viewBox: '0 0 1000 24', preserveAspectRatio: 'none', role: 'img' })
  readonly #legend = element('p', { class: 'legend' })
  #scale: Scale = { start: 0, lengthMs: 1 }
  #drawn = ''

  constructor () {
    this.#rows = new KeyedList(this.#list, ({ key }) => key, (row) => new RowView(row, () => this.#scale))
    this.element = element('div', { class: 'timeline' },
      element('div', { class: 'plot' }, this.#grid, this.#list, element('div', { class: 'tick-row' }, element('span', { class: 'tick-label' }, 'Log'), this.#ticks)),
      this.#legend)
  }

  /** @param now by the server's clock; only of a run that goes on */
  update (run: Run, state: ThreadState, timings: Timings, now: number): void {
    const times = timings.run(run.runId)
    if (times === undefined) return
    const end = times.end ?? Math.max(now, times.ticks.at(-1)!.at)
    const lengthMs = Math.max(end - times.start, 1)
    // while it runs the scale grows in steps, so that what is drawn stays where it is for a while
    const scaleMs = times.end === undefined ? Math.max(500, 2 ** Math.ceil(Math.log2(lengthMs * 1.05))) : lengthMs * 1.02
    this.#scale = { start: times.start, lengthMs: scaleMs }
    this.#drawGrid(scaleMs)
    this.#rows.update(rowsOf(run, state, timings, end))
    this.#drawTicks(ticksOf(run, state, timings))
  }

  #drawGrid (scaleMs: number): void {
    const { stepMs, steps } = scaleOf(scaleMs)
    this.#grid.replaceChildren(...Array.from({ length: steps + 1 }, (_, at) => {
      const line = element('span', { class: at * stepMs / scaleMs > 0.9 ? 'grid-line last' : 'grid-line' }, at === 0 ? '0' : duration(at * stepMs))
      line.style.setProperty('--at', `${(at * stepMs / scaleMs) * 100}%`)
      return line
    }))
  }

  /** Each event a mark, drawn as few paths however many there are. */
  #drawTicks (ticks: readonly Tick[]): void {
    const { start, lengthMs } = this.#scale
    const key = `${ticks.length} ${lengthMs}`
    if (key === this.#drawn) return
    this.#drawn = key
    const x = (at: number) => Math.min(998, Math.max(2, ((at - start) / lengthMs) * 1_000)).toFixed(1)
    const marks = (missed: boolean, top: number, bottom: number) => ticks.filter(({ arrival }) => (arrival === 'caught up') === missed).map(({ at }) => `M${x(at)} ${top}V${bottom}`).join('')
    const missed = ticks.filter(({ arrival }) => arrival === 'caught up')
    const bands: SVGElement[] = []
    let first: number | undefined
    for (const [at, tick] of ticks.entries()) {
      if (tick.arrival === 'caught up') first ??= ticks[Math.max(0, at - 1)]!.at
      const isEnd = first !== undefined && (at === ticks.length - 1 || ticks[at + 1]!.arrival !== 'caught up')
      if (tick.arrival === 'caught up' && isEnd) {
        bands.push(svg('path', { class: 'away', d: `M${x(first!)} 0V24H${x(tick.at)}V0Z` }))
        first = undefined
      }
    }
    this.#ticks.replaceChildren(...bands, svg('path', { class: 'tick-live', d: marks(false, 6, 18) }), svg('path', { class: 'tick-missed', d: marks(true, 3, 21) }))
    const said = `${count(ticks.length, 'event')}${missed.length > 0 ? `, ${missed.length} of them caught up after a reconnect` : ''}`
    this.#ticks.setAttribute('aria-label', said)
    this.#legend.replaceChildren(...missed.length === 0
      ? []
      : [element('span', { class: 'key live' }), 'as it happened ', element('span', { class: 'key missed' }), `caught up after a reconnect: ${missed.length} of ${ticks.length}`])
  }
}

class RowView implements View<Row> {
  readonly element: HTMLElement
  readonly #scaleOf: () => Scale
  readonly #name = element('span', { class: 'row-name' })
  readonly #note = element('span', { class: 'row-note' })
  readonly #bar = element('span', { class: 'bar' })
  readonly #time = element('span', { class: 'row-time' })
  readonly #detail = element('div', { class: 'detail' })
  readonly #fold: HTMLDetailsElement
  #row: Row
  #shown: Row['detail'] = []

  constructor (row: Row, scaleOf: () => Scale) {
    this.#row = row
    this.#scaleOf = scaleOf
    const icon = element('span', { class: 'icon', 'aria-hidden': 'true' })
    const head = element('span', { class: 'row-head' }, icon, element('span', { class: 'visually-hidden' }, `${KINDS[row.kind]}: `), this.#name, this.#note)
    this.#fold = element('details', {}, element('summary', {}, head, element('span', { class: 'track', 'aria-hidden': 'true' }, this.#bar), this.#time), this.#detail)
    this.element = element('li', { class: 'row', 'data-kind': row.kind }, this.#fold)
    this.element.style.setProperty('--depth', String(row.depth))
    // details are made when somebody looks
    this.#fold.addEventListener('toggle', () => { this.#showDetail() })
  }

  update (row: Row): void {
    this.#row = row
    const { start, lengthMs } = this.#scaleOf()
    setAttributes(this.element, { 'data-state': row.state })
    setText(this.#name, row.label)
    this.#name.title = row.label
    setText(this.#note, row.note)
    const { span } = row
    if (span) {
      const end = span.end ?? start + lengthMs
      this.#bar.style.setProperty('--from', `${clamp((span.start - start) / lengthMs) * 100}%`)
      this.#bar.style.setProperty('--span', `${clamp((end - span.start) / lengthMs) * 100}%`)
      this.#bar.classList.toggle('point', span.end !== undefined && span.end - span.start < lengthMs / 200)
      setText(this.#time, span.pieces === 1 && span.end === span.start ? `at ${duration(span.start - start)}` : duration(end - span.start))
    }
    this.#showDetail()
  }

  #showDetail (): void {
    if (!this.#fold.open || JSON.stringify(this.#shown) === JSON.stringify(this.#row.detail)) return
    this.#shown = this.#row.detail
    this.#detail.replaceChildren(...this.#shown.flatMap(([name, text]) => [
      element('p', { class: 'detail-name' }, name), element('pre', { tabindex: 0 }, text)
    ]))
  }
}

function clamp (fraction: number): number {
  return Math.min(1, Math.max(0, fraction))
}

// ---------- what there is to draw ----------

/** Of the run and of those that it started, in the order of the log. */
function ticksOf (run: Run, state: ThreadState, timings: Timings): readonly Tick[] {
  const own = timings.run(run.runId)?.ticks ?? []
  const children = state.runs.filter(({ parentRunId }) => parentRunId === run.runId)
  if (children.length === 0) return own
  return [own, ...children.map((child) => ticksOf(child, state, timings))].flat().sort((one, other) => one.seq - other.seq)
}

function rowsOf (run: Run, state: ThreadState, timings: Timings, now: number, depth = 0): Row[] {
  const message = state.messages.find((message) => message.role === 'assistant' && message.runId === run.runId)
  const times = timings.run(run.runId)
  const rows = (message?.parts ?? []).flatMap((part) => rowOf(run, message!, part, times, now, depth))
  for (const child of state.runs) {
    if (child.parentRunId !== run.runId || depth > 8) continue
    const childTimes = timings.run(child.runId)
    const span = childTimes && { start: childTimes.start, end: childTimes.end ?? (child.status === 'running' ? now : childTimes.start), pieces: 2 }
    const row: Row = { key: `agent ${child.runId}`, kind: 'agent', state: child.status, label: child.agent, note: child.status, depth, span, detail: [['run', child.runId], ['result', json(child.error ?? child.result)]] }
    const childRows = [row, ...rowsOf(child, state, timings, now, depth + 1)]
    // where it began among what its caller did
    const at = rows.findIndex(({ span: other }) => other !== undefined && span !== undefined && other.start > span.start)
    rows.splice(at < 0 ? rows.length : at, 0, ...childRows)
  }
  return rows
}

function rowOf (run: Run, message: Message, part: Part, times: RunTimes | undefined, now: number, depth: number): Row[] {
  if (part.type === 'file') return []
  const known = times?.spans.get(partKey(part))
  const isOpen = known !== undefined && known.end === undefined
  const span = isOpen ? { ...known, end: run.status === 'running' ? now : times?.end ?? now } : known
  const base = { key: `${message.id} ${partKey(part)}`, kind: part.type, depth, span, pieces: known?.pieces ?? 0 }
  switch (part.type) {
    case 'thinking': return [{
      ...base,
      state: part.state,
      label: part.text.trim().split('\n')[0] || 'Thinking',
      note: part.step === undefined ? '' : `${part.step.name} ${part.step.index}${part.step.total === undefined ? '' : ` of ${part.step.total}`}`,
      detail: [[part.kind === 'reasoning' ? 'Reasoning' : 'Said about itself', part.text]]
    }]
    case 'text': return [{ ...base, state: part.state, label: 'Answer', note: `${part.text.length} characters`, detail: [['Arrived as', `${count(base.pieces, 'event')}, ${count(part.text.length, 'character')}`]] }]
    case 'custom': return [{ ...base, state: 'done', label: part.name, note: '', detail: [['Value', json(part.value)]] }]
    case 'tool': {
      const { tool, title, state, output, error, attempt, progress, progressText } = part
      const notes = [
        state === 'ok' ? '' : STATES[state] ?? state,
        attempt > 1 ? `attempt ${attempt}` : '',
        progress !== undefined && state === 'running' ? `${Math.round(progress * 100)} %` : '',
        state === 'running' ? progressText ?? '' : ''
      ]
      return [{
        ...base,
        state,
        label: title ?? tool,
        note: notes.filter((note) => note !== '').join(', '),
        detail: [
          ['Arguments', part.state === 'input' ? part.argsText : json(part.args)],
          ...error === undefined ? [] : [['Error', `${error.code}: ${error.message}`] as const],
          ...state === 'ok' ? [['Output', json(output)] as const] : []
        ]
      }]
    }
  }
}
