import type { FastifyBaseLogger } from 'fastify'
import { FAE_ERR_BAD_REQUEST, FAE_ERR_RUN_NOT_FOUND, FAE_ERR_THREAD_ID_INVALID, FAE_ERR_THREAD_NOT_FOUND, FAE_ERR_USER_ID_INVALID } from '../../errors.js'
import { isValidId, isValidName, newThreadId, type Thread } from '../../schemas/index.js'
import { ownerOnly, type Action, type Authorize, type Resource } from './authorize.js'
import { checkMetadata } from './metadata.js'
import type { User } from './user.js'
import type { Availability, Question, RunRecord, Store, ThreadRecord, ThreadState } from '../store/index.js'

export interface ThreadRegistryLimits {
  /** Longest thread and user id, in UTF-16 units. @default 100 */
  maxIdLength: number
  /** @default 10_000 */
  maxThreadsPerUser: number
}

export interface RegisterThreadOptions {
  userId: string
  /** Any well-formed string of 1 to maxIdLength characters; one is made when absent. */
  threadId?: string
  /** Who answers here when a message names no agent. */
  agent?: string
  metadata?: Record<string, unknown>
}

/** Called before a thread's log is removed: end what is live in it. */
export type DeleteListener = (threadId: string) => Promise<void>

/** Whose thread is it, and which run belongs to it. Ids are looked up, never parsed for meaning. */
export class ThreadRegistry {
  readonly store: Store
  readonly limits: ThreadRegistryLimits
  readonly #log: FastifyBaseLogger
  readonly #authorize: Authorize
  readonly #beforeDelete: DeleteListener[] = []
  readonly #onAvailability: Array<(availability: Availability) => void> = []
  readonly #answers = new Map<Question['type'], (question: any) => Promise<unknown>>()

  constructor (store: Store, limits: ThreadRegistryLimits, log: FastifyBaseLogger, authorize: Authorize = ownerOnly) {
    this.store = store
    this.#authorize = authorize
    this.limits = limits
    this.#log = log
    store.onAvailability((availability) => {
      this.#log.warn({ store: store.name, ...availability }, !availability.available ? 'store not available' : availability.isImpaired === true ? 'store impaired' : 'store available')
      for (const listener of this.#onAvailability) listener(availability)
    })
    store.onQuestion(async (question) => this.#answers.get(question.type)?.(question))
  }

  onAvailability (listener: (availability: Availability) => void): void {
    this.#onAvailability.push(listener)
  }

  /** How this process answers what others ask; undefined is silence. */
  answer<Type extends Question['type']> (type: Type, handler: (question: Extract<Question, { type: Type }>) => Promise<unknown>): void {
    this.#answers.set(type, handler)
  }

  /**
   * Registers a thread for its user; the same user may do so again.
   * @throws FAE_ERR_THREAD_ID_INVALID, FAE_ERR_USER_ID_INVALID, FAE_ERR_THREAD_LIMIT, FAE_ERR_BAD_REQUEST for its agent or metadata,
   *   FAE_ERR_THREAD_NOT_FOUND when the id is somebody else's: no other answer, so that ids cannot be probed
   */
  async register ({ userId, threadId = newThreadId(), agent, metadata }: RegisterThreadOptions): Promise<Thread & { created: boolean }> {
    this.checkUserId(userId)
    this.checkThreadId(threadId)
    if (agent !== undefined && !isValidName(agent)) throw new FAE_ERR_BAD_REQUEST('A thread\'s agent is the name of one: 1 to 64 letters, digits, _ and -')
    if (metadata !== undefined) checkMetadata(metadata)
    const record: ThreadRecord = {
      threadId,
      userId,
      createdAt: new Date().toISOString(),
      ...(agent !== undefined && { agent }),
      ...(metadata !== undefined && { metadata })
    }
    const state = await this.store.putThread(record, this.limits.maxThreadsPerUser)
    if (state.record.userId !== userId || state.record.inbox === true) throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
    if (state.created) this.#log.info({ threadId, userId }, 'thread registered')
    return { ...describe(state), created: state.created }
  }

  async get (threadId: string): Promise<Thread | undefined> {
    const state = await this.find(threadId)
    return state === undefined ? undefined : describe(state)
  }

  /** By thread id, ascending, without the inbox. @param options.limit at most 1,000, default 100 */
  async list ({ userId, after, limit = 100 }: { userId: string, after?: string, limit?: number }): Promise<Thread[]> {
    const states = await this.store.listThreads(userId, { limit: Math.min(limit, 1_000), ...(after !== undefined && { after }) })
    return states.map(describe)
  }

  /** Ends the live runs, tells who is watching, removes the log. False when there was no such thread. */
  async delete (threadId: string): Promise<boolean> {
    const state = await this.find(threadId)
    if (state === undefined || state.record.inbox === true) return false
    for (const listener of this.#beforeDelete) await listener(threadId)
    const deleted = await this.store.deleteThread(threadId)
    if (deleted) this.#log.info({ threadId, userId: state.record.userId }, 'thread deleted')
    return deleted
  }

  onDelete (listener: DeleteListener): void {
    this.#beforeDelete.push(listener)
  }

  /** The thread a run belongs to. @throws FAE_ERR_RUN_NOT_FOUND */
  async resolveRun (runId: string): Promise<string> {
    const threadId = (await this.findRun(runId))?.threadId ?? await this.#threadNamedIn(runId)
    if (threadId === undefined) throw new FAE_ERR_RUN_NOT_FOUND(runId)
    return threadId
  }

  async findRun (runId: string): Promise<RunRecord | undefined> {
    return isValidId(runId, 2 * this.limits.maxIdLength) ? this.store.getRun(runId) : undefined
  }

  /** The stored record, with its owner; for code that decides who may do what. */
  async find (threadId: string): Promise<ThreadState | undefined> {
    return isValidId(threadId, this.limits.maxIdLength) ? this.store.getThread(threadId) : undefined
  }

  /** The thread if the user may do that with it, else the answer for one that does not exist. @throws FAE_ERR_THREAD_NOT_FOUND */
  async access (user: User, action: Action, threadId: string, runId?: string): Promise<ThreadState> {
    const state = await this.find(threadId)
    const may = await this.#may(user, action, state, runId)
    if (state === undefined || !may) throw new FAE_ERR_THREAD_NOT_FOUND(threadId)
    return state
  }

  /** The same as a question. */
  async may (user: User, action: Action, threadId: string, runId?: string): Promise<boolean> {
    return this.#may(user, action, await this.find(threadId), runId)
  }

  /** Whether the user may see the debug endpoints. */
  async mayDebug (user: User): Promise<boolean> {
    return this.#ask(user, 'debug', { threadId: '', ownerId: '' })
  }

  /** A thread that does not exist takes the same way as one that is somebody else's: not even the order of answers tells them apart. */
  async #may (user: User, action: Action, state: ThreadState | undefined, runId?: string): Promise<boolean> {
    if (state === undefined) return this.#ask(user, action, undefined)
    const { threadId, userId, metadata } = state.record
    return this.#ask(user, action, { threadId, ownerId: userId, ...(runId !== undefined && { runId }), ...(metadata !== undefined && { metadata }) })
  }

  async #ask (user: User, action: Action, resource: Resource | undefined): Promise<boolean> {
    try {
      return await (resource === undefined ? false : this.#authorize(user, action, resource)) === true
    } catch (error) {
      this.#log.warn({ err: error, userId: user.userId, action, threadId: resource?.threadId }, 'authorize failed')
      return false
    }
  }

  /** The user's own thread: for sendToUser and for runs without a thread. */
  async inbox (userId: string): Promise<ThreadState> {
    this.checkUserId(userId)
    return this.store.inbox(userId)
  }

  checkUserId (userId: unknown): void {
    if (!isValidId(userId, this.limits.maxIdLength)) throw new FAE_ERR_USER_ID_INVALID(this.limits.maxIdLength)
  }

  checkThreadId (threadId: unknown): void {
    if (!isValidId(threadId, this.limits.maxIdLength)) throw new FAE_ERR_THREAD_ID_INVALID(this.limits.maxIdLength)
  }

  /** Ids minted elsewhere as `<thread>_run_<…>` name their thread; it counts only if that thread is registered. */
  async #threadNamedIn (runId: string): Promise<string | undefined> {
    for (let at = runId.lastIndexOf('_run_'); at > 0; at = runId.lastIndexOf('_run_', at - 1)) {
      const state = await this.find(runId.slice(0, at))
      if (state !== undefined) return state.record.threadId
    }
    return undefined
  }
}

function describe ({ record: { threadId, createdAt, agent, metadata }, epoch, head }: ThreadState): Thread {
  return {
    threadId,
    epoch,
    head,
    createdAt,
    ...(agent !== undefined && { agent }),
    ...(metadata !== undefined && { metadata: metadata as Record<string, unknown> })
  }
}
