import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import { FAE_ERR_BAD_REQUEST, FAE_ERR_EVENT_TOO_LARGE, FAE_ERR_NOTIFIER_SET, FAE_ERR_RUN_NOT_FOUND } from '../../errors.js'
import { formatCursor, newRunId, type AgentInfo, type MessageAccepted, type MessageContent, type RunInfo } from '../../schemas/index.js'
import type { RunStart } from '../store/index.js'
import type { ThreadRegistry } from '../thread-registry/thread-registry.js'
import type { User } from '../thread-registry/user.js'
import type { ToolDispatcher } from '../tool-dispatcher/tool-dispatcher.js'
import type { Tracing } from '../tool-dispatcher/tracing.js'
import { toJson } from '../websocket-notifier/encode.js'
import type { WebSocketNotifier } from '../websocket-notifier/notifier.js'
import { textOf } from './conversation.js'
import type { AgentInstance, AnyAgent, CreateOptions, InputOf, OutputOf } from './define-agent.js'
import { AgentDefinitions, checkInput } from './definitions.js'
import { drawRegistry } from './mermaid.js'
import type { Run } from './run.js'
import { Runner, newRunInfo, type RunnerLimits } from './runner.js'

/** A run that has begun and not ended, as code outside its agent may speak for it: through the one writer it has. */
export type LiveRun = Pick<Run, 'ids' | 'runId' | 'threadId' | 'agent' | 'messageId' | 'user' | 'log' | 'writer' | 'calls' | 'signal' | 'partId'>

export interface SendMessage {
  readonly user: User
  readonly threadId: string
  readonly content?: MessageContent
  /** The agent's input as it is, instead of one made from content. */
  readonly input?: unknown
  /** @default the thread's, else the app's default agent */
  readonly agent?: string
  /** The same one twice in a thread starts one run. */
  readonly clientMessageId?: string
}

/** Agent definitions, live agents, tools, user contexts and the notifier meet here and nowhere else. */
export class MasterAgentRegistry {
  /** All tools of the app: the same table as app.tools. */
  readonly tools: ToolDispatcher
  readonly #threads: ThreadRegistry
  readonly #definitions: AgentDefinitions
  readonly #runner: Runner
  #notifier: WebSocketNotifier | undefined

  constructor (threads: ThreadRegistry, tools: ToolDispatcher, limits: RunnerLimits, log: FastifyBaseLogger, defaultAgent?: string, tracing?: Tracing) {
    this.#threads = threads
    this.tools = tools
    this.#definitions = new AgentDefinitions(tools, defaultAgent)
    this.#runner = new Runner(threads, this.#definitions, tools, limits, log, tracing)
  }

  /**
   * Every run's events go through it, and from now on every tool call of every agent is wrapped.
   * @throws FAE_ERR_NOTIFIER_SET when another one is set
   */
  setNotifier (notifier: WebSocketNotifier): void {
    if (this.#notifier === notifier) return
    if (this.#notifier !== undefined) throw new FAE_ERR_NOTIFIER_SET()
    this.tools.setNotifier(notifier)
    this.#notifier = notifier
    this.#runner.setNotifier(notifier)
  }

  /**
   * Registers a definition with the tools and agents it lists; the same object may come again.
   * @throws FAE_ERR_AGENT_DUPLICATE, FAE_ERR_TOOL_DUPLICATE for another object of a known name
   */
  register (agent: AnyAgent): void {
    this.#definitions.register(agent)
  }

  list (): AgentInfo[] {
    return this.#definitions.list()
  }

  /** How many runs are live in this process. */
  get liveRuns (): number { return this.#runner.runs.size }

  /** The live runs of this process, oldest first. */
  active ({ userId }: { userId?: string } = {}): RunInfo[] {
    const runs = userId === undefined ? this.#runner.runs.all() : this.#runner.runs.ofUser(userId)
    return runs.map((run) => run.describe())
  }

  /**
   * A live run of this process, for code that brings in events from elsewhere, like the facades in compat. Undefined
   * when it has ended, is not known or lives in another process.
   */
  live (runId: string): LiveRun | undefined {
    const run = this.#runner.runs.get(runId)
    return run?.isLive === true ? run : undefined
  }

  /** Agents, tools, notifier and store as a Mermaid flowchart. */
  mermaid (): string {
    return drawRegistry(this.#threads.store.name, this.list(), this.tools.list())
  }

  /**
   * Creates an agent for a user and emits its agent_started; execute() emits the rest.
   * @throws FAE_ERR_AGENT_NOT_FOUND that lists the known ones, FAE_ERR_THREAD_NOT_FOUND, FAE_ERR_USER_ID_INVALID, FAE_ERR_NOTIFIER_MISSING
   */
  createForUser<const A extends AnyAgent> (agent: A, options: CreateOptions): Promise<AgentInstance<InputOf<A>, OutputOf<A>>>
  createForUser (agent: string, options: CreateOptions): Promise<AgentInstance<unknown, unknown>>
  async createForUser (agent: AnyAgent | string, options: CreateOptions): Promise<AgentInstance<any, any>> {
    const { userId, threadId, user = { userId } } = options
    if (user.userId !== userId) throw new FAE_ERR_BAD_REQUEST('The options userId and user.userId name different users')
    const registered = this.#definitions.find(agent)
    const state = threadId === undefined ? await this.#threads.inbox(userId) : await this.#threads.access(user, 'send', threadId)
    return this.#runner.start(registered, state.record.threadId, {
      user,
      context: options.context ?? {},
      trigger: 'api'
    })
  }

  /** createForUser and execute in one. Rejects as both do. */
  run<const A extends AnyAgent> (agent: A, options: CreateOptions & { input: InputOf<A> }): Promise<OutputOf<A>>
  run (agent: string, options: CreateOptions & { input?: unknown }): Promise<unknown>
  async run (agent: AnyAgent | string, { input, ...options }: CreateOptions & { input?: unknown }): Promise<any> {
    const registered = this.#definitions.find(agent)
    checkInput(registered, input)
    const instance = await this.createForUser(registered.agent, options)
    return instance.execute(input as never)
  }

  /**
   * A user says something and an agent answers: message and run are stored in one step, then the run begins or waits
   * for its turn.
   * @throws FAE_ERR_THREAD_NOT_FOUND, FAE_ERR_AGENT_NOT_FOUND, FAE_ERR_AGENT_INPUT, FAE_ERR_THREAD_BUSY, FAE_ERR_RUN_LIMIT
   */
  async send ({ user, threadId, content, input: given, agent: name, clientMessageId }: SendMessage): Promise<MessageAccepted> {
    const notifier = this.#runner.notifier
    this.#runner.assertOpen()
    const { record } = await this.#threads.access(user, 'send', threadId)
    const registered = this.#definitions.find(name ?? record.agent ?? this.#definitions.default)
    const { agent } = registered
    const said = content ?? toJson(given)
    const input: unknown = given ?? agent.fromMessage({ content: said, text: textOf(said) })
    checkInput(registered, input)
    const inputJson = toJson(input)
    // What came from outside is bounded like every event; what the agent's own fromMessage makes is its own affair.
    const inputBytes = given === undefined ? 0 : Buffer.byteLength(inputJson)
    if (inputBytes > notifier.encoder.maxEventBytes) throw new FAE_ERR_EVENT_TOO_LARGE('agent_started', inputBytes, notifier.encoder.maxEventBytes)
    const runId = newRunId()
    const start: RunStart = {
      runId,
      started: false,
      maxRuns: this.#runner.maxRuns,
      mode: agent.concurrency === 'reject' ? 'reject' : agent.concurrency === 'parallel' ? 'now' : 'enqueue',
      info: { ...newRunInfo(agent, user, 'user_message'), input: inputJson }
    }
    const message = { messageId: `msg_${randomUUID()}`, content: said, ...(clientMessageId !== undefined && { clientMessageId }) }
    const appended = await this.#runner.settled(runId, notifier.sendMessageWithRun(threadId, message, start), (stored) => {
      if (stored.state === 'running') this.#runner.begin(stored, user)
    })
    const run = appended.run
    if (appended.repeated !== true && run !== undefined) {
      if (agent.concurrency === 'interrupt') await this.#runner.interrupt(appended.before ?? [])
      if (run.state === 'running') this.#runner.begin(run, user)
    }
    const { epoch, seq } = appended.first
    return {
      threadId,
      runId: run?.runId ?? runId,
      cursor: formatCursor(epoch, seq),
      // Who reads on from there or from later would wait for it in vain.
      ...(run !== undefined && run.state !== 'queued' && run.state !== 'running' && { ended: formatCursor(epoch, run.lastSeq) })
    }
  }

  /**
   * Ends a run as cancelled, wherever it is in its life and on whichever node; false and without effect when it has ended.
   * @throws FAE_ERR_RUN_NOT_FOUND, FAE_ERR_RUN_UNREACHABLE
   */
  async cancel (runId: string, { reason = 'cancelled', user }: { reason?: string, user?: User } = {}): Promise<boolean> {
    const record = await this.#threads.findRun(runId)
    if (record === undefined || (user !== undefined && !await this.#threads.may(user, 'cancel', record.threadId, runId))) throw new FAE_ERR_RUN_NOT_FOUND(runId)
    return this.#runner.cancel(runId, reason)
  }

  /** Gives live runs a grace, then ends them. No run begins any more. Idempotent. */
  close (): Promise<void> {
    return this.#runner.close()
  }
}
