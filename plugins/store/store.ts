import type { Position, RunStatus } from '../../schemas/index.js'

/*
 * What is remembered, and the promises every room behind this contract keeps. One conformance suite proves them.
 *
 *  - seq is 1, 2, 3 … per thread without gaps, given in the same atomic step that stores the event.
 *  - An append is all or nothing and idempotent: by run and n for a run, by key for what comes from outside.
 *  - Whatever a promise here resolved with survives what the room survives (memory: nothing; lmdb: the process; redis: the node).
 */

/** Owner and state of a thread; the authority on whose thread it is. */
export interface ThreadRecord {
  readonly threadId: string
  readonly userId: string
  /** ISO 8601. */
  readonly createdAt: string
  /** The user's own thread, made by the store and never registered, claimed or deleted by id. */
  readonly inbox?: true
  /** Who answers here when a message names nobody. */
  readonly agent?: string
  readonly metadata?: Readonly<Record<string, unknown>>
}

/** One history of a log: it began with the event `from`. */
export interface Epoch { readonly epoch: string, readonly from: number }

export interface ThreadState {
  readonly record: ThreadRecord
  readonly epoch: string
  /** seq of the newest event, 0 before the first. */
  readonly head: number
}

/** One stored event: `json` is the whole event as it goes on the wire, id and seq in front. */
export interface Entry {
  readonly seq: number
  readonly json: string
  /** Where a store in this process keeps it as the WebSocket frame it leaves as: then json is read from there each time it is asked for. */
  readonly framed?: Framed
}

/** A place that is written once and never again. */
export interface Framed { readonly buffer: Buffer, readonly start: number, readonly end: number }

export interface Page {
  /** In order, without gaps, beginning after the seq asked for or, where that is trimmed, at `first`. */
  readonly entries: readonly Entry[]
  readonly head: number
  /** seq of the oldest retained event; head + 1 when none is retained. */
  readonly first: number
  /** Oldest to newest, at most 16; the last one is current. */
  readonly epochs: readonly Epoch[]
}

/** What another process must know of a run to start it or to end it. Opaque to the store. */
export interface RunInfo {
  readonly userId: string
  /** JSON of who asked, where a host has given them more than a userId. */
  readonly user?: string
  readonly agent: string
  readonly agentId: string
  /** messageId of the answer to come. */
  readonly messageId: string
  readonly trigger: 'user_message' | 'api' | 'agent' | 'retry'
  readonly parentRunId?: string
  readonly parentToolCallId?: string
  /** JSON of the agent's input, for runs that may wait in a queue. */
  readonly input?: string
  /** Milliseconds since the epoch on the clock of the node that started it; for people. */
  readonly startedAt: number
}

export type RunState = 'queued' | 'running' | RunStatus

export interface RunRecord {
  readonly runId: string
  readonly threadId: string
  readonly state: RunState
  /** Raised whenever another owner takes the run; an append with an older one is refused. */
  readonly fence: number
  /** Number of the last append call; the call that created the record was 1. */
  readonly n: number
  /** seq of its agent_started; 0 while it has none. */
  readonly firstSeq: number
  readonly lastSeq: number
  /** What is open, by id; the value is opaque and says how to close it. */
  readonly open: Readonly<Record<string, string>>
  readonly info: RunInfo
}

export interface RunStart {
  readonly runId: string
  readonly info: RunInfo
  /** The bodies hold the run's agent_started; otherwise they hold the message it will answer. */
  readonly started: boolean
  /** Most runs of this user that may be live or waiting. @throws FAE_ERR_RUN_LIMIT */
  readonly maxRuns: number
  /** 'now': running at once. 'enqueue': queued while a root run is live in the thread. 'reject': refused then (FAE_ERR_THREAD_BUSY). */
  readonly mode: 'now' | 'enqueue' | 'reject'
}

export interface RunStep {
  readonly runId: string
  readonly fence: number
  readonly n: number
  /** The bodies hold the run's agent_started, as the first of them. */
  readonly starts?: boolean
  /**
   * fence is one above the record's and n the next: this process becomes the owner in the same step. Of several
   * processes that try, one succeeds and the others get FAE_ERR_RUN_STALE.
   */
  readonly takesOver?: boolean
  readonly opens?: ReadonlyArray<readonly [id: string, item: string]>
  readonly closes?: readonly string[]
  /** The thread's oldest queued run becomes this process's in the same step: see Appended.next. */
  readonly ends?: RunStatus
}

export interface AppendOptions {
  /** Makes an append from outside idempotent for as long as its event is retained. */
  readonly key?: string
  readonly start?: RunStart
  readonly run?: RunStep
}

export interface Appended {
  readonly first: Position
  readonly last: Position
  /** This call, or one with its key, was stored before; nothing new was. */
  readonly repeated?: true
  /** With `start`: the run as it was created; with a repeated key: the run of the first call. */
  readonly run?: RunRecord
  /** With `start`: the root runs that were live or waiting in the thread before it, oldest first. */
  readonly before?: readonly string[]
  /**
   * With `ends`: the queued run that is now this process's to start. A repeat of the call hands it out again while that
   * run has not begun: the reply that was lost may have carried it.
   */
  readonly next?: RunRecord
}

export interface Watcher {
  /** Every event appended anywhere, in order and without gaps since the last call; after a gap it may begin before what was read. */
  events (entries: readonly Entry[]): void
  /** Something may have been missed, or the epoch changed: read from where you are. */
  gap (): void
  /** The thread is deleted; nothing follows. */
  deleted (): void
}

export interface Retention {
  /** @default 10_000 */
  readonly maxEvents: number
  /** Per thread. @default 8 MiB */
  readonly maxBytes: number
  /** @default 7 days */
  readonly maxAgeMs: number
  /** How long record, position and tombstone outlive the last event. @default 30 days */
  readonly positionMs: number
}

export const defaultRetention: Retention = {
  maxEvents: 10_000,
  maxBytes: 8 * 1024 * 1024,
  maxAgeMs: 7 * 24 * 3_600_000,
  positionMs: 30 * 24 * 3_600_000
}

/** Most events, and about the most bytes, that one read returns. */
export const PAGE_EVENTS = 1_000
export const PAGE_BYTES = 256 * 1024
/** How many epochs a thread remembers. */
export const EPOCHS = 16
/** How many queued runs may wait in one thread. */
export const MAX_WAITING_RUNS = 100

/** What one process asks of the others. */
export type Question =
  /** End this run if it is yours: true. */
  | { readonly type: 'cancel', readonly runId: string, readonly reason: string }
  /** End your runs in this thread, before it is deleted: true. */
  | { readonly type: 'end-runs', readonly threadId: string, readonly reason: string }
  /** Has a connection of the user processed this? true as soon as one has. */
  | { readonly type: 'confirmed', readonly threadId: string, readonly cursor: string, readonly timeoutMs: number }
  /** Ask again whether this user may read what their connections follow, and cut what they may not. No answer. */
  | { readonly type: 'recheck', readonly userId: string }
  /** You may have missed what others asked. Asked of a process by its own store. No answer. */
  | { readonly type: 'missed' }
  /** Does anybody watch this thread at your place? true or undefined. */
  | { readonly type: 'watched', readonly threadId: string }
  /** This run is mine and I do not know its agent: take it over and start it if you do: true. */
  | { readonly type: 'start', readonly runId: string }
  /** A run waits in this thread and nobody has claimed it: claim it if you know its agent. No answer. */
  | { readonly type: 'queued', readonly threadId: string }
  /** What debug endpoints show of your connections, threads or mappings. */
  | { readonly type: 'debug', readonly what: 'connections' | 'threads' | 'mappings' }

export interface Availability {
  readonly available: boolean
  /** Available, but some calls fail, such as all writes to a full Redis, or those to a part of a Cluster. They are tried all the same. */
  readonly isImpaired?: true
  /** For operators and users: why not. */
  readonly reason: string
}

/** A process that shares the data. */
export interface Presence {
  readonly node: string
  /** How long ago it last said that it is there. */
  readonly seenMs: number
}

export interface Store {
  /** 'memory', 'lmdb' or 'redis'. */
  readonly name: string
  /** Names this process among all that share the data: host, process id and something of its own. */
  readonly node: string
  /** While not available every call rejects with FAE_ERR_STORE_UNAVAILABLE, or waits in order, bounded. */
  readonly availability: Availability
  /** Called on every change. One listener. */
  onAvailability (listener: (availability: Availability) => void): void
  /**
   * Asks every other process that shares the data. Resolves with the answers that came: the first one, or all until the
   * deadline. Silence is no answer; it rejects only where none is wanted.
   * @throws FAE_ERR_STORE_UNAVAILABLE with 'none', when the others could not be told
   */
  ask (question: Question, options: { timeoutMs: number, answers: 'none' | 'first' | 'all' }): Promise<readonly unknown[]>
  /** Every process that shares the data and was there within the last minute; closed ones are not. @throws FAE_ERR_STORE_UNAVAILABLE */
  nodes (): Promise<readonly Presence[]>
  /** Answers for this process; undefined is silence. One handler. */
  onQuestion (handler: (question: Question) => Promise<unknown>): void
  open (): Promise<void>
  /** Idempotent; closes only what open() created. */
  close (): Promise<void>

  /**
   * Stores the record if the id is free, else answers with what is there: the caller compares the owner.
   * A tombstone counts as its late owner's thread: that user may register the id again, with a new epoch.
   * @throws FAE_ERR_THREAD_LIMIT over `maxThreads` of this user
   */
  putThread (record: ThreadRecord, maxThreads?: number): Promise<ThreadState & { created: boolean }>
  getThread (threadId: string): Promise<ThreadState | undefined>
  /** The user's inbox thread, made on first use. */
  inbox (userId: string): Promise<ThreadState>
  /** By thread id, ascending; without the inbox. */
  listThreads (userId: string, options: { after?: string, limit: number }): Promise<readonly ThreadState[]>
  /** Removes log, runs and record, leaves a tombstone, tells every watcher. False when there was nothing. */
  deleteThread (threadId: string): Promise<boolean>

  /**
   * Appends all bodies (at least one; JSON objects without id and seq) or none.
   * @throws FAE_ERR_THREAD_NOT_FOUND, FAE_ERR_THREAD_BUSY, FAE_ERR_RUN_QUEUE_FULL, FAE_ERR_RUN_EXISTS, FAE_ERR_RUN_NOT_FOUND, FAE_ERR_RUN_STALE, FAE_ERR_RUN_ENDED, FAE_ERR_RUN_HOLE
   */
  append (threadId: string, bodies: readonly string[], options?: AppendOptions): Promise<Appended>
  /** One consistent page. @throws FAE_ERR_THREAD_NOT_FOUND */
  read (threadId: string, afterSeq: number, limit?: number): Promise<Page>
  /** Resolves with the function that ends it once it is live. @throws FAE_ERR_THREAD_NOT_FOUND */
  watch (threadId: string, watcher: Watcher): Promise<() => void>

  getRun (runId: string): Promise<RunRecord | undefined>
  /** Keeps a one-time ticket for so long, for every process that shares the data. */
  putTicket (ticket: string, value: string, ttlMs: number): Promise<void>
  /** Answers once; undefined for one that is unknown, used or too old. */
  takeTicket (ticket: string): Promise<string | undefined>
  /** Makes the thread's oldest queued run this process's, if no root run is running there. */
  claimNext (threadId: string): Promise<RunRecord | undefined>
  /**
   * Calls back with every run whose owner is gone, also with one that never began (firstSeq 0), until somebody has taken
   * it over. The first takesOver wins, the others get FAE_ERR_RUN_STALE. One listener.
   */
  onOrphan (listener: (run: RunRecord) => void): void
}
