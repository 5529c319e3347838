import type { AgentEvent } from '../../client/index.js'

/** How an event got here: with what was there before, as it happened, or after a reconnect. */
export type Arrival = 'history' | 'live' | 'caught up'

/** From the first to the last event of a piece of a run; milliseconds since 1970 by the server's clock. */
export interface Span { readonly start: number, end: number | undefined, pieces: number }

export interface Tick { readonly seq: number, readonly at: number, readonly arrival: Arrival }

export interface RunTimes {
  readonly start: number
  end: number | undefined
  /** By type and id of the part, see partKey. */
  readonly spans: Map<string, Span>
  readonly ticks: Tick[]
}

export function partKey ({ type, id }: { readonly type: string, readonly id: string }): string {
  return `${type} ${id}`
}

/** When each run and each of its parts began and ended: what the timeline draws beside what the reducer knows. */
export class Timings {
  readonly #runs = new Map<string, RunTimes>()
  /** How far this browser's clock is ahead of the server's, with the shortest way an event took. */
  #aheadMs: number | undefined

  run (runId: string): RunTimes | undefined {
    return this.#runs.get(runId)
  }

  /** The present by the server's clock, as far as can be told. */
  now (): number {
    return Date.now() - (this.#aheadMs ?? 0)
  }

  /** @param receivedAt of a live event: when it came, by this browser's clock */
  add (event: AgentEvent, arrival: Arrival, receivedAt = Date.now()): void {
    const at = Date.parse(event.timestamp)
    if (arrival === 'live') this.#aheadMs = Math.min(this.#aheadMs ?? Infinity, receivedAt - at)
    const { runId } = event
    // the user's own message is there before its run begins
    if (runId === undefined || event.type === 'user_message') return
    let run = this.#runs.get(runId)
    if (run === undefined) this.#runs.set(runId, run = { start: at, end: undefined, spans: new Map(), ticks: [] })
    run.ticks.push({ seq: event.seq, at, arrival })
    switch (event.type) {
      case 'agent_completed':
        run.end = at
        break
      case 'agent_thinking':
        extend(run, partKey({ type: 'thinking', id: event.data.thinkingId }), at, isEnd(event.data.phase))
        break
      case 'assistant_message':
        extend(run, partKey({ type: 'text', id: event.data.partId }), at, isEnd(event.data.phase))
        break
      case 'tool_executing':
        extend(run, partKey({ type: 'tool', id: event.data.toolCallId }), at, false)
        break
      case 'tool_completed': {
        const key = partKey({ type: 'tool', id: event.data.toolCallId })
        // its beginning is no longer retained
        if (!run.spans.has(key)) extend(run, key, at - event.data.durationMs, false)
        extend(run, key, at, true)
        break
      }
      case 'custom': extend(run, partKey({ type: 'custom', id: event.id }), at, true)
    }
  }
}

function extend (run: RunTimes, key: string, at: number, isLast: boolean): void {
  let span = run.spans.get(key)
  if (span === undefined) run.spans.set(key, span = { start: at, end: undefined, pieces: 0 })
  span.pieces++
  if (isLast) span.end = at
}

function isEnd (phase: string): boolean {
  return phase === 'end' || phase === 'full'
}
