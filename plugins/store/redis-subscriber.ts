import type { Cluster, Redis } from 'ioredis'
import { FAE_ERR_STORE_UNAVAILABLE } from '../../errors.js'
import { quit, type RedisClient } from './redis-client.js'
import { connectionOptions, isCluster } from './redis-options.js'

/** How many channels one SUBSCRIBE takes after a reconnect. */
const BATCH = 100
const SETUP_RETRY_MS = 500
/** How long a subscription waits for a reconnect. */
const RESTORE_MS = 2_000

type Listener = (message: string) => void

/**
 * The one connection for what is published. It is probed with a message to this process itself: a subscriber may hear
 * nothing any more and look healthy.
 */
export class RedisSubscriber {
  readonly #commands: RedisClient
  readonly #probeMs: number
  readonly #probeChannel: string
  readonly #listeners = new Map<string, { readonly listener: Listener, readonly isSharded: boolean }>()
  /** What is subscribed on the present connection. */
  readonly #live = new Set<string>()
  readonly #waiting = new Set<(isRestored: boolean) => void>()
  #client: Redis | Cluster | undefined
  #generation = 0
  #isReady = false
  #isClosed = false
  #timer: NodeJS.Timeout | undefined
  #retry: NodeJS.Timeout | undefined
  #probe = 0
  #heard = 0
  /** Everything is subscribed again; what was published meanwhile is missed. */
  onRestored: () => void = () => {}

  /** @param probeChannel one that nobody else publishes to */
  constructor (commands: RedisClient, probeChannel: string, probeMs: number) {
    this.#commands = commands
    this.#probeChannel = probeChannel
    this.#probeMs = probeMs
  }

  get isReady (): boolean { return this.#isReady }

  open (): void {
    const client = this.#client = duplicate(this.#commands.client)
    const emitter = client as Redis
    emitter.on('ready', () => { this.#setUp() })
    emitter.on('close', () => { this.#lost() })
    // What fails here is tried again, and the connection for commands says whether Redis is there.
    emitter.on('error', () => {})
    const onMessage = (channel: string, message: string): void => { this.#listeners.get(channel)?.listener(message) }
    emitter.on('message', onMessage)
    emitter.on('smessage', onMessage)
    this.#listeners.set(this.#probeChannel, { listener: (message) => { this.#heard = Number(message) }, isSharded: false })
    client.connect().catch(() => {})
    this.#timer = setInterval(() => { this.#check() }, this.#probeMs).unref()
  }

  async close (): Promise<void> {
    this.#isClosed = true
    this.#isReady = false
    clearInterval(this.#timer)
    clearTimeout(this.#retry)
    this.#listeners.clear()
    for (const resolve of [...this.#waiting]) resolve(false)
    if (this.#client !== undefined) await quit(this.#client)
  }

  /** Resolves once it is live, also after a reconnect under way. @throws FAE_ERR_STORE_UNAVAILABLE, and then the channel is not listened to */
  async subscribe (channel: string, isSharded: boolean, listener: Listener): Promise<void> {
    this.#listeners.set(channel, { listener, isSharded })
    try {
      if (this.#isReady) {
        const generation = this.#generation
        await this.#send([channel], isSharded)
        if (generation === this.#generation) {
          this.#live.add(channel)
          return
        }
      }
    } catch {}
    // A set-up subscribes everything that is listened to.
    if (!await this.#restored()) {
      this.#listeners.delete(channel)
      throw new FAE_ERR_STORE_UNAVAILABLE('the connection for live events is away')
    }
  }

  /** Channels that are always listened to. Called before open(). */
  listen (channel: string, listener: Listener): void {
    this.#listeners.set(channel, { listener, isSharded: false })
  }

  unsubscribe (channels: readonly string[], isSharded: boolean): void {
    for (const channel of channels) {
      this.#listeners.delete(channel)
      this.#live.delete(channel)
    }
    if (!this.#isReady) return
    const client = this.#client as Redis
    if (isSharded) for (const channel of channels) client.sunsubscribe(channel).catch(() => {})
    else client.unsubscribe(...channels).catch(() => {})
  }

  async #send (channels: readonly string[], isSharded: boolean): Promise<void> {
    const client = this.#client as Redis
    if (isSharded) await Promise.all(channels.map((channel) => client.ssubscribe(channel)))
    else await client.subscribe(...channels)
  }

  #setUp (): void {
    const generation = ++this.#generation
    this.#isReady = false
    this.#restore(generation).catch(() => {
      if (generation !== this.#generation || this.#isClosed) return
      this.#retry = setTimeout(() => { if (generation === this.#generation) this.#setUp() }, SETUP_RETRY_MS).unref()
    })
  }

  async #restore (generation: number): Promise<void> {
    this.#live.clear()
    for (let missing = this.#missing(); missing.length > 0; missing = this.#missing()) {
      const [, { isSharded }] = missing[0]!
      const names = missing.filter(([, entry]) => entry.isSharded === isSharded).slice(0, BATCH).map(([channel]) => channel)
      await this.#send(names, isSharded)
      if (generation !== this.#generation || this.#isClosed) return
      for (const name of names) this.#live.add(name)
    }
    this.#isReady = true
    this.#heard = this.#probe
    this.onRestored()
    for (const resolve of [...this.#waiting]) resolve(true)
  }

  #missing (): Array<[string, { readonly isSharded: boolean }]> {
    return [...this.#listeners].filter(([channel]) => !this.#live.has(channel))
  }

  /** False when that takes too long. */
  #restored (): Promise<boolean> {
    if (this.#isClosed || !this.#commands.isAvailable) return Promise.resolve(false)
    return new Promise((resolve) => {
      const settle = (isRestored: boolean): void => {
        clearTimeout(timer)
        this.#waiting.delete(settle)
        resolve(isRestored)
      }
      const timer = setTimeout(settle, RESTORE_MS, false)
      this.#waiting.add(settle)
    })
  }

  #lost (): void {
    this.#generation++
    this.#isReady = false
    clearTimeout(this.#retry)
  }

  #check (): void {
    if (!this.#isReady || !this.#commands.isAvailable) return
    if (this.#heard !== this.#probe) {
      this.#heard = this.#probe
      this.#lost()
      this.#client!.disconnect(true)
      return
    }
    const probe = ++this.#probe
    this.#commands.command((client) => client.publish(this.#probeChannel, String(probe))).catch(() => {
      // Never sent, or nobody knows: no echo is due.
      if (this.#probe === probe) this.#heard = probe
    })
  }
}

function duplicate (client: Redis | Cluster): Redis | Cluster {
  if (!isCluster(client)) return client.duplicate({ ...connectionOptions, keyPrefix: '', connectionName: 'agent-events-subscriber' })
  return client.duplicate([], {
    shardedSubscribers: true,
    lazyConnect: true,
    enableOfflineQueue: true,
    keyPrefix: '',
    redisOptions: { autoResubscribe: true, keyPrefix: '' }
  })
}
