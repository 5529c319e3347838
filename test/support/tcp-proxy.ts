import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

export type Direction = 'toClient' | 'toServer'

/** What to do once a frame of the server has been passed on; nothing means: go on. */
export type Fault = 'cut' | 'halfClose' | 'stall' | undefined

/** One connection through the proxy. */
export class Link {
  readonly client: Socket
  readonly server: Socket
  readonly #onFrame: (text: string, link: Link) => Fault
  readonly #onEnd: () => void
  readonly #stalled = new Set<Direction>()
  /** What the server said and is not passed on yet. */
  #bytes = Buffer.alloc(0)
  #isUpgraded = false
  readonly #isPlain: boolean

  constructor (client: Socket, server: Socket, isPlain: boolean, onRequest: (text: string) => Fault, onFrame: (text: string, link: Link) => Fault, onEnd: () => void) {
    this.client = client
    this.server = server
    this.#isPlain = isPlain
    this.#onFrame = onFrame
    this.#onEnd = onEnd
    client.on('data', (chunk) => {
      switch (onRequest(chunk.toString('latin1'))) {
        case 'cut': return this.cut()
        case 'halfClose': return this.halfClose('toClient')
        case 'stall': this.stall('toClient')
      }
      if (!server.write(chunk)) client.pause()
    })
    server.on('drain', () => { if (!this.#stalled.has('toServer')) client.resume() })
    server.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk])
      this.#pass()
    })
    client.on('drain', () => { if (!this.#stalled.has('toClient')) server.resume() })
    client.on('end', () => { server.end() })
    server.on('end', () => { client.end() })
    for (const socket of [client, server]) {
      socket.on('error', () => {})
      socket.on('close', () => { this.destroy() })
    }
  }

  /** As if a cable was pulled and something on the way answered: both sides get a reset. */
  cut (): void {
    for (const socket of [this.client, this.server]) reset(socket)
    this.#onEnd()
  }

  /** Says the end of the stream to one side and goes on carrying what that side says. */
  halfClose (direction: Direction): void {
    (direction === 'toClient' ? this.client : this.server).end()
  }

  /** Stops reading what goes in this direction: buffers fill up behind it. */
  stall (direction: Direction): void {
    this.#stalled.add(direction)
    ;(direction === 'toClient' ? this.server : this.client).pause()
  }

  resume (): void {
    this.#stalled.clear()
    this.client.resume()
    this.server.resume()
    this.#pass()
  }

  destroy (): void {
    this.client.destroy()
    this.server.destroy()
    this.#onEnd()
  }

  /** Passes on whole frames, so that a fault comes exactly after one. */
  #pass (): void {
    while (!this.#stalled.has('toClient') && !this.client.destroyed) {
      const length = this.#isPlain ? this.#bytes.length || undefined : this.#isUpgraded ? frameLength(this.#bytes) : headLength(this.#bytes)
      if (length === undefined) return
      const bytes = this.#bytes.subarray(0, length)
      this.#bytes = this.#bytes.subarray(length)
      if (!this.client.writableEnded && !this.client.write(bytes) && !this.server.isPaused()) this.server.pause()
      if (this.#isPlain || !this.#isUpgraded) {
        this.#isUpgraded = true
        continue
      }
      switch (this.#onFrame(bytes.subarray(headerLength(bytes)).toString(), this)) {
        case 'cut': return this.cut()
        case 'halfClose': return this.halfClose('toClient')
        case 'stall': return this.stall('toClient')
      }
    }
  }
}

/** A network on loopback that can be broken: cut, half-closed, stalled in one direction, resumed. Closed with the test. */
export class TcpProxy {
  readonly links = new Set<Link>()
  /** Connections taken so far. */
  accepted = 0
  /** Where new connections lead: a server that is restarted may have another port, and its old one may be somebody else's. */
  port: number
  /** Nobody gets through: a new connection is cut at once. */
  isDown = false
  /** Called for every frame of the server that was passed on. */
  onFrame: (text: string, link: Link) => Fault = () => undefined
  /** Called for what a client says, a request say, before it is passed on: cut, and it never is; stall, and its answer is not. */
  onRequest: (text: string) => Fault = () => undefined
  readonly #server: Server

  private constructor (server: Server, port: number, isPlain: boolean) {
    this.#server = server
    this.port = port
    server.on('connection', (client) => {
      this.accepted++
      if (this.isDown) {
        reset(client)
        return
      }
      const link: Link = new Link(client, connect({ port: this.port, host: '127.0.0.1', allowHalfOpen: true }), isPlain, (text) => this.onRequest(text), (text) => this.onFrame(text, link), () => { this.links.delete(link) })
      this.links.add(link)
    })
  }

  /** @param options.plain any bytes, HTTP say: faults come by hand, not after a frame */
  static async start (t: { teardown (fn: () => unknown): void }, port: number, { plain = false }: { plain?: boolean } = {}): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new TcpProxy(server, port, plain)
    t.teardown(() => proxy.close())
    return proxy
  }

  get url (): string { return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}` }

  cut (): void { for (const link of [...this.links]) link.cut() }
  halfClose (direction: Direction): void { for (const link of this.links) link.halfClose(direction) }
  stall (direction: Direction): void { for (const link of this.links) link.stall(direction) }
  resume (): void { for (const link of this.links) link.resume() }

  async close (): Promise<void> {
    for (const link of [...this.links]) link.destroy()
    if (!this.#server.listening) return
    this.#server.close()
    await once(this.#server, 'close')
  }
}

/** Node ends a socket before it resets it; one that is ending already, or has something left to write, would never get there. */
function reset (socket: Socket): void {
  if (socket.connecting || socket.writableEnded || socket.writableLength > 0) socket.destroy()
  else socket.resetAndDestroy()
}

/** Of the HTTP answer to the upgrade. */
function headLength (bytes: Buffer): number | undefined {
  const end = bytes.indexOf('\r\n\r\n')
  return end < 0 ? undefined : end + 4
}

function headerLength (bytes: Buffer): number {
  const short = bytes[1]! & 0x7f
  return short < 126 ? 2 : short === 126 ? 4 : 10
}

/** Of the first frame, as servers send them: not masked. */
function frameLength (bytes: Buffer): number | undefined {
  if (bytes.length < 2) return undefined
  const header = headerLength(bytes)
  if (bytes.length < header) return undefined
  const payload = header === 2 ? bytes[1]! : header === 4 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2))
  return bytes.length < header + payload ? undefined : header + payload
}
