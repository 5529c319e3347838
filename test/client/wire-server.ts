import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer, type WebSocket } from 'ws'
import { formatCursor, parseCursor, type AgentEvent, type AckFrame, type ClientFrame, type EventType, type SendFrame, type ServerFrame, type SubscribeFrame } from '../../schemas/index.js'

export const EPOCH = 'k3xw9q00aaaa'

/** One socket of the server, with all that it was sent. */
export interface Peer {
  readonly socket: WebSocket
  readonly request: IncomingMessage
  readonly frames: ClientFrame[]
  /** seq of the last event sent, by subscribed thread. */
  readonly subscriptions: Map<string, number>
  closeCode: number | undefined
  /** Nothing is said any more, as if the network had swallowed it. */
  isSilent: boolean
  say (frame: ServerFrame | AgentEvent): void
}

interface Log { epoch: string, first: number, events: AgentEvent[] }

/**
 * The other side of the wire, as small as it can be: logs in memory, one cursor per subscription. Its faults are on purpose
 * and are switched on by the tests.
 */
export class WireServer {
  readonly peers: Peer[] = []
  readonly logs = new Map<string, Log>()
  /** clientMessageId to run id. */
  readonly runs = new Map<string, string>()
  heartbeatMs = 60_000
  maxPayload = 65_536
  /** Asked first; true means that nothing more is done about the frame. */
  intercept: (peer: Peer, frame: ClientFrame) => boolean = () => false
  /** Asked first; true means that nothing more is said to the peer. */
  greet: (peer: Peer) => boolean = () => false
  /** May replace or drop (undefined) an event on its way out. */
  onWay: (event: AgentEvent, peer: Peer) => AgentEvent | undefined = (event) => event
  readonly #server: WebSocketServer

  private constructor (server: WebSocketServer) {
    this.#server = server
    server.on('connection', (socket, request) => { this.#accept(socket, request) })
  }

  static async start (): Promise<WireServer> {
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols: (protocols) => protocols.has('agent-events.v1') && 'agent-events.v1' })
    await once(server, 'listening')
    return new WireServer(server)
  }

  get url (): string { return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}` }
  get frames (): ClientFrame[] { return this.peers.flatMap((peer) => peer.frames) }
  get acks (): AckFrame[] { return this.frames.filter((frame) => frame.type === 'ack') }

  async close (): Promise<void> {
    for (const { socket } of this.peers) socket.terminate()
    this.#server.close()
    await once(this.#server, 'close')
  }

  log (threadId: string): Log {
    let log = this.logs.get(threadId)
    if (log === undefined) this.logs.set(threadId, log = { epoch: EPOCH, first: 1, events: [] })
    return log
  }

  append (threadId: string, type: EventType, data: object, runId?: string): AgentEvent {
    const log = this.log(threadId)
    const seq = log.first + log.events.length
    const event = { v: 1, id: formatCursor(log.epoch, seq), seq, type, threadId, ...(runId !== undefined && { runId }), timestamp: '2026-01-01T12:00:00.000Z', data } as AgentEvent
    log.events.push(event)
    for (const peer of this.peers) this.pump(peer, threadId)
    return event
  }

  /** A custom event whose value is its number. */
  count (threadId: string, times = 1): void {
    for (let i = 0; i < times; i++) this.append(threadId, 'custom', { name: 'count', value: this.log(threadId).first + this.log(threadId).events.length })
  }

  /** Sends what the subscription has not had. */
  pump (peer: Peer, threadId: string): void {
    const { first, events } = this.log(threadId)
    for (;;) {
      const seq = peer.subscriptions.get(threadId)
      const event = seq === undefined ? undefined : events[seq + 1 - first]
      if (event === undefined || peer.socket.readyState !== peer.socket.OPEN) return
      peer.subscriptions.set(threadId, event.seq)
      const outgoing = this.onWay(event, peer)
      if (outgoing !== undefined) peer.say(outgoing)
    }
  }

  subscribe (peer: Peer, { ref, threadId, cursor }: SubscribeFrame): void {
    const { epoch, first, events } = this.log(threadId)
    const asked = cursor === undefined ? undefined : parseCursor(cursor)!
    const head = first + events.length - 1
    const recovered = asked === undefined ? first === 1 : asked.epoch === epoch && asked.seq >= first - 1 && asked.seq <= head
    const from = recovered && asked ? asked.seq : first - 1
    peer.subscriptions.set(threadId, from)
    peer.say({ type: 'subscribed', ...(ref !== undefined && { ref }), threadId, cursor: formatCursor(epoch, from), head, recovered })
    this.pump(peer, threadId)
  }

  /** Another history: what was there is gone, and whoever is subscribed is told. */
  restart (threadId: string, epoch: string, events: number): void {
    this.logs.set(threadId, { epoch, first: 1, events: [] })
    for (const peer of this.peers) {
      const isSubscribed = peer.subscriptions.delete(threadId)
      if (isSubscribed) this.subscribe(peer, { type: 'subscribe', threadId, cursor: formatCursor('000000000000', 1) })
    }
    this.count(threadId, events)
  }

  accept (peer: Peer, { ref, threadId, content, clientMessageId = ref }: SendFrame): string {
    let runId = this.runs.get(clientMessageId)
    if (runId === undefined) {
      runId = `run_${this.runs.size + 1}`
      this.runs.set(clientMessageId, runId)
      this.append(threadId, 'user_message', { messageId: runId, clientMessageId, content }, runId)
    }
    peer.say({ type: 'accepted', ref, threadId, runId, cursor: this.log(threadId).events.at(-1)!.id })
    return runId
  }

  complete (threadId: string, runId: string, outcome: object = { status: 'success', result: { answer: 42 } }): void {
    this.append(threadId, 'agent_completed', { agent: 'triage', durationMs: 1, counts: { events: 1, tools: 0 }, firstSeq: 1, ...outcome }, runId)
  }

  #accept (socket: WebSocket, request: IncomingMessage): void {
    const peer: Peer = {
      socket,
      request,
      frames: [],
      subscriptions: new Map(),
      closeCode: undefined,
      isSilent: false,
      say: (frame) => { if (!peer.isSilent) socket.send(JSON.stringify(frame)) }
    }
    this.peers.push(peer)
    socket.on('message', (text) => { this.#handle(peer, JSON.parse(String(text))) })
    socket.on('close', (code) => { peer.closeCode = code; peer.subscriptions.clear() })
    if (this.greet(peer)) return
    peer.say({ type: 'connected', connectionId: `c${this.peers.length}`, userId: 'u', inbox: 'inbox_1', heartbeatMs: this.heartbeatMs, maxPayload: this.maxPayload, mode: 'realtime' })
  }

  #handle (peer: Peer, frame: ClientFrame): void {
    peer.frames.push(frame)
    if (this.intercept(peer, frame)) return
    switch (frame.type) {
      case 'subscribe': return this.subscribe(peer, frame)
      case 'unsubscribe':
        peer.subscriptions.delete(frame.threadId)
        return peer.say({ type: 'unsubscribed', ...(frame.ref !== undefined && { ref: frame.ref }), threadId: frame.threadId, reason: 'asked' })
      case 'send': this.accept(peer, frame)
    }
  }
}
