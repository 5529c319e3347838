import type { AgentEvent } from '../../client/index.js'
import { byId, element } from './dom.js'
import { TRANSPORTS } from './format.js'
import type { Received, Session } from './session.js'

/** Rows that are shown; all of them are saved. */
const MOST_ROWS = 500

/** The events as they came, one row each, with a line wherever the connection was another one. */
export class LogPanel {
  readonly #box = byId('log')
  readonly #list = byId('log-list')
  readonly #saveButton = byId<HTMLButtonElement>('save-log')
  #session: Session | undefined
  #log: readonly Received[] | undefined
  #shown = 0

  constructor () {
    this.#saveButton.addEventListener('click', () => { this.#save() })
  }

  show (session: Session | undefined): void {
    this.#session = session
    this.#log = undefined
    this.update()
  }

  update (): void {
    const log = this.#session?.log ?? []
    this.#saveButton.disabled = log.length === 0
    if (log !== this.#log) {
      this.#log = log
      this.#shown = Math.max(0, log.length - MOST_ROWS)
      this.#list.replaceChildren()
    }
    if (this.#shown === log.length) return
    const isFollowing = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight < 40
    const rows: HTMLElement[] = []
    for (; this.#shown < log.length; this.#shown++) {
      rows.push(...seamsBefore(log, this.#shown, this.#session!.resets).map((text) => element('li', { class: 'seam' }, text)))
      rows.push(rowOf(log[this.#shown]!))
    }
    this.#list.append(...rows.slice(-MOST_ROWS))
    while (this.#list.childElementCount > MOST_ROWS) this.#list.firstElementChild!.remove()
    if (isFollowing) this.#box.scrollTop = this.#box.scrollHeight
  }

  #save (): void {
    const session = this.#session
    if (session === undefined) return
    const text = JSON.stringify(session.log.map(({ event }) => event), null, 2)
    const address = URL.createObjectURL(new Blob([text], { type: 'application/json' }))
    element('a', { href: address, download: `${session.threadId.replace(/[^\w.-]+/g, '_')}.json` }).click()
    URL.revokeObjectURL(address)
  }
}

/** Where the events before it are not simply those before it. */
function seamsBefore (log: readonly Received[], at: number, resets: number): string[] {
  const { event: { seq }, connection, transport } = log[at]!
  const source = `connection ${connection}${transport === undefined ? '' : ` over ${TRANSPORTS[transport]}`}`
  const previous = log[at - 1]
  if (previous) return previous.connection === connection ? [] : [`${source}, resumed after ${previous.event.seq}`]
  return [
    ...resets > 0 ? [`${source}, its place was lost: read anew`] : [],
    ...seq > 1 ? [`${seq === 2 ? '1 is' : `1 to ${seq - 1} are`} no longer kept`] : []
  ]
}

function rowOf ({ event, arrival }: Received): HTMLElement {
  return element('li', { 'data-type': event.type, 'data-arrival': arrival, 'data-id': event.id, title: `${event.type} at ${event.timestamp}` },
    element('span', { class: 'seq' }, String(event.seq)),
    element('span', { class: 'type' }, event.type.replaceAll('_', ' ')),
    element('span', { class: 'what' }, whatOf(event)),
    arrival === 'caught up' && element('span', { class: 'mark' }, 'caught up'))
}

function whatOf (event: AgentEvent): string {
  switch (event.type) {
    case 'user_message': return typeof event.data.content === 'string' ? event.data.content : `${event.data.content.length} parts`
    case 'agent_started': return event.data.agent
    case 'agent_thinking': return event.data.text.trim()
    case 'tool_executing': return `${event.data.tool}, ${event.data.phase}`
    case 'tool_completed': return `${event.data.tool}, ${event.data.status}`
    case 'assistant_message': return event.data.text.trim() || event.data.phase
    case 'agent_completed': return event.data.status
    case 'custom': return event.data.name
    default: return ''
  }
}
