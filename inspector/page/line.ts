import type { ClientOptions, WebSocketConstructor, WebSocketLike } from '../../client/index.js'

export type Speed = 'full' | 'slow' | 'paused' | 'offline'

/** Slow: one frame of a thread in so many milliseconds. */
const SLOW_MS = 250
const ABNORMAL = 1006
const CONNECTING = 0
const CLOSED = 3

interface Frame { readonly type: string, readonly threadId?: string }

/**
 * The way between the client and the server, with handles for people who want to see it fail. The client does not know of
 * it: it is given the WebSocket and the fetch of this line, and lives with what they do.
 */
export class Line {
  readonly WebSocket: WebSocketConstructor
  readonly fetch: NonNullable<ClientOptions['fetch']>
  readonly #onChange: () => void
  #socket: LineSocket | undefined
  #speed: Speed = 'full'
  /** Ends what is under way over HTTP. */
  #requests = new AbortController()

  /**
   * @param addressOf makes the address ready, for instance with a fresh ticket
   * @param onChange something that can be seen here is another
   */
  constructor (addressOf: (url: string) => Promise<string>, onChange: () => void) {
    this.#onChange = onChange
    const open = (socket: LineSocket) => { this.#socket = socket }
    const line = {
      addressOf,
      speed: () => this.#speed,
      onHeld: () => { onChange() }
    }
    this.WebSocket = class extends LineSocket {
      constructor (url: string, protocols: string) {
        super(url, protocols, line)
        open(this)
      }
    }
    this.fetch = (url, { signal, ...options }) => {
      if (this.#speed === 'offline') return Promise.reject(new TypeError('This page is offline'))
      const signals = signal === undefined ? [this.#requests.signal] : [this.#requests.signal, signal]
      return fetch(url, { ...options, signal: AbortSignal.any(signals) } as RequestInit)
    }
  }

  get speed (): Speed { return this.#speed }
  /** Frames that have arrived and are not read. */
  get held (): number { return this.#socket?.held ?? 0 }

  setSpeed (speed: Speed): void {
    const wasOffline = this.#speed === 'offline'
    this.#speed = speed
    if (speed === 'offline') this.drop()
    else this.#socket?.pump()
    // what a browser says when its network is back
    if (wasOffline && speed !== 'offline') globalThis.dispatchEvent(new Event('online'))
    this.#onChange()
  }

  /** As if the cable was cut: without a word to the server. The client comes back by itself. */
  drop (): void {
    this.#requests.abort(new TypeError('The connection was dropped here'))
    this.#requests = new AbortController()
    this.#socket?.lose('The connection was dropped here')
  }
}

interface LineOptions {
  addressOf (url: string): Promise<string>
  speed (): Speed
  onHeld (): void
}

class LineSocket implements WebSocketLike {
  onmessage: ((event: never) => unknown) | null = null
  onclose: ((event: never) => unknown) | null = null
  onerror: ((event: never) => unknown) | null = null
  readonly #options: LineOptions
  #socket: WebSocket | undefined
  #held: unknown[] = []
  #timer: ReturnType<typeof setTimeout> | undefined
  #isLost = false

  constructor (url: string, protocols: string, options: LineOptions) {
    this.#options = options
    // what happens here is said by onclose
    this.#open(url, protocols)
  }

  get readyState (): number { return this.#isLost ? CLOSED : this.#socket?.readyState ?? CONNECTING }
  get held (): number { return this.#held.length }

  send (data: string): void { this.#socket?.send(data) }

  close (code?: number, reason?: string): void {
    if (this.#socket === undefined) this.lose('closed before it was open')
    else this.#socket.close(code, reason)
  }

  lose (reason: string, code = ABNORMAL): void {
    if (this.#isLost) return
    this.#isLost = true
    this.#held = []
    clearTimeout(this.#timer)
    const socket = this.#socket
    if (socket) {
      socket.onmessage = socket.onclose = null
      socket.close()
    }
    this.onclose?.({ code, reason } as never)
  }

  /** Reads what is held, as fast as the line is. */
  pump (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const speed = this.#options.speed()
    if (speed === 'full') for (const data of this.#held.splice(0)) this.#read(data)
    if (speed === 'slow' && this.#held.length > 0) {
      this.#timer = setTimeout(() => {
        this.#read(this.#held.shift())
        this.pump()
      }, SLOW_MS)
    }
    this.#options.onHeld()
  }

  async #open (url: string, protocols: string): Promise<void> {
    if (this.#options.speed() === 'offline') {
      // the client is still inside of the constructor
      await Promise.resolve()
      return this.lose('This page is offline')
    }
    let address: string
    try {
      address = await this.#options.addressOf(url)
    } catch (error) {
      return this.lose((error as Error).message, (error as { closeCode?: number }).closeCode)
    }
    if (this.#isLost) return
    const socket = this.#socket = new WebSocket(address, protocols)
    socket.onmessage = ({ data }) => { this.#arrive(data) }
    socket.onclose = ({ code, reason }) => { this.lose(reason, code) }
  }

  #arrive (data: unknown): void {
    const frame = JSON.parse(String(data)) as Frame
    // the connection itself stays alive: only what belongs to threads is read slowly, in its order
    const isHeld = frame.threadId !== undefined && frame.type !== 'accepted' && frame.type !== 'error' && (this.#options.speed() !== 'full' || this.#held.length > 0)
    if (!isHeld) return this.#read(data)
    this.#held.push(data)
    if (this.#timer === undefined) this.pump()
    else this.#options.onHeld()
  }

  #read (data: unknown): void {
    this.onmessage?.({ data } as never)
  }
}
