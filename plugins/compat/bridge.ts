import { AsyncLocalStorage } from 'node:async_hooks'
import type { FastifyInstance } from 'fastify'
import { FAE_ERR_COMPAT_HOST, FAE_ERR_LEGACY_MESSAGE, FAE_ERR_THREAD_NOT_FOUND } from '../../errors.js'
import { FAE_WRN001 } from '../../warnings.js'
import type { LiveRun } from '../agent-registry/index.js'
import { LEGACY_MESSAGE } from './events.js'
import { readMessage, type LegacyMessage, type ReadMessage } from './message.js'
import { isLifecycle, other, translate } from './translate.js'
import { LegacyVoice } from './voice.js'

/** The app that everything here delegates to; any scope of it. */
export type LegacyHost = Pick<FastifyInstance, 'agents' | 'tools' | 'threads' | 'notifier' | 'log'>

/** What came in through the facades since the start, in messages. */
export interface LegacyTraffic {
  /** Became an event of a live run. */
  events: number
  /** Became a custom event of a thread. */
  custom: number
  /** Were left out, because the registry says them itself. */
  swallowed: number
  /** Named another user's run or thread from within a run, and stayed in the run that sent them. */
  misdirected: number
  /** Went to the host's own side, where their run began. */
  diverted: number
  /** Could not be stored; each is in the log with its reason. */
  refused: number
}

/** Whose code is at work: a run of the registry, or one of the host's own side by its id. */
export type Scope = { readonly run: LiveRun } | { readonly legacyRunId: string }

/** What names the receiver of a message: an id that may be a thread's, a run's or a user's; or certainly a user's. */
export interface Target { readonly id?: string | undefined, readonly isUser?: boolean }

/** Takes a message to the host's own side when it belongs there; undefined when not. */
export type Divert = (message: ReadMessage, target: Target, scope: Scope | undefined) => Promise<boolean> | undefined

/** The ids of runs as older code names them that are remembered, newest. */
const MAX_ALIASES = 10_000
/** Whoever holds no run may still have one around: which one, the code's own call tells. */
const scopes = new AsyncLocalStorage<Scope>()
const bridges = new WeakMap<LegacyHost['agents'], LegacyBridge>()

/** Where legacy messages enter: finds the run or thread each belongs to and says it there. One per app. */
export class LegacyBridge {
  readonly host: LegacyHost
  readonly traffic: LegacyTraffic = { events: 0, custom: 0, swallowed: 0, misdirected: 0, diverted: 0, refused: 0 }
  divert: Divert | undefined
  readonly #voices = new WeakMap<LiveRun, LegacyVoice>()
  readonly #aliases = new Map<string, string>()

  /** @throws FAE_ERR_COMPAT_HOST */
  static of (host: LegacyHost): LegacyBridge {
    const agents = host?.agents
    if (agents === undefined || host.notifier === undefined) throw new FAE_ERR_COMPAT_HOST('register the plugin first: await app.register(agentEvents, { … })')
    let bridge = bridges.get(agents)
    if (bridge === undefined) bridges.set(agents, bridge = new LegacyBridge(host))
    return bridge
  }

  private constructor (host: LegacyHost) {
    this.host = host
    try {
      host.notifier.encoder.check('custom', { name: LEGACY_MESSAGE, value: { type: 'any', payload: {} } })
    } catch (error) {
      throw new FAE_ERR_COMPAT_HOST('other legacy messages have no schema. Pass it: events: { ...legacyEvents }', { cause: error })
    }
  }

  /** The scope of the code that asks. */
  get scope (): Scope | undefined { return scopes.getStore() }

  /** Runs code whose messages and tool calls belong to a run. */
  within<T> (scope: Scope, code: () => T): T {
    return scopes.run(scope, code)
  }

  /** Older code will name this run by an id of its own. */
  alias (legacyRunId: string, runId: string): void {
    this.#aliases.delete(legacyRunId)
    this.#aliases.set(legacyRunId, runId)
    if (this.#aliases.size > MAX_ALIASES) this.#aliases.delete(this.#aliases.keys().next().value!)
  }

  /** The live run that this id names: one of the registry's, or one that older code gave. */
  live (id: string | undefined): LiveRun | undefined {
    return id === undefined ? undefined : this.host.agents.live(this.#aliases.get(id) ?? id)
  }

  voice (run: LiveRun): LegacyVoice {
    let voice = this.#voices.get(run)
    if (voice === undefined) this.#voices.set(run, voice = new LegacyVoice(run))
    return voice
  }

  /**
   * Resolves with true once the message is stored or was left out for a reason. Need not be awaited: what is refused is
   * counted and logged.
   * @throws FAE_ERR_LEGACY_MESSAGE, FAE_ERR_THREAD_NOT_FOUND, FAE_ERR_EVENT_INVALID, FAE_ERR_EVENT_TOO_LARGE
   */
  deliver (target: Target, message: unknown, scope = this.scope): Promise<boolean> {
    const delivered = this.#deliver(target, message, scope)
    delivered.catch((error: Error) => {
      this.traffic.refused++
      this.host.log.warn({ err: error, target: target.id, type: (message as Partial<LegacyMessage> | undefined)?.type }, 'legacy message refused')
    })
    return delivered
  }

  async #deliver (target: Target, message: unknown, scope: Scope | undefined): Promise<boolean> {
    const read = readMessage(message)
    const diverted = this.divert?.(read, target, scope)
    if (diverted !== undefined) {
      this.traffic.diverted++
      return diverted
    }
    const own = scope !== undefined && 'run' in scope ? this.host.agents.live(scope.run.runId) : undefined
    const named = this.live(read.runId) ?? (target.isUser === true ? undefined : this.live(target.id))
    if (named !== undefined && (own === undefined || own.user.userId === named.user.userId)) return this.#say(named, read)
    const addressed = read.threadId ?? target.id
    if (own === undefined) {
      // Said after the end of its run: it belongs to that run's thread.
      const isLate = scope !== undefined && 'run' in scope && addressed === undefined
      return this.#elsewhere(isLate ? { id: scope.run.runId } : target, read)
    }
    if (named !== undefined) return this.#misdirected(own, read)
    const isOwn = addressed === undefined || addressed === own.threadId || addressed === own.user.userId || addressed === read.runId
    if (isOwn) return this.#say(own, read)
    if (target.isUser === true) return this.#elsewhere(target, read)
    // Within a run, code that mixes users up must not show one what is another's.
    const thread = await this.#threadOf(target, read)
    if (thread?.threadId === own.threadId) return this.#say(own, read)
    return thread?.userId === own.user.userId ? this.#custom(thread.threadId, read) : this.#misdirected(own, read)
  }

  async #say (run: LiveRun, read: ReadMessage): Promise<boolean> {
    if (!await this.voice(run).say(translate(read))) return this.#swallow(read)
    this.traffic.events++
    return true
  }

  async #misdirected (own: LiveRun, read: ReadMessage): Promise<boolean> {
    this.traffic.misdirected++
    own.log.warn({ type: read.type, named: read.runId ?? read.threadId }, 'legacy message names what is not this user\'s: kept in the run that sent it')
    return this.#say(own, read)
  }

  #swallow ({ type }: ReadMessage): true {
    this.traffic.swallowed++
    if (isLifecycle(type)) FAE_WRN001()
    return true
  }

  /** A message of no live run. */
  async #elsewhere (target: Target, read: ReadMessage): Promise<boolean> {
    if (isLifecycle(read.type) && await this.#wasRun(read.runId ?? target.id)) return this.#swallow(read)
    if (target.isUser === true && target.id !== undefined) {
      await this.host.notifier.sendToUser(target.id, { type: 'custom', data: other(read).data })
      this.traffic.custom++
      return true
    }
    const thread = await this.#threadOf(target, read)
    if (thread !== undefined) return this.#custom(thread.threadId, read)
    if (target.id === undefined && read.threadId === undefined && read.userId !== undefined) return this.#elsewhere({ id: read.userId, isUser: true }, read)
    const unknown = target.id ?? read.threadId ?? read.runId
    throw unknown === undefined ? new FAE_ERR_LEGACY_MESSAGE(`'${read.type}' names none of them`) : new FAE_ERR_THREAD_NOT_FOUND(unknown)
  }

  async #custom (threadId: string, read: ReadMessage): Promise<boolean> {
    await this.host.notifier.sendToThread(threadId, { type: 'custom', data: other(read).data })
    this.traffic.custom++
    return true
  }

  async #wasRun (id: string | undefined): Promise<boolean> {
    return id !== undefined && await this.host.threads.findRun(this.#aliases.get(id) ?? id) !== undefined
  }

  /**
   * The thread of the run that a message names: that is certain. Else, of its other ids, the first that is a registered
   * thread, else the thread of the first that is a run.
   */
  async #threadOf (target: Target, { runId, threadId }: ReadMessage): Promise<{ threadId: string, userId: string } | undefined> {
    const { threads } = this.host
    const run = runId === undefined ? undefined : await threads.findRun(this.#aliases.get(runId) ?? runId)
    if (run !== undefined) return { threadId: run.threadId, userId: run.info.userId }
    const ids = [threadId, target.isUser === true ? undefined : target.id, runId].filter((id) => id !== undefined)
    for (const id of ids) {
      const state = await threads.find(id)
      if (state !== undefined) return { threadId: id, userId: state.record.userId }
    }
    for (const id of ids) {
      const resolved = await threads.resolveRun(this.#aliases.get(id) ?? id).catch(() => undefined)
      const state = resolved === undefined ? undefined : await threads.find(resolved)
      if (state !== undefined) return { threadId: state.record.threadId, userId: state.record.userId }
    }
    return undefined
  }
}

/** What came in through the facades of this app. Zeros everywhere: nothing needs them any more. */
export function legacyTraffic (host: LegacyHost): Readonly<LegacyTraffic> {
  return { ...LegacyBridge.of(host).traffic }
}
