import { FAE_ERR_LEGACY_MESSAGE } from '../../errors.js'
import { FAE_DEP010 } from '../../warnings.js'
import type { WebSocketNotifier } from '../websocket-notifier/notifier.js'
import { LegacyBridge, type LegacyHost, type Scope, type Target } from './bridge.js'
import { isRecord } from './message.js'

const scopeOf = Symbol('scope')

export interface WebSocketManagerOptions {
  /** What the first argument of sendMessage names, besides a run: a thread or a user. @default 'thread' */
  target?: 'thread' | 'user'
}

/**
 * The legacy manager without sockets of its own: what it is told becomes an event of the run or thread it belongs to.
 *
 * Each method takes (message), (target, message) or (target, type, payload); notify also (type, payload). It resolves
 * with true once the message is stored or was left out because the registry says it itself, and need not be awaited.
 * @deprecated In an agent use ctx; elsewhere app.notifier.
 */
export class WebSocketManager {
  readonly #bridge: LegacyBridge
  readonly #isUser: boolean
  readonly #scope: Scope | undefined

  /** @throws FAE_ERR_COMPAT_HOST when the plugin is not registered or legacyEvents is not among its events */
  constructor (host: LegacyHost, { target = 'thread', [scopeOf]: scope }: WebSocketManagerOptions & { [scopeOf]?: Scope } = {}) {
    this.#bridge = LegacyBridge.of(host)
    this.#isUser = target === 'user'
    this.#scope = scope
  }

  /** The one notifier behind it. */
  get notifier (): WebSocketNotifier { return this.#bridge.host.notifier }

  /** @throws FAE_ERR_LEGACY_MESSAGE, FAE_ERR_THREAD_NOT_FOUND, FAE_ERR_EVENT_INVALID, FAE_ERR_EVENT_TOO_LARGE */
  sendMessage (...args: LegacyArguments): Promise<boolean> { return this.#send(args, this.#isUser) }
  send_message (...args: LegacyArguments): Promise<boolean> { return this.#send(args, this.#isUser) }
  notify (...args: LegacyArguments): Promise<boolean> { return this.#send(asNotified(args), this.#isUser) }
  sendToThread (...args: LegacyArguments): Promise<boolean> { return this.#send(args, false) }
  send_to_thread (...args: LegacyArguments): Promise<boolean> { return this.#send(args, false) }
  sendToUser (...args: LegacyArguments): Promise<boolean> { return this.#send(args, true) }
  send_to_user (...args: LegacyArguments): Promise<boolean> { return this.#send(args, true) }

  #send (args: LegacyArguments, isUser: boolean): Promise<boolean> {
    FAE_DEP010()
    const { target, message } = readArguments(args)
    return this.#bridge.deliver({ id: target, isUser: isUser && target !== undefined }, message, this.#bridge.scope ?? this.#scope)
  }
}

/** (message) · (target, message) · (target, type, payload) */
export type LegacyArguments = readonly unknown[]

export function readArguments (args: LegacyArguments): { target: Target['id'], message: unknown } {
  const [first, second, third] = args
  if (isRecord(first)) return { target: undefined, message: first }
  if (typeof first !== 'string') throw new FAE_ERR_LEGACY_MESSAGE(`got ${first === null ? 'null' : typeof first} first`)
  if (typeof second === 'string') return { target: first, message: { ...(isRecord(third) && { payload: third }), type: second } }
  return { target: first, message: second }
}

/** What notify takes besides: (type, payload), for the run or thread that the payload or the caller's own run names. */
export function asNotified (args: LegacyArguments): LegacyArguments {
  const [type, payload, third] = args
  if (typeof type !== 'string' || third !== undefined || typeof payload === 'string' || (isRecord(payload) && 'type' in payload)) return args
  return [{ ...(isRecord(payload) && { payload }), type }]
}

/** The manager of one run, which also knows its run where the call does not tell, as in a callback of somebody else's. */
export function managerOf (host: LegacyHost, scope?: Scope): WebSocketManager {
  return new WebSocketManager(host, { ...(scope !== undefined && { [scopeOf]: scope }) })
}

/** Sets the notifier behind a legacy manager. @throws FAE_ERR_NOTIFIER_SET unless it is the app's own */
export function setManager ({ agents }: LegacyHost, manager: unknown): void {
  agents.setNotifier(manager instanceof WebSocketManager ? manager.notifier : manager as WebSocketNotifier)
}
