import type { FastifyInstance } from 'fastify'
import type { Question } from '../plugins/store/index.js'
import type { Connection } from '../plugins/websocket-notifier/connection.js'
import { Subscription } from '../plugins/websocket-notifier/subscription.js'

type What = Extract<Question, { type: 'debug' }>['what']

/** How long other processes may take to answer. */
const ANSWER_MS = 1_000
/** About the most that one process tells another: Redis cuts off who is sent too much at once. */
const ANSWER_BYTES = 4 * 1024 * 1024

interface ThreadRow {
  readonly threadId: string
  readonly connections: readonly string[]
  readonly runs: ReadonlyArray<{ readonly runId: string, readonly agent: string, readonly state: string, readonly ageMs: number, readonly node: string }>
}

interface UserRow {
  readonly userId: string
  readonly connections: Record<string, readonly string[]>
  readonly runs: Record<string, string>
  /** Where each of these connections and runs is. */
  readonly nodes: Record<string, string>
}

interface Rows {
  connections: ReturnType<typeof describeConnection>
  threads: ThreadRow
  mappings: UserRow
}

/** What one process tells of itself. */
interface Told<Row> {
  readonly node: string
  readonly rows: readonly Row[]
  /** Rows that were too many to be told. */
  readonly omitted: number
}

/** Whom a view asked, and what it heard. */
export interface NodeAnswer {
  readonly node: string
  /** false: it is stalled, was gone a moment ago, or shows nobody anything. */
  readonly answered: boolean
  /** Of a silent one: how long ago it last said that it is there. */
  readonly seenMs?: number
  readonly omitted?: number
}

/** What operators see of connections, threads and runs: of every process that shares the store, and who did not answer. */
export class DebugView {
  readonly #app: FastifyInstance

  constructor (app: FastifyInstance) {
    this.#app = app
    app.threads.answer('debug', async ({ what }) => bounded(this.#node, this.#rows(what)))
  }

  async connections () {
    const { rows, ...asked } = await this.#gather('connections')
    return { count: rows.length, ...asked, connections: rows }
  }

  async threads () {
    const { rows, ...asked } = await this.#gather('threads')
    const merged = new Map<string, ThreadRow>()
    for (const row of rows) {
      const known = merged.get(row.threadId)
      merged.set(row.threadId, known === undefined ? row : { ...known, connections: [...known.connections, ...row.connections], runs: [...known.runs, ...row.runs] })
    }
    const threads = await Promise.all([...merged.values()].map(async ({ threadId, connections, runs }) => {
      // While the store is away the rest is still worth seeing.
      const state = await this.#app.threads.find(threadId).catch(() => undefined)
      return { threadId, userId: state?.record.userId, head: state?.head, connections, runs }
    }))
    return { count: threads.length, ...asked, threads }
  }

  async mappings () {
    const { rows, ...asked } = await this.#gather('mappings')
    // User ids are anybody's strings: an object without a prototype has no names of its own.
    const users: Record<string, Omit<UserRow, 'userId'>> = Object.create(null)
    for (const { userId, ...row } of rows) {
      const user = users[userId] ??= { connections: {}, runs: {}, nodes: {} }
      for (const part of ['connections', 'runs', 'nodes'] as const) Object.assign(user[part], row[part])
    }
    return { count: Object.keys(users).length, ...asked, users }
  }

  get #node (): string { return this.#app.threads.store.node }

  /** The rows of every process that answers in time, and which do not. */
  async #gather<W extends What> (what: W): Promise<{ complete: boolean, nodes: NodeAnswer[], rows: Array<Rows[W]> }> {
    const { store } = this.#app.threads
    const [answers, present] = await Promise.all([
      store.ask({ type: 'debug', what }, { timeoutMs: ANSWER_MS, answers: 'all' }) as Promise<Array<Told<Rows[W]>>>,
      store.nodes().catch(() => undefined)
    ])
    const told: Array<Told<Rows[W]>> = [{ node: this.#node, rows: this.#rows(what), omitted: 0 }, ...answers]
    const heard = new Set(told.map(({ node }) => node))
    const silent = (present ?? []).filter(({ node }) => !heard.has(node))
    return {
      complete: present !== undefined && silent.length === 0 && told.every(({ omitted }) => omitted === 0),
      nodes: [
        ...told.map(({ node, omitted }) => ({ node, answered: true, ...(omitted > 0 && { omitted }) })),
        ...silent.map(({ node, seenMs }) => ({ node, answered: false, seenMs }))
      ],
      rows: told.flatMap(({ rows }) => rows)
    }
  }

  #rows<W extends What> (what: W): Array<Rows[W]>
  #rows (what: What): Array<Rows[What]> {
    switch (what) {
      case 'connections': return this.#connectionRows()
      case 'threads': return this.#threadRows()
      case 'mappings': return this.#userRows()
    }
  }

  #connectionRows (): Array<Rows['connections']> {
    const now = Date.now()
    return [...this.#app.notifier.hub.connections.values()].map((connection) => describeConnection(connection, this.#node, now))
  }

  #threadRows (): ThreadRow[] {
    const { feeds } = this.#app.notifier.hub
    const runs = new Map<string, Array<ThreadRow['runs'][number]>>()
    for (const { threadId, runId, agent, state, ageMs } of this.#app.agents.active()) {
      runs.set(threadId, [...runs.get(threadId) ?? [], { runId, agent, state, ageMs, node: this.#node }])
    }
    return [...new Set([...feeds.keys(), ...runs.keys()])].map((threadId) => ({
      threadId,
      connections: [...feeds.get(threadId)?.readers ?? []].flatMap((reader) => reader instanceof Subscription ? [reader.connection.id] : []),
      runs: runs.get(threadId) ?? []
    }))
  }

  #userRows (): UserRow[] {
    const users = new Map<string, UserRow>()
    const rowOf = (userId: string): UserRow => {
      const known = users.get(userId) ?? { userId, connections: {}, runs: {}, nodes: {} }
      users.set(userId, known)
      return known
    }
    for (const { id, user: { userId }, subscriptions } of this.#app.notifier.hub.connections.values()) {
      const row = rowOf(userId)
      row.connections[id] = [...subscriptions.keys()]
      row.nodes[id] = this.#node
    }
    for (const { runId, userId, threadId } of this.#app.agents.active()) {
      const row = rowOf(userId)
      row.runs[runId] = threadId
      row.nodes[runId] = this.#node
    }
    return [...users.values()]
  }
}

function bounded<Row> (node: string, rows: readonly Row[]): Told<Row> {
  let bytes = 0
  const told = rows.filter((row) => (bytes += JSON.stringify(row).length) <= ANSWER_BYTES)
  return { node, rows: told, omitted: rows.length - told.length }
}

function describeConnection ({ id, user, connectedAt, bufferedBytes, delivered, lastAck, lastHeardAt, subscriptions }: Connection, node: string, now: number) {
  return {
    connectionId: id,
    node,
    userId: user.userId,
    ageMs: now - connectedAt,
    lastHeardMs: now - lastHeardAt,
    bufferedBytes,
    delivered,
    lastAck: lastAck === undefined ? null : { threadId: lastAck.threadId, cursor: lastAck.cursor, agoMs: now - lastAck.at },
    threads: [...subscriptions.values()].map(({ threadId, state, seq, acked, feed, cursor }) => ({
      threadId,
      state,
      cursor,
      acked,
      // Events stored and not sent, and events sent and not processed.
      behind: Math.max(0, feed.head - seq),
      unacknowledged: Math.max(0, seq - acked)
    }))
  }
}
