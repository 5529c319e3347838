import { HEARTBEAT_LOST } from '../schemas/close-codes.js'
import type { ConnectedFrame, PingFrame } from '../schemas/index.js'
import type { Incoming, Transport, TransportHandlers } from './transport.js'
import type { WebSocketConstructor, WebSocketLike } from './types.js'
import type { Waking } from './wake.js'

const SUBPROTOCOL = 'agent-events.v1'
const CLOSE_GRACE_MS = 1_000
const CLOSED = 3
/** How long an answer may take where the network seems to be gone. */
const PROBE_MS = 2_000
/** Of a connection that is gone without anybody having said why. */
const ABNORMAL = 1006

export interface SocketAddress {
  readonly url: URL
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export interface SocketOptions {
  readonly WebSocket: WebSocketConstructor
  /** Where to, and with what; asked once. */
  address (signal: AbortSignal): Promise<SocketAddress>
  readonly connectTimeoutMs: number
}

/** One WebSocket with its heartbeat: a peer that is silent for two intervals is given up, whatever the network says. */
export class Socket implements Transport {
  readonly name = 'websocket'
  connected: ConnectedFrame | undefined
  #webSocket: WebSocketLike | undefined
  readonly #opening = new AbortController()
  readonly #handlers: TransportHandlers
  #silenceMs: number
  #heardAt = Date.now()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor (options: SocketOptions, handlers: TransportHandlers) {
    this.#handlers = handlers
    this.#silenceMs = options.connectTimeoutMs
    this.#watch(this.#silenceMs)
    // headers() may throw anything
    this.#open(options).catch((error?: Error & { closeCode?: number }) => {
      if (!this.#opening.signal.aborted) this.#lose(error?.closeCode ?? ABNORMAL, String(error))
    })
  }

  send (text: string): void {
    this.#webSocket!.send(text)
  }

  check (why?: Waking): void {
    if (why === 'offline' && this.connected) {
      // of a thread that cannot be: the answer is all that is wanted, and where the server is on this machine, it comes
      this.send('{"type":"unsubscribe","threadId":"\\n"}')
      this.#heardAt = Math.min(this.#heardAt, Date.now() + PROBE_MS - this.#silenceMs)
    }
    const restMs = this.#heardAt + this.#silenceMs - Date.now()
    const isFutile = why === 'online' && !this.connected
    if (restMs > 0 && !isFutile) return this.#watch(restMs)
    this.#terminate()
    this.#lose(isFutile ? ABNORMAL : HEARTBEAT_LOST, 'The server was silent')
  }

  close (): Promise<void> {
    const webSocket = this.#webSocket
    this.#detach()
    if (!webSocket || webSocket.readyState === CLOSED) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = setTimeout(() => { this.#terminate(); resolve() }, CLOSE_GRACE_MS)
      webSocket.onclose = () => { clearTimeout(timer); resolve() }
      webSocket.close(1000)
    })
  }

  async #open ({ WebSocket, address }: SocketOptions): Promise<void> {
    const { signal } = this.#opening
    const { url, headers } = await address(signal)
    if (signal.aborted) return
    url.protocol = url.protocol.replace('http', 'ws')
    const webSocket = this.#webSocket = new WebSocket(url.href, SUBPROTOCOL, headers && { headers })
    webSocket.onmessage = ({ data }: { data: unknown }) => { this.#receive(data) }
    webSocket.onclose = ({ code, reason }: { code: number, reason: string }) => { this.#lose(code, reason) }
    // close follows, and says all that a browser tells; but without a listener, ws would throw
    webSocket.onerror = () => {}
  }

  #receive (data: unknown): void {
    this.#heardAt = Date.now()
    let frame: Incoming | PingFrame
    try {
      frame = JSON.parse(String(data))
      // null is JSON too
      frame.type // eslint-disable-line @typescript-eslint/no-unused-expressions
    } catch (error) {
      return this.#handlers.onGarbage(error as Error)
    }
    if (frame.type === 'ping') return this.send('{"type":"pong"}')
    if (frame.type === 'connected') {
      this.connected = frame
      this.#silenceMs = frame.heartbeatMs * 2
      // not asked about yet, whatever time it is: the frame is to reach a client that still has this socket
      this.#watch(this.#silenceMs)
    }
    this.#handlers.onFrame(frame)
  }

  #watch (ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => { this.check() }, ms)
  }

  #lose (code: number, reason: string): void {
    this.#detach()
    this.#handlers.onLost(code, reason)
  }

  #detach (): void {
    clearTimeout(this.#timer)
    this.connected = undefined
    this.#opening.abort()
    if (this.#webSocket) this.#webSocket.onmessage = this.#webSocket.onclose = null
  }

  /** A browser cannot end a socket at once, but nobody listens to it any more. */
  #terminate (): void {
    if (this.#webSocket?.terminate) this.#webSocket.terminate()
    else this.#webSocket?.close(HEARTBEAT_LOST)
  }
}
