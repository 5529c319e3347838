import type { Client } from '../../client/index.js'
import { byId, setText } from './dom.js'
import { TRANSPORTS, count } from './format.js'
import type { Line, Speed } from './line.js'
import type { Session } from './session.js'

const LABELS: Readonly<Record<string, string>> = {
  idle: 'Not connected', connecting: 'Connecting', replaying: 'Catching up', live: 'Live', degraded: 'Delayed', offline: 'Offline', closed: 'Closed'
}
const SPEED_NOTES: Readonly<Record<Speed, string>> = {
  full: 'Leaving is not stopping: the run goes on, and what you miss is read from the log when you are back.',
  slow: 'Four events a second are read. The others wait here, unacknowledged; the operator sees this connection fall behind.',
  paused: 'Nothing is read. The server goes on, and sees how much this connection has not acknowledged.',
  offline: 'This page has no network. The run goes on, and what you miss is read from the log when you are back.'
}

/** How this page is connected, and the handles to disturb that. */
export class ConnectionPanel {
  readonly #line: () => Line | undefined
  readonly #speeds = byId('speeds')

  constructor (line: () => Line | undefined) {
    this.#line = line
    this.#speeds.addEventListener('change', () => { line()?.setSpeed(this.speed) })
    byId('drop').addEventListener('click', () => { line()?.drop() })
  }

  get speed (): Speed {
    return (this.#speeds.querySelector<HTMLInputElement>('input:checked')?.value ?? 'full') as Speed
  }

  update (client: Client | undefined, session: Session | undefined): void {
    const status = session?.state.status ?? client?.status ?? 'idle'
    const label = LABELS[status] ?? status
    const badge = byId('badge')
    badge.dataset.status = status
    setText(byId('badge-text'), label)
    setText(byId('line-status'), label)
    const line = this.#line()
    const { held = 0, speed = 'full' } = line ?? {}
    const { transport } = client ?? {}
    setText(byId('line-detail'), held > 0 ? `${count(held, 'event')} held back` : transport !== undefined ? `over ${TRANSPORTS[transport]}` : '')
    setText(byId('line-note'), SPEED_NOTES[speed])
    byId<HTMLButtonElement>('drop').disabled = client?.connected === undefined
    setText(byId('fact-received'), String(session?.log.length ?? 0))
    setText(byId('fact-caught'), String(session?.caughtUp ?? 0))
    setText(byId('fact-missing'), String(session?.missing ?? 0))
    setText(byId('fact-doubled'), String(session?.doubled ?? 0))
  }
}
