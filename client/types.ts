import type { Static, TSchema } from '@sinclair/typebox'
import type { Agent, AnyAgent } from '../plugins/agent-registry/define-agent.js'
import type { AnyTool, Tool } from '../plugins/tool-dispatcher/define-tool.js'
import type { AgentEvent as StoredEvent, ConnectedFrame, EventData, EventType, Failure, Json, MessageContent, RunStatus, ToolPhase, ToolStatus } from '../schemas/index.js'
import type { BackoffOptions } from './backoff.js'
import type { AgentEventsError } from './client-error.js'
import type { TransportName } from './transport.js'

/*
 * What a frontend sees, inferred from the types of the server's definitions: T is `typeof agent`, or `typeof agents` (an
 * array, a tuple or a record). Only types are imported, so that nothing of the server reaches the bundle.
 */

// ---------- what the definitions say ----------

type ListOf<T> = T extends AnyAgent ? T : T extends readonly (infer A)[] ? Extract<A, AnyAgent> : T extends Record<string, infer A> ? Extract<A, AnyAgent> : never
type WithChildren<A> = A extends Agent<any, any, any, any, infer C> ? A | (C extends readonly [] ? never : Extract<C[number], AnyAgent>) : never
/** An output as it arrives: nothing returned arrives as nothing. */
type Received<Output> = 0 extends 1 & Output ? any : Json<Output> | (undefined extends Output ? undefined : never)

/** The agents, and those that they call. */
export type AgentsOf<T> = WithChildren<ListOf<T>>
/** The tools of all these agents. */
export type ToolsOf<T> = AgentsOf<T> extends infer A ? A extends Agent<any, any, any, infer Tools, any> ? Tools[number] : never : never
export type ToolInput<T> = T extends Tool<string, infer Input extends TSchema, any> ? Json<Static<Input>> : never
export type ToolOutput<T> = T extends Tool<string, any, infer Output> ? Received<Awaited<Output>> : never
export type AgentInput<T> = T extends Agent<string, infer Input extends TSchema, any, any, any> ? Json<Static<Input>> : never
export type AgentOutput<T> = T extends Agent<string, any, infer Output, any, any> ? Received<Awaited<Output>> : never
/** The agent of a name; any agent where no names are known. */
export type AgentNamed<T, Name> = string extends AgentsOf<T>['name'] ? AnyAgent : Extract<AgentsOf<T>, { name: Name }>

// ---------- events ----------

type Envelope<Type extends EventType, Data = EventData<Type>> = Readonly<Omit<Extract<StoredEvent, { type: Type }>, 'data'>> & { readonly data: Data }

type ToolExecuting<T> = T extends AnyTool
  ? Omit<EventData<'tool_executing'>, 'tool' | 'phase' | 'args' | 'argsText'> & { tool: T['name'] } & (
    | { phase: 'start', args: ToolInput<T>, argsText?: undefined }
    | { phase: 'input_delta', argsText: string, args?: undefined }
    | { phase: Exclude<ToolPhase, 'start' | 'input_delta'>, args?: undefined, argsText?: undefined })
  : never
type ToolCompleted<T> = T extends AnyTool
  ? Omit<EventData<'tool_completed'>, 'tool' | 'status' | 'output' | 'error'> & { tool: T['name'] } & (
    | { status: 'ok', output: ToolOutput<T>, error?: undefined }
    | { status: Exclude<ToolStatus, 'ok'>, error: Failure, output?: undefined })
  : never
type AgentCompleted<A> = A extends AnyAgent
  ? Omit<EventData<'agent_completed'>, 'agent' | 'status' | 'result' | 'error' | 'reason'> & { agent: A['name'] } & (
    | { status: 'success', result: AgentOutput<A>, error?: undefined, reason?: undefined }
    | { status: 'cancelled', error?: Failure, reason?: string, result?: undefined }
    | { status: Exclude<RunStatus, 'success' | 'cancelled'>, error: Failure, result?: undefined, reason?: undefined })
  : never

/**
 * Each event type's event, narrowed by `agent`, `tool`, `phase` and `status`. Only the phase `start` of a tool_executing has
 * the arguments: keep them by toolCallId. An output with `truncated` beside it is a string, the beginning of its JSON.
 */
export interface EventMap<T = AnyAgent> {
  user_message: Envelope<'user_message'>
  agent_started: Envelope<'agent_started', Omit<EventData<'agent_started'>, 'agent'> & { agent: AgentsOf<T>['name'] }>
  agent_thinking: Envelope<'agent_thinking'>
  tool_executing: Envelope<'tool_executing', ToolExecuting<ToolsOf<T>>>
  tool_completed: Envelope<'tool_completed', ToolCompleted<ToolsOf<T>>>
  assistant_message: Envelope<'assistant_message'>
  agent_completed: Envelope<'agent_completed', AgentCompleted<AgentsOf<T>>>
  custom: Envelope<'custom'>
}
export type EventOf<Type extends EventType, T = AnyAgent> = EventMap<T>[Type]
export type AgentEvent<T = AnyAgent> = EventMap<T>[EventType]

// ---------- runs ----------

export interface RunHandle<Output, Completed = EventOf<'agent_completed'>> {
  readonly runId: string
  /**
   * The run's agent_completed, as soon as it has arrived: also while handlers of earlier events are still at work, so that
   * awaiting it inside a handler is safe. It stays pending as long as nobody knows how the run ended; it rejects when the
   * thread or the client is closed before, and with FAE_ERR_RUN_ENDED when an earlier page sent the message and the end lies
   * before the kept cursor.
   */
  readonly completed: Promise<Completed>
  /** What the agent returned. Rejects with an AgentEventsError that has the code of the failure if it did not succeed. */
  result (): Promise<Output>
  /** Asks for the run's end; resolves when it has ended, also if that was long ago. */
  cancel (): Promise<void>
}

export interface SendOptions<Name, Input> {
  /** Who shall answer. @default the thread's agent, else the app's default agent */
  readonly agent?: Name | undefined
  /** The agent's input, instead of what would be made of the content. */
  readonly input?: Input | undefined
  /** The same one twice starts one run. @default a new one */
  readonly clientMessageId?: string | undefined
}

// ---------- threads ----------

/**
 * idle: nobody has asked for events yet; connecting: the connection is being made; replaying: what happened before is on its
 * way; live: up to date; degraded: up to date, but events do not arrive in real time; offline: waiting for the next attempt;
 * closed: nothing will come any more, see the error.
 */
export type ThreadStatus = 'idle' | 'connecting' | 'replaying' | 'live' | 'degraded' | 'offline' | 'closed'

/**
 * One thread's events, in order and each once. An event's listeners have all settled before the next event is handed out;
 * one that throws or rejects is reported (see onHandlerError) and counts as done. The first listener, iteration or send
 * subscribes; events that arrive while nobody listens wait for the next listener.
 */
export interface Thread<T = AnyAgent> extends AsyncIterable<AgentEvent<T>> {
  readonly id: string
  readonly status: ThreadStatus
  /** The position up to which events are processed; undefined before the first answer of the server, unless one was kept. */
  readonly cursor: string | undefined
  /** False if events from before the first one handed out are no longer retained. */
  readonly complete: boolean
  /** @returns removes the listener */
  on<Type extends EventType> (type: Type, listener: (event: EventMap<T>[Type]) => unknown): () => void
  /** Also gets events of types that this version does not know. @returns removes the listener */
  onAny (listener: (event: AgentEvent<T>) => unknown): () => void
  /**
   * The place in the log is lost: drop the state that was built from this thread's events. Everything retained follows.
   * In order with the events, and awaited like them.
   */
  onReset (listener: () => unknown): () => void
  /** Coded errors of this thread. Without a listener they go to the client's, and without one there to onHandlerError. */
  onError (listener: (error: AgentEventsError) => unknown): () => void
  onStatus (listener: (status: ThreadStatus) => unknown): () => void
  /**
   * Says something, and starts a run with it. An unanswered send is sent again after a reconnect; it starts one run all the same.
   * @param content may be undefined if options.input is given
   * @throws AgentEventsError with the server's code, FAE_ERR_EVENT_TOO_LARGE, or FAE_ERR_CLIENT_CLOSED
   */
  send<Name extends AgentsOf<T>['name']> (content: MessageContent | undefined, options?: SendOptions<Name, AgentInput<AgentNamed<T, Name>>>): Promise<RunHandle<AgentOutput<AgentNamed<T, Name>>, EventOf<'agent_completed', T>>>
  /** Asks for a run's end; resolves when it has ended. @throws AgentEventsError with the server's code */
  cancel (runId: string): Promise<void>
  /**
   * Makes sure that who begins to listen now gets everything retained: if some of it was handed out before, all of it comes
   * again, to every listener, after a reset.
   */
  replay (): void
  /** Closes the thread if nobody listens, iterates or waits for a run. @returns whether it is closed */
  release (): boolean
  /** Acknowledges what is processed, unsubscribes and frees everything. The client then makes a new object for the id. */
  close (): void
}

// ---------- the client ----------

/** idle: not needed yet; the others as of a thread. */
export type ClientStatus = Exclude<ThreadStatus, 'replaying'>

/** Who and where this connection is. Over HTTP connectionId is empty and maxPayload Infinity: the server says what is too large. */
export type Connected = Readonly<Omit<ConnectedFrame, 'type'>>

/** One connection, shared by all its threads. */
export interface Client<T = AnyAgent> {
  readonly status: ClientStatus
  /** Why the status is closed, if close() was not called. */
  readonly error: AgentEventsError | undefined
  /** What the server said when the connection began; undefined while there is none. `inbox` is the id of the user's own thread. */
  readonly connected: Connected | undefined
  /** How events arrive now; undefined while there is no connection. */
  readonly transport: TransportName | undefined
  /** Connects, if no thread has done so, and waits until it has worked. @throws AgentEventsError when the client is closed */
  connect (): Promise<Connected>
  /** The same object for the same id, until it is closed. */
  thread (id: string): Thread<T>
  onStatus (listener: (status: ClientStatus) => unknown): () => void
  /** Coded errors that no thread has a listener for. */
  onError (listener: (error: AgentEventsError) => unknown): () => void
  /** Acknowledges what is processed and frees everything: socket, timers, listeners. Idempotent. */
  close (): Promise<void>
}

/** What the client needs of a WebSocket; a browser's and ws's both fit. */
export interface WebSocketLike {
  readonly readyState: number
  onmessage: ((event: never) => unknown) | null
  onclose: ((event: never) => unknown) | null
  onerror: ((event: never) => unknown) | null
  send (data: string): void
  close (code?: number, reason?: string): void
  terminate? (): void
}
export type WebSocketConstructor = new (url: string, protocols: string, options?: { headers: Record<string, string> }) => WebSocketLike

/** What the client needs of fetch. */
export interface FetchOptions {
  readonly method: string
  readonly headers: Record<string, string>
  readonly signal: AbortSignal
  readonly cache: 'no-store'
  body?: string
}
export interface FetchResponse {
  readonly ok: boolean
  readonly status: number
  readonly headers: { get (name: string): string | null }
  readonly body: { getReader (): { read (): Promise<{ done: boolean, value?: Uint8Array | undefined }> } } | null
  json (): Promise<unknown>
}
export type FetchLike = (url: string, options: FetchOptions) => Promise<FetchResponse>

export type HeadersOption = Readonly<Record<string, string>> | (() => Readonly<Record<string, string>> | Promise<Readonly<Record<string, string>>>)

/** What the client needs of localStorage. */
export interface CursorStorage {
  getItem (key: string): string | null
  setItem (key: string, value: string): void
  removeItem (key: string): void
}

export interface ClientOptions {
  /** Where the server is: 'https://host/agent-events', or in a page also '/agent-events'. */
  readonly url: string
  /** Added to the address of every connection. */
  readonly query?: Readonly<Record<string, string>> | undefined
  /**
   * Sent with every request; a function is asked before each, and again when the server did not accept them. A browser's
   * WebSocket cannot send headers: it shows a one-time ticket that was fetched with them. A constructor passed as option
   * `WebSocket` gets them as ws takes them.
   */
  readonly headers?: HeadersOption | undefined
  /**
   * auto: a WebSocket; where none can be opened, server-sent events; where those do not arrive, polling; and back up as
   * soon as it can be. The others never change. @default 'auto'
   */
  readonly transport?: 'auto' | TransportName | undefined
  /**
   * Keeps each thread's cursor across page loads: localStorage, sessionStorage or the like. A thread then goes on after the
   * last event whose handlers had settled when the page went away, or a few events before: at least once.
   * @default a new client begins at the start
   */
  readonly storage?: CursorStorage | undefined
  /** Instead of the global one: to send cookies to another origin, say. @default globalThis.fetch */
  readonly fetch?: FetchLike | undefined
  /** Needed where there is no global one: Node before 22. @default globalThis.WebSocket */
  readonly WebSocket?: WebSocketConstructor | undefined
  /** Delays between attempts to connect; those to get back to a better transport are 20 times as long. */
  readonly backoff?: BackoffOptions | undefined
  /** Milliseconds; how long the server may take to open a connection. @default 10_000 */
  readonly connectTimeoutMs?: number | undefined
  /** Milliseconds over which acknowledgements are gathered. @default 250 */
  readonly ackMs?: number | undefined
  /** Events of one thread that wait for slow listeners in memory; the rest waits on the server. @default 1_000 */
  readonly maxQueuedEvents?: number | undefined
  /** What a listener threw (with the event, if it got one), and errors that nobody listens for. @default console.error */
  readonly onHandlerError?: ((error: unknown, event?: AgentEvent) => void) | undefined
}
