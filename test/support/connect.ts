import { WebSocket } from 'ws'
import { SUBPROTOCOL, type AgentEvent, type ClientFrame, type ServerFrame } from '../../schemas/index.js'

export type Frame = AgentEvent | ServerFrame

/** A raw socket of the protocol that keeps every frame it got: what tests assert at. */
export class Receiver {
  readonly frames: Frame[] = []
  readonly socket: WebSocket
  closeCode: number | undefined
  readonly #waiting = new Set<() => void>()

  constructor (socket: WebSocket) {
    this.socket = socket
    socket.on('message', (data) => {
      const frame = JSON.parse(String(data)) as Frame
      if (frame.type === 'ping') this.socket.send('{"type":"pong"}')
      this.frames.push(frame)
      this.#changed()
    })
    socket.on('close', (code) => {
      this.closeCode = code
      this.#changed()
    })
    socket.on('error', () => {})
  }

  /** The events, without the other frames. */
  events (threadId?: string): AgentEvent[] {
    return this.frames.filter((frame): frame is AgentEvent => 'seq' in frame && (threadId === undefined || frame.threadId === threadId))
  }

  send (frame: ClientFrame | Record<string, unknown>): void {
    this.socket.send(JSON.stringify(frame))
  }

  /** The first frame that fits, now or within the deadline. */
  async frame<Type extends Frame['type']> (type: Type, fits: (frame: Extract<Frame, { type: Type }>) => boolean = () => true, timeoutMs?: number): Promise<Extract<Frame, { type: Type }>> {
    const find = () => this.frames.find((frame): frame is Extract<Frame, { type: Type }> => frame.type === type && fits(frame as Extract<Frame, { type: Type }>))
    await this.until(() => find() !== undefined, `frame '${type}'`, timeoutMs)
    return find()!
  }

  async until (holds: () => boolean, what = 'condition', timeoutMs = 10_000): Promise<void> {
    if (holds()) return
    await new Promise<void>((resolve, reject) => {
      const check = () => { if (holds()) settle(resolve) }
      const settle = (then: () => void) => {
        clearTimeout(timer)
        this.#waiting.delete(check)
        then()
      }
      const timer = setTimeout(() => {
        settle(() => { reject(new Error(`waited ${timeoutMs} ms for ${what}; got ${JSON.stringify(this.frames.slice(-20).map((frame) => frame.type))}, close code ${this.closeCode}`)) })
      }, timeoutMs)
      this.#waiting.add(check)
    })
  }

  async closed (timeoutMs?: number): Promise<number> {
    await this.until(() => this.closeCode !== undefined, 'close', timeoutMs)
    return this.closeCode!
  }

  close (): void {
    this.socket.close()
  }

  #changed (): void {
    for (const check of [...this.#waiting]) check()
  }
}

/** Opens a socket as this user; resolves after `connected`. Closed with the test. */
export async function connect (t: { teardown (fn: () => unknown): void }, url: string, userId: string): Promise<Receiver> {
  const receiver = new Receiver(new WebSocket(`${url.replace('http', 'ws')}/ws?userId=${encodeURIComponent(userId)}`, SUBPROTOCOL))
  t.teardown(() => { receiver.socket.terminate() })
  await receiver.frame('connected')
  return receiver
}

/** POST with JSON as this user. */
export async function post (url: string, path: string, userId: string, body: unknown = {}): Promise<{ status: number, body: any }> {
  const response = await fetch(url + path, { method: 'POST', headers: { 'content-type': 'application/json', 'x-user-id': userId }, body: JSON.stringify(body) })
  const text = await response.text()
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) }
}

export async function get (url: string, path: string, userId: string): Promise<{ status: number, headers: Headers, body: any }> {
  const response = await fetch(url + path, { headers: { 'x-user-id': userId } })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text === '' ? undefined : JSON.parse(text) }
}
