import { randomUUID } from 'node:crypto'
import { FAE_ERR_OPTION_INVALID } from '../../errors.js'
import type { MaybePromise } from '../tool-dispatcher/define-tool.js'
import { LegacyBridge, type LegacyHost, type Scope, type Target } from './bridge.js'
import { createForLegacy, type LegacyCreateContext } from './instance-factory.js'
import { readMessage, type LegacyMessage, type ReadMessage } from './message.js'
import { ShadowRun, type Difference } from './shadow.js'
import { asNotified, readArguments, type LegacyArguments } from './websocket-manager.js'

/** Off, on, or a gradual rollout. Read at each creation; a function that throws means off, and is logged. */
export type UseMasterRegistry = boolean | ((who: { readonly userId: string | undefined, readonly agent: string | undefined }) => boolean)

/** An agent that the host's own registry has made. */
export interface LegacyInstance {
  /** How the legacy side names the run. @default the context's */
  readonly runId?: string
  execute (input: unknown): unknown
}

/** The host's own side, as it is. */
export interface LegacySide {
  /** Makes an agent in the host's own registry. context.runId is always given. */
  create (agent: string, context: Partial<LegacyCreateContext> & { readonly runId: string }): MaybePromise<LegacyInstance>
  /** Sends with the host's own manager. target is undefined when the message alone says where it goes. */
  send (target: string | undefined, message: LegacyMessage): unknown
}

export interface RegistrySwitchOptions {
  legacy: LegacySide
  /** @default false */
  useMasterRegistry?: UseMasterRegistry
  /** Runs of the legacy side are also judged by the master's rules; nothing runs twice and nothing is stored. @default false */
  shadow?: boolean
  /** Called for each difference that the shadow sees. @default they are kept in `differences` and logged */
  onDifference? (difference: Difference): void
}

export interface SwitchedAgent {
  readonly side: 'master' | 'legacy'
  readonly runId: string
  execute (input?: unknown): Promise<unknown>
}

interface LegacyRun { readonly runId: string, readonly shadow: ShadowRun | undefined }

/** Runs of the legacy side whose late messages are still theirs, and differences that are kept; newest. */
const KEPT = 10_000

/** Lets an app use its own registry or the master, at run time and back; a run ends on the side on which it began. */
export class RegistrySwitch {
  /** What the shadow saw, newest last, at most 10,000. */
  readonly differences: Difference[] = []
  useMasterRegistry: UseMasterRegistry
  shadow: boolean
  readonly #bridge: LegacyBridge
  readonly #legacy: LegacySide
  readonly #onDifference: ((difference: Difference) => void) | undefined
  readonly #runs = new Map<string, LegacyRun>()

  /** @throws FAE_ERR_OPTION_INVALID, FAE_ERR_COMPAT_HOST */
  constructor (host: LegacyHost, { legacy, useMasterRegistry = false, shadow = false, onDifference }: RegistrySwitchOptions) {
    if (typeof legacy?.create !== 'function' || typeof legacy.send !== 'function') throw new FAE_ERR_OPTION_INVALID('legacy', 'expected an object with create() and send()')
    if (typeof useMasterRegistry !== 'boolean' && typeof useMasterRegistry !== 'function') throw new FAE_ERR_OPTION_INVALID('useMasterRegistry', 'expected a boolean or a function')
    this.#bridge = LegacyBridge.of(host)
    this.#legacy = legacy
    this.useMasterRegistry = useMasterRegistry
    this.shadow = shadow
    this.#onDifference = onDifference
    // Whatever is sent through the facades within a legacy run goes where that run began.
    this.#bridge.divert = (read, target, scope) => {
      const run = this.#legacyRunOf(read, target, scope)
      return run === undefined ? undefined : this.#sendLegacy(run, read, target)
    }
  }

  /** Creates an agent on the side that the flag names now. Rejects as that side does. */
  async create (agent: string, context: Partial<LegacyCreateContext>): Promise<SwitchedAgent> {
    const userId = context.userId ?? context.user_id
    if (this.#isOn(userId, agent)) {
      const instance = await createForLegacy(this.#bridge.host, agent, context)
      return { side: 'master', runId: context.runId ?? context.run_id ?? instance.runId, execute: (input) => instance.execute(input) }
    }
    return this.#createLegacy(agent, context)
  }

  /** Takes what a legacy manager takes, and is given to legacy agents instead of it. A run's message goes to the run's side, any other to the user's. */
  sendMessage (...args: LegacyArguments): Promise<boolean> { return this.#send(args, false) }
  send_message (...args: LegacyArguments): Promise<boolean> { return this.#send(args, false) }
  notify (...args: LegacyArguments): Promise<boolean> { return this.#send(asNotified(args), false) }
  sendToUser (...args: LegacyArguments): Promise<boolean> { return this.#send(args, true) }

  async #createLegacy (agent: string, context: Partial<LegacyCreateContext>): Promise<SwitchedAgent> {
    const given = context.runId ?? context.run_id ?? `run_${randomUUID()}`
    const report = (difference: Difference): void => { this.#differs(difference) }
    const shadow = this.shadow ? new ShadowRun(this.#bridge.host, agent, given, context, report) : undefined
    const run: LegacyRun = { runId: given, shadow }
    this.#remember(given, run)
    const scope: Scope = { legacyRunId: given }
    this.#judge(() => shadow?.created())
    const instance = await this.#bridge.within(scope, () => this.#legacy.create(agent, { ...context, runId: given }))
    if (instance.runId !== undefined) this.#remember(instance.runId, run)
    return {
      side: 'legacy',
      runId: instance.runId ?? given,
      execute: async (input) => {
        this.#judge(() => shadow?.input(input))
        try {
          return await this.#bridge.within(scope, () => instance.execute(input))
        } finally {
          this.#judge(() => shadow?.settled())
        }
      }
    }
  }

  async #send (args: LegacyArguments, isUser: boolean): Promise<boolean> {
    const { target: id, message } = readArguments(args)
    const target = { id, isUser: isUser && id !== undefined }
    const read = readMessage(message)
    const { scope } = this.#bridge
    // Diverted by the bridge when it belongs to a legacy run.
    if (this.#legacyRunOf(read, target, scope) !== undefined || scope !== undefined || this.#bridge.live(read.runId ?? id) !== undefined) return this.#bridge.deliver(target, message)
    const userId = target.isUser ? id : read.userId ?? await this.#ownerOf(read, id)
    return this.#isOn(userId, undefined) ? this.#bridge.deliver(target, message) : this.#sendLegacy(undefined, read, target)
  }

  #legacyRunOf (read: ReadMessage, target: Target, scope: Scope | undefined): LegacyRun | undefined {
    const named = read.runId ?? target.id
    const run = named === undefined ? undefined : this.#runs.get(named)
    if (run !== undefined || scope === undefined || !('legacyRunId' in scope)) return run
    return this.#bridge.live(named) === undefined ? this.#runs.get(scope.legacyRunId) : undefined
  }

  async #sendLegacy (run: LegacyRun | undefined, read: ReadMessage, target: Target): Promise<boolean> {
    // The legacy side first: a shadow must not delay or reorder what it looks at.
    const sent = this.#legacy.send(target.id, read.original)
    this.#judge(() => run?.shadow?.message(read, target))
    return await sent !== false
  }

  async #ownerOf ({ threadId, runId }: ReadMessage, target: string | undefined): Promise<string | undefined> {
    const { threads } = this.#bridge.host
    for (const id of [threadId, target, runId]) {
      const state = id === undefined ? undefined : await threads.find(id)
      if (state !== undefined) return state.record.userId
    }
    return undefined
  }

  #isOn (userId: string | undefined, agent: string | undefined): boolean {
    if (typeof this.useMasterRegistry === 'boolean') return this.useMasterRegistry
    try {
      return this.useMasterRegistry({ userId, agent }) === true
    } catch (error) {
      this.#bridge.host.log.error({ err: error, userId, agent }, 'useMasterRegistry threw: the legacy side it is')
      return false
    }
  }

  #remember (runId: string, run: LegacyRun): void {
    this.#runs.set(runId, run)
    if (this.#runs.size > KEPT) this.#runs.delete(this.#runs.keys().next().value!)
  }

  /** Beside what is judged, never in its way. */
  #judge (judgement: () => MaybePromise<void> | undefined): void {
    (async () => judgement())().catch((error: unknown) => { this.#bridge.host.log.warn({ err: error }, 'the shadow could not judge') })
  }

  #differs (difference: Difference): void {
    this.differences.push(difference)
    if (this.differences.length > KEPT) this.differences.shift()
    if (this.#onDifference !== undefined) this.#onDifference(difference)
    else this.#bridge.host.log.info(difference, 'the master registry would have done otherwise')
  }
}
