import type { AnyAgent } from '../plugins/agent-registry/define-agent.js'
import { AgentEventsClient } from './client.js'
import type { Client, ClientOptions } from './types.js'

/**
 * A client of one server. It connects when the first thread is listened to, reconnects by itself, and resumes each thread
 * where it was.
 * @template T `typeof agents` of the server, imported as a type: events, tools and results are typed by it
 * @throws AgentEventsError FAE_ERR_OPTION_INVALID, for an url that is none and where there is no WebSocket
 */
export function createClient<T = AnyAgent> (options: ClientOptions): Client<T> {
  return new AgentEventsClient<T>(options)
}

export { AgentEventsError, type ErrorCode } from './client-error.js'
export type { BackoffOptions } from './backoff.js'
export type { TransportName } from './transport.js'
export type {
  AgentEvent,
  AgentInput,
  AgentNamed,
  AgentOutput,
  AgentsOf,
  Client,
  ClientOptions,
  ClientStatus,
  Connected,
  CursorStorage,
  EventMap,
  EventOf,
  FetchLike,
  FetchOptions,
  FetchResponse,
  HeadersOption,
  RunHandle,
  SendOptions,
  Thread,
  ThreadStatus,
  ToolInput,
  ToolOutput,
  ToolsOf,
  WebSocketConstructor,
  WebSocketLike
} from './types.js'
