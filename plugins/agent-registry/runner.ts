import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { FAE_ERR_NOTIFIER_MISSING, FAE_ERR_RUN_UNREACHABLE, FAE_ERR_SERVER_CLOSING } from '../../errors.js'
import { newRunId, type RunStatus } from '../../schemas/index.js'
import type { Appended, RunInfo, RunRecord } from '../store/index.js'
import type { ThreadRegistry } from '../thread-registry/thread-registry.js'
import type { User } from '../thread-registry/user.js'
import type { ToolDispatcher } from '../tool-dispatcher/tool-dispatcher.js'
import type { Tracing } from '../tool-dispatcher/tracing.js'
import { toJson } from '../websocket-notifier/encode.js'
import type { WebSocketNotifier } from '../websocket-notifier/notifier.js'
import { createContext } from './context.js'
import type { AnyAgent } from './define-agent.js'
import { checkInput, type AgentDefinitions, type Registered } from './definitions.js'
import { endLost, endUnbegun, startedData } from './ownerless.js'
import { Run } from './run.js'
import { RunTable } from './run-table.js'

export interface RunnerLimits {
  /** For agents that name no timeoutMs of their own. @default 600_000 */
  readonly runTimeoutMs: number
  /** After so long an agent that was created and never executed is ended as timeout. @default 60_000 */
  readonly createdTimeoutMs: number
  /** Runs of one user that may be live or waiting. @default 1_000 */
  readonly runsPerUser: number
  /** How long pieces of streamed text are gathered into one event; 0 turns it off. @default 30 */
  readonly coalesceMs: number
  /** How long live runs may go on when the app closes. @default 5_000 */
  readonly closeGraceMs: number
  /** How long a run waits for a process that knows its agent before it ends as error. @default 30_000 */
  readonly unknownAgentMs: number
}

/** How long other processes have to answer. */
const ANSWER_MS = 2_000
/** How often a run without a known agent looks again. */
const LOOK_AGAIN_MS = 1_000
const MAX_UNSETTLED = 10_000
/** What append says when somebody else was first. */
const TAKEN = new Set(['FAE_ERR_RUN_STALE', 'FAE_ERR_RUN_ENDED', 'FAE_ERR_RUN_NOT_FOUND', 'FAE_ERR_THREAD_NOT_FOUND'])

/** Starts runs, begins what waited, takes over what was left behind, and cleans up after all of them. */
export class Runner {
  readonly runs = new RunTable()
  readonly #threads: ThreadRegistry
  readonly #definitions: AgentDefinitions
  readonly #tools: ToolDispatcher
  readonly #limits: RunnerLimits
  readonly #log: FastifyBaseLogger
  readonly #tracing: Tracing | undefined
  /** Runs whose thread nobody watches any more, and that end when that stays so. */
  readonly #left = new Map<Run, NodeJS.Timeout>()
  /** Runs that are ours to begin and whose agent is not known here. */
  readonly #waiting = new Set<string>()
  /** Threads that are being deleted: what begins in them ends at once. */
  readonly #deleting = new Set<string>()
  #notifier: WebSocketNotifier | undefined
  /** Runs that may have been stored without a reply. */
  readonly #unsettled = new Map<string, (record: RunRecord) => void>()
  #settleTimer: NodeJS.Timeout | undefined
  #isClosing = false

  constructor (threads: ThreadRegistry, definitions: AgentDefinitions, tools: ToolDispatcher, limits: RunnerLimits, log: FastifyBaseLogger, tracing?: Tracing) {
    this.#tracing = tracing
    this.#threads = threads
    this.#definitions = definitions
    this.#tools = tools
    this.#limits = limits
    this.#log = log
    threads.onDelete((threadId) => this.#endRunsIn(threadId, 'the thread was deleted'))
    threads.answer('end-runs', ({ threadId, reason }) => this.#endRunsHere(threadId, reason))
    threads.answer('cancel', async ({ runId, reason }) => {
      const run = this.runs.get(runId)
      return run === undefined ? undefined : run.cancel(reason).then(() => true)
    })
    threads.answer('queued', async ({ threadId }) => {
      const next = this.#isClosing ? undefined : await threads.store.claimNext(threadId)
      if (next !== undefined) this.begin(next, userOf(next.info))
    })
    threads.answer('start', ({ runId }) => this.#takeOver(runId))
    threads.store.onOrphan((record) => { this.#adopt(record) })
  }

  get maxRuns (): number { return this.#limits.runsPerUser }

  /** @throws FAE_ERR_NOTIFIER_MISSING: a run that nobody could see is refused */
  get notifier (): WebSocketNotifier {
    if (this.#notifier === undefined) throw new FAE_ERR_NOTIFIER_MISSING()
    return this.#notifier
  }

  /** Called once. */
  setNotifier (notifier: WebSocketNotifier): void {
    this.#notifier = notifier
    notifier.hub.feeds.onWatchers((threadId, watched) => { this.#watched(threadId, watched) })
  }

  /** Ends a run of any process; false when it has ended already. @throws FAE_ERR_RUN_UNREACHABLE */
  async cancel (runId: string, reason: string): Promise<boolean> {
    const run = this.runs.get(runId)
    if (run !== undefined) {
      await run.cancel(reason)
      return true
    }
    const record = await this.#threads.findRun(runId)
    if (record?.state === 'queued' || (record !== undefined && this.#waiting.has(runId))) {
      const error = { code: 'FAE_ERR_RUN_CANCELLED', message: `cancelled before it began: ${reason}` }
      try {
        this.#continue(await endUnbegun(this.notifier, record, 'cancelled', { reason, error }), 'cancelled')
      } catch (error) {
        if (!TAKEN.has((error as { code?: string }).code ?? '')) throw error
        // Its turn came meanwhile, or somebody else ended it.
        this.#waiting.delete(runId)
        return this.cancel(runId, reason)
      }
    } else if (record?.state === 'running') {
      const [answer] = await this.#threads.store.ask({ type: 'cancel', runId, reason }, { timeoutMs: ANSWER_MS, answers: 'first' })
      if (answer === true) return true
      // The reply that makes it ours may have come meanwhile.
      const late = this.runs.get(runId)
      if (late === undefined) throw new FAE_ERR_RUN_UNREACHABLE(runId)
      await late.cancel(reason)
    } else {
      return false
    }
    return true
  }

  /** Ends what a newer message interrupts. That message is stored: it waits for whoever does not answer. */
  async interrupt (runIds: readonly string[]): Promise<void> {
    for (const runId of runIds) {
      try {
        await this.cancel(runId, 'interrupted by a newer message')
      } catch (error) {
        this.#log.warn({ err: error, runId }, 'run was not interrupted')
      }
    }
  }

  /** No run begins any more once the app closes. @throws FAE_ERR_SERVER_CLOSING */
  assertOpen (): void {
    if (this.#isClosing) throw new FAE_ERR_SERVER_CLOSING()
  }

  /** Stores a new run with its agent_started. @throws FAE_ERR_RUN_LIMIT, FAE_ERR_NOTIFIER_MISSING, FAE_ERR_SERVER_CLOSING */
  async start ({ agent, checkInput, checkOutput }: Registered, threadId: string, { user, context, trigger, parent }: {
    user: User, context: Readonly<Record<string, unknown>>, trigger: RunInfo['trigger'], parent?: Run
  }): Promise<Run> {
    const notifier = this.notifier
    // A live run may still call others while it has its grace.
    if (parent === undefined) this.assertOpen()
    const info = { ...newRunInfo(agent, user, trigger), ...(parent !== undefined && { parentRunId: parent.runId }) }
    const runId = newRunId()
    const scope = { threadId, runId, agentId: info.agentId, ...(parent !== undefined && { parentRunId: parent.runId }) }
    const start = { runId, info, started: true, maxRuns: this.#limits.runsPerUser, mode: 'now' as const }
    const open = (record: RunRecord): Run => this.#open({ agent, checkInput, checkOutput }, record, { user, context, ...(parent !== undefined && { parent }), events: 1 })
    const appended = await this.settled(runId, notifier.startRun(scope, startedData(info, agent.version), start), (stored) => {
      open(stored).cancel('its start was not confirmed in time').catch(() => {})
    })
    return open(appended.run!)
  }

  /**
   * An append that creates a run, whose reply may be lost with the store: what was stored all the same is not left
   * without an agent.
   * @param onStored called when the store answers again and has the run
   */
  async settled (runId: string, starting: Promise<Appended>, onStored: (record: RunRecord) => void): Promise<Appended> {
    try {
      return await starting
    } catch (error) {
      if ((error as { code?: string }).code === 'FAE_ERR_STORE_UNAVAILABLE' && this.#unsettled.size < MAX_UNSETTLED) {
        this.#unsettled.set(runId, onStored)
        this.#settleTimer ??= setInterval(() => { this.#settle().catch(() => {}) }, LOOK_AGAIN_MS).unref()
      }
      throw error
    }
  }

  async #settle (): Promise<void> {
    for (const [runId, onStored] of this.#unsettled) {
      // Rejects while the store is away: the next tick tries again.
      const record = await this.#threads.store.getRun(runId)
      if (this.#unsettled.delete(runId) && record !== undefined && this.runs.get(runId) === undefined) onStored(record)
    }
    if (this.#unsettled.size > 0) return
    clearInterval(this.#settleTimer)
    this.#settleTimer = undefined
  }

  /** A stored run whose turn it is: its agent starts here, now. */
  begin (record: RunRecord, user: User, takesOver = false): void {
    this.#beginNow(record, user, takesOver).catch((error: Error & { code?: string }) => {
      const { runId, threadId } = record
      if (TAKEN.has(error.code ?? '')) this.#log.info({ err: error, runId, threadId }, 'run is somebody else\'s')
      else this.#log.error({ err: error, runId, threadId }, 'run did not begin')
    })
  }

  async #beginNow (record: RunRecord, user: User, takesOver: boolean): Promise<void> {
    const registered = this.#definitions.get(record.info.agent)
    if (registered === undefined) return this.#awaitAgent(record, takesOver)
    const run = this.#open(registered, takesOver ? { ...record, fence: record.fence + 1 } : record, { user, context: {}, events: 0 })
    const { onDisconnect } = registered.agent
    // It waited for its turn, and whoever sent it may have left meanwhile.
    if (record.fence > 1 && onDisconnect !== 'continue' && !this.notifier.hub.feeds.isWatched(record.threadId)) this.#leave(run, onDisconnect.cancelAfterMs)
    await run.begin(startedData(record.info, registered.agent.version), takesOver)
    if (this.#isClosing) return run.cancel('the server is shutting down')
    if (this.#deleting.has(record.threadId)) return run.cancel('the thread was deleted')
    // How it ended is in the log, where everybody can see it.
    await run.execute(JSON.parse(record.info.input ?? 'null')).catch(() => {})
  }

  /** A run of ours whose agent we do not know: another process may, or a later register(); in the end it ends as error. */
  async #awaitAgent (record: RunRecord, takesOver: boolean): Promise<void> {
    const { runId, info } = record
    const { agent } = info
    const deadline = Date.now() + this.#limits.unknownAgentMs
    this.#waiting.add(runId)
    try {
      while (Date.now() < deadline) {
        const [answer] = await this.#threads.store.ask({ type: 'start', runId }, { timeoutMs: ANSWER_MS, answers: 'first' })
        if (answer === true) return
        await new Promise((resolve) => { setTimeout(resolve, Math.min(LOOK_AGAIN_MS, this.#limits.unknownAgentMs)).unref() })
        // It has never begun: whoever adopts it next starts it.
        if (this.#isClosing) return
        if (this.#definitions.get(agent) !== undefined) return this.#beginNow(record, userOf(info), takesOver)
      }
      const { code, message } = this.#definitions.unknown(agent)
      this.#continue(await endUnbegun(this.notifier, record, 'error', { error: { code, message } }, takesOver), 'error')
    } finally {
      this.#waiting.delete(runId)
    }
  }

  /** Another process owns this run and does not know its agent. */
  async #takeOver (runId: string): Promise<true | undefined> {
    const record = await this.#threads.findRun(runId)
    if (record === undefined || record.state !== 'running' || record.firstSeq > 0 || this.#isClosing || this.#definitions.get(record.info.agent) === undefined) return undefined
    if (this.runs.get(runId) === undefined) this.begin(record, userOf(record.info), true)
    return true
  }

  /** A run whose process is gone: it is started if it never was, else it ends as lost. */
  #adopt (record: RunRecord): void {
    if (this.#isClosing || this.runs.get(record.runId) !== undefined || this.#waiting.has(record.runId)) return
    if (record.firstSeq === 0) {
      this.begin(record, userOf(record.info), true)
      return
    }
    const { runId, threadId } = record
    endLost(this.#threads.store, this.notifier, record).then((appended) => {
      this.#log.warn({ runId, threadId }, 'run lost: its process is gone')
      this.#continue(appended, 'lost')
    }).catch((error: Error & { code?: string }) => {
      // The store tells of it again while nobody has taken it over.
      if (!TAKEN.has(error.code ?? '')) this.#log.error({ err: error, runId, threadId }, 'lost run was not ended')
    })
  }

  #open ({ agent, checkInput, checkOutput }: Registered, record: RunRecord, { user, context, parent, events }: {
    user: User, context: Readonly<Record<string, unknown>>, parent?: Run, events: number
  }): Run {
    const { threadId, runId, info, fence, n } = record
    const ids = { threadId, runId, agentId: info.agentId }
    const log = this.#log.child({ threadId, runId, agentId: info.agentId, userId: user.userId })
    const run: Run = new Run({
      definition: agent,
      ids,
      messageId: info.messageId,
      user,
      context: Object.freeze({ ...context }),
      startedAt: info.startedAt,
      firstSeq: record.firstSeq,
      ...(parent !== undefined && { parent }),
      span: this.#tracing?.startRun({ agent: agent.name, description: agent.description, version: agent.version, ...ids }, parent?.span),
      log,
      checkInput,
      checkOutput,
      createdTimeoutMs: this.#limits.createdTimeoutMs,
      timeoutMs: agent.timeoutMs ?? this.#limits.runTimeoutMs,
      makeContext: (self) => createContext(self, {
        store: this.#threads.store,
        tools: this.#tools,
        coalesceMs: this.#limits.coalesceMs,
        callAgent: (caller, child, input) => this.#callAgent(caller, child, input)
      }),
      openWriter: (onFailed) => this.notifier.openRun({ ...ids, ...(parent !== undefined && { parentRunId: parent.runId }), fence, n, agent: agent.name, events }, onFailed),
      onEnd: (ended, appended) => { this.#ended(ended, appended) }
    })
    this.runs.add(run)
    log.info({ agent: agent.name, trigger: info.trigger }, 'run started')
    return run
  }

  async #callAgent (parent: Run, agent: AnyAgent, input: unknown): Promise<unknown> {
    const registered = this.#definitions.find(agent)
    checkInput(registered, input)
    // What the parent said before the call stands before what the child says.
    parent.writer.flush()
    await parent.writer.whenStored()
    const run = await parent.startChild(() => this.start(registered, parent.threadId, { user: parent.user, context: parent.context, trigger: 'agent', parent }))
    return run.execute(input)
  }

  #ended (run: Run, appended: Appended | undefined): void {
    this.runs.delete(run)
    this.#stay(run)
    run.log.info({ agent: run.agent, status: run.state }, 'run ended')
    if (appended !== undefined) this.#continue(appended, run.state as RunStatus)
  }

  /** A run has ended; whoever ended it has claimed the thread's next one. */
  #continue ({ next }: Appended, status: RunStatus): void {
    this.notifier.stats.runs[status]++
    if (next === undefined) return
    const begin = (): void => { this.begin(next, userOf(next.info)) }
    if (this.#tracing === undefined) begin()
    else this.#tracing.detached(begin)
  }

  async #endRunsIn (threadId: string, reason: string): Promise<void> {
    await Promise.all([
      this.#endRunsHere(threadId, reason),
      this.#threads.store.ask({ type: 'end-runs', threadId, reason }, { timeoutMs: ANSWER_MS, answers: 'all' })
    ])
    // What came while the others were asked.
    await this.#endRunsHere(threadId, reason)
  }

  async #endRunsHere (threadId: string, reason: string): Promise<true> {
    this.#deleting.add(threadId)
    try {
      await this.#endAll(() => this.runs.inThread(threadId), reason)
    } finally {
      this.#deleting.delete(threadId)
    }
    return true
  }

  /** The end of one run may begin the thread's next: until none is left. */
  async #endAll (live: () => readonly Run[], reason: string): Promise<void> {
    for (let runs = live(); runs.length > 0; runs = live()) await Promise.all(runs.map((run) => run.cancel(reason)))
  }

  /** The first watcher of a thread came, or the last one here left. */
  #watched (threadId: string, watched: boolean): void {
    for (const run of this.runs.inThread(threadId)) {
      if (watched) this.#stay(run)
      else if (run.definition.onDisconnect !== 'continue') this.#leave(run, run.definition.onDisconnect.cancelAfterMs)
    }
  }

  #leave (run: Run, cancelAfterMs: number): void {
    this.#stay(run)
    this.#left.set(run, setTimeout(() => { this.#cancelIfLeft(run).catch(() => {}) }, cancelAfterMs))
  }

  #stay (run: Run): void {
    clearTimeout(this.#left.get(run))
    this.#left.delete(run)
  }

  async #cancelIfLeft (run: Run): Promise<void> {
    const answers = await this.#threads.store.ask({ type: 'watched', threadId: run.threadId }, { timeoutMs: ANSWER_MS, answers: 'first' })
    if (!this.#left.has(run) || run.definition.onDisconnect === 'continue') return
    if (answers.length === 0) await run.cancel('nobody is watching any more')
    // Somebody watches at another process, which does not tell us when they leave.
    else this.#leave(run, run.definition.onDisconnect.cancelAfterMs)
  }

  /** Gives live runs a grace, then ends them; bounded, also when the store does not answer. No run begins any more. Idempotent. */
  async close (): Promise<void> {
    this.#isClosing = true
    clearInterval(this.#settleTimer)
    const deadline = Date.now() + this.#limits.closeGraceMs
    while (this.runs.size > 0 && Date.now() < deadline) await new Promise((resolve) => { setTimeout(resolve, 10) })
    let timer: NodeJS.Timeout | undefined
    const givesUp = new Promise<void>((resolve) => { timer = setTimeout(resolve, ANSWER_MS) })
    await Promise.race([this.#endAll(() => this.runs.all(), 'the server is shutting down'), givesUp])
    clearTimeout(timer)
    if (this.runs.size > 0) this.#log.error({ runs: this.runs.size }, 'the store did not take the end of runs: they end as lost')
  }
}

/** What any process must know of a run to start or end it. */
export function newRunInfo (agent: AnyAgent, user: User, trigger: RunInfo['trigger']): RunInfo {
  const { userId } = user
  return {
    userId,
    ...(Object.keys(user).length > 1 && { user: toJson(user) }),
    agent: agent.name,
    agentId: `${userId}:${agent.name}:${randomUUID()}`,
    messageId: `msg_${randomUUID()}`,
    trigger,
    startedAt: Date.now()
  }
}

/** Who asked for a run that waited: with the host's own fields, as far as JSON can say them. */
function userOf ({ userId, user }: RunInfo): User {
  return user === undefined ? { userId } : JSON.parse(user) as User
}
