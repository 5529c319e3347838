import type { AgentEvent, ConnectedFrame, PingFrame, ServerFrame } from '../schemas/index.js'
import type { Waking } from './wake.js'

export type TransportName = 'websocket' | 'sse' | 'polling'

/** What arrives for the client: frames and events, told apart by `type`. */
export type Incoming = Exclude<ServerFrame, PingFrame> | AgentEvent

/** What a transport tells its client. */
export interface TransportHandlers {
  onFrame (frame: Incoming): void
  /** Once, when the connection is gone without close() having been called. */
  onLost (code: number, reason: string): void
  /** Something arrived that is not a frame. */
  onGarbage (error: Error): void
}

/** One connection to the server, from its opening to its end. A lost one is replaced, never reopened. */
export interface Transport {
  readonly name: TransportName
  /** What the server said first; undefined until then. */
  readonly connected: ConnectedFrame | undefined
  /** One frame as JSON text. */
  send (text: string): void
  /**
   * Looks whether the peer has been silent for too long; gives the connection up if so.
   * @param why online: what was asked without a network may never be answered; offline: the peer is asked for a sign of life
   */
  check (why?: Waking): void
  /** Says goodbye; resolves when everything is freed, within a second. Handlers are not called any more. */
  close (): Promise<void>
}
