import { WebSocket } from 'ws'
import type { readStamp } from './events.js'

/** How a server is talked to: ours (the hand-written ones understand the same), or Socket.IO's protocol. */
export type Dialect = 'ours' | 'socket-io'

const EVENTS = [Buffer.from('"type":"agent_thinking"'), Buffer.from('"type":"assistant_message"')]

interface BenchEvent { readonly id: string, readonly data: { readonly text: string } }

/** One bare socket that follows one thread, and can come back to where it was. */
export class Watcher {
  /** From the start of the reconnect until everything said before it was there. */
  caughtUpMs = 0
  readonly #url: string
  readonly #dialect: Dialect
  readonly #threadId: string
  readonly #localAddress: string | undefined
  readonly #onEvent: (data: Buffer) => void
  readonly #ns: number[] = []
  #socket: WebSocket | undefined
  #last: Buffer | undefined
  /** Socket.IO's private session id. */
  #pid: string | undefined
  #reconnectAt = 0

  constructor (url: string, dialect: Dialect, thread: number, localAddress: string | undefined, onEvent: (data: Buffer) => void) {
    this.#url = dialect === 'ours' ? `${url}?userId=user${thread}` : url
    this.#dialect = dialect
    this.#threadId = `t${thread}`
    this.#localAddress = localAddress
    this.#onEvent = onEvent
  }

  /** Resolves when it follows its thread. @param at when it came back to where it was */
  connect (at = 0): Promise<void> {
    this.#reconnectAt = at
    return new Promise((resolve, reject) => {
      const socket = this.#socket = new WebSocket(this.#url, { perMessageDeflate: false, ...(this.#localAddress !== undefined && { localAddress: this.#localAddress }) })
      socket.on('error', reject)
      if (this.#dialect === 'ours') {
        const cursor = this.#last === undefined ? undefined : this.#parse(this.#last)[0].id
        socket.on('open', () => { socket.send(JSON.stringify({ type: 'subscribe', threadId: this.#threadId, cursor })) })
      }
      socket.on('message', (data: Buffer) => {
        if (EVENTS.some((type) => data.includes(type))) {
          this.#last = data
          this.#onEvent(data)
        } else if (this.#dialect === 'ours' ? this.#onOurs(socket, String(data)) : this.#onSocketIo(socket, String(data))) {
          resolve()
        }
      })
    })
  }

  /** As a network does that goes away. */
  drop (): void { this.#socket!.terminate() }

  textIn (data: Buffer): string { return this.#parse(data)[0].data.text }

  keep ({ n, at }: ReturnType<typeof readStamp>, now: number): void {
    this.#ns.push(n)
    if (at < this.#reconnectAt) this.caughtUpMs = now - this.#reconnectAt
  }

  missing (events: number): number { return events - new Set(this.#ns).size }

  /** Every event, in order and once. */
  isWhole (events: number): boolean { return this.#ns.length === events && this.#ns.every((n, i) => n === i + 1) }

  /** Both below: whether it follows its thread from now on. */
  #onOurs (socket: WebSocket, text: string): boolean {
    if (text === '{"type":"ping"}') socket.send('{"type":"pong"}')
    return text.includes('"subscribed"')
  }

  #onSocketIo (socket: WebSocket, text: string): boolean {
    if (text === '2') { // a ping
      socket.send('3')
    } else if (text.startsWith('0')) { // open
      socket.send(this.#last === undefined ? '40' : `40${JSON.stringify({ pid: this.#pid, offset: this.#parse(this.#last)[1] })}`)
    } else if (text.startsWith('40')) { // connected
      const { pid } = JSON.parse(text.slice(2)) as { pid: string }
      if (pid === this.#pid) return true // and recovered, with its rooms
      this.#pid = pid
      socket.send(`42${JSON.stringify(['subscribe', this.#threadId])}`)
    }
    return text.includes('"subscribed"')
  }

  /** @returns the event, and where Socket.IO would go on after it */
  #parse (data: Buffer): [BenchEvent, string?] {
    if (this.#dialect === 'ours') return [JSON.parse(String(data))]
    const [, event, offset] = JSON.parse(String(data).slice(2)) as [string, BenchEvent, string]
    return [event, offset]
  }
}
