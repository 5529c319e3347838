import { createHash } from 'node:crypto'
import type { Cluster, Redis } from 'ioredis'
import { FAE_ERR_STORE_CLOSED, FAE_ERR_STORE_UNAVAILABLE } from '../../errors.js'
import { createClient, isClient, isCluster, type RedisStoreOptions } from './redis-options.js'
import type { Availability } from './store.js'

/** A script that Redis runs as one atomic step. */
export class Script {
  readonly lua: string
  readonly sha: string

  constructor (lua: string) {
    this.lua = lua
    this.sha = createHash('sha1').update(lua).digest('hex')
  }
}

type Argument = string | number
type Settle = (error: Error) => void

/** Errors of the server that pass: the same call may succeed later. */
const PASSING = /^(LOADING|READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|MOVED|ASK|OOM|BUSY|MISCONF|NOAUTH|NOPERM|WRONGPASS|NOREPLICAS|UNBLOCKED)\b|: -(OOM|MISCONF|NOREPLICAS)\b|READONLY|max number of clients/
const REPLICA = 'connected to a replica'
const SETUP_RETRY_MS = 500
/** So long after the last call that failed, an answer says that all is well again. */
const IMPAIRED_MS = 2_000
const QUIT_MS = 1_000

/**
 * The connection for commands: knows which server process answers on it and whether it does. While it does not, calls
 * are refused at once instead of waiting without bound.
 */
export class RedisClient {
  #client!: Redis | Cluster
  #option: RedisStoreOptions['redis']
  #available = false
  #isImpaired = false
  #failedAt = 0
  #reason = 'connecting to Redis'
  #isClosed = false
  #isCreated = false
  /** The server that the last set-up reached. */
  #lastServerId = ''
  #isSetUp = false
  #attempt = 0
  #setupRetry: NodeJS.Timeout | undefined
  #pending = new Set<Settle>()
  #detach: (() => void) | undefined
  readonly #scripts: readonly Script[]
  readonly #onConnected: (isOtherServer: boolean) => Promise<void>
  /** Called on every change. */
  onAvailability: (availability: Availability) => void = () => {}
  /** SPUBLISH where channels belong to slots. */
  publishCommand: 'PUBLISH' | 'SPUBLISH' = 'PUBLISH'
  isCluster = false
  /** The connection that holds back what is written in this turn. */
  #gathering: Redis['stream'] | undefined

  /**
   * @param scripts loaded on every connect, so that no call needs a second try
   * @param onConnected called before anything else is let through; what it rejects with is tried again
   */
  constructor (option: RedisStoreOptions['redis'], scripts: readonly Script[], onConnected: (isOtherServer: boolean) => Promise<void>) {
    this.#option = option
    this.#scripts = scripts
    this.#onConnected = onConnected
  }

  get availability (): Availability {
    return { available: this.#available, ...(this.#available && this.#isImpaired && { isImpaired: true }), reason: this.#reason }
  }

  get isAvailable (): boolean { return this.#available }
  get client (): Redis | Cluster { return this.#client }
  /** Passed to the scripts, which begin a new epoch when it has changed. '' has them ask the server themselves. */
  serverId = ''

  /** Resolves at once, whether Redis is there or not; availability says. @throws FAE_ERR_PACKAGE_MISSING */
  async open (): Promise<void> {
    const option = this.#option
    const created = isClient(option) ? undefined : await createClient(option)
    // Closed before it was open: a client that has not been connected needs no end.
    this.assertOpen()
    this.#isCreated = created !== undefined
    this.#client = created ?? option as Redis | Cluster
    const client = this.#client as Redis
    this.isCluster = isCluster(this.#client)
    const onReady = (): void => { this.#setUp() }
    const onClose = (): void => { this.#lost() }
    const onError = (error: Error): void => { this.#heardOf(error) }
    client.on('ready', onReady)
    client.on('close', onClose)
    client.on('error', onError)
    this.#detach = () => {
      client.off('ready', onReady)
      client.off('close', onClose)
      // A client of our own may still fail while it closes; nobody must be surprised by that.
      if (!this.#isCreated) client.off('error', onError)
    }
    if (client.status === 'ready') this.#setUp()
    else if (client.status === 'wait') client.connect().catch(() => {})
  }

  /** Idempotent; a host's own client stays as it is. */
  async close (): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#available = false
    this.#reason = 'closed'
    clearTimeout(this.#setupRetry)
    this.#detach?.()
    this.#rejectPending(new FAE_ERR_STORE_CLOSED())
    if (this.#isCreated) await quit(this.#client)
  }

  /** @throws FAE_ERR_STORE_CLOSED, FAE_ERR_STORE_UNAVAILABLE */
  run (script: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    return this.#guard(() => this.evaluate(script, keys, args))
  }

  /** Any other command. @throws FAE_ERR_STORE_CLOSED, FAE_ERR_STORE_UNAVAILABLE */
  command<T> (call: (client: Redis) => Promise<T>): Promise<T> {
    return this.#guard(() => call(this.#client as Redis))
  }

  /** Runs a script whether the store is available or not: for what makes it available again. */
  async evaluate (script: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const client = this.#client as Redis
    this.#gather(client)
    try {
      return await client.evalsha(script.sha, keys.length, ...keys, ...args)
    } catch (error) {
      if (!(error as Error).message.startsWith('NOSCRIPT')) throw error
      return client.eval(script.lua, keys.length, ...keys, ...args)
    }
  }

  /** Scripts called in one turn go out together: system calls are most of what they cost. A Cluster has many streams. */
  #gather ({ stream }: Redis): void {
    if (stream === undefined || stream === this.#gathering) return
    this.#gathering = stream
    stream.cork()
    process.nextTick(() => {
      this.#gathering = undefined
      stream.uncork()
    })
  }

  assertOpen (): void {
    if (this.#isClosed) throw new FAE_ERR_STORE_CLOSED()
  }

  /** Redis has not answered for a while: nobody waits for it any longer than that. A Cluster has parts that still may. */
  stalled (): void {
    if (!this.#available) return
    if (this.isCluster) this.#impaired('a part of Redis does not answer')
    else this.#unavailable('Redis does not answer')
  }

  /** Every server answers: also again, on the connection that it had stalled on. */
  answered (): void {
    if (!this.#isSetUp || this.#isClosed) return
    if (!this.#available || (this.#isImpaired && performance.now() - this.#failedAt >= IMPAIRED_MS)) this.#become()
  }

  /** A call failed that may succeed later, though the connection is there. */
  failed (error: Error): void {
    const { code, message } = asStoreError(error)
    if (this.#available && code === 'FAE_ERR_STORE_UNAVAILABLE' && this.#client.status === 'ready') this.#impaired(message)
  }

  /** @throws when one of the servers that there are does not answer */
  async ping (): Promise<void> {
    if (this.isCluster) await Promise.all((this.#client as Cluster).nodes('master').map((node) => node.ping()))
  }

  /** Gives the connection up for a new one. A host's own client does that by itself. */
  reconnect (): void {
    if (this.#isCreated && !this.#isClosed) this.#client.disconnect(true)
  }

  #guard<T> (call: () => Promise<T>): Promise<T> {
    if (this.#isClosed) return Promise.reject(new FAE_ERR_STORE_CLOSED())
    if (!this.#available) return Promise.reject(new FAE_ERR_STORE_UNAVAILABLE(this.#reason))
    return new Promise((resolve, reject) => {
      this.#pending.add(reject)
      call().then(
        (value) => {
          this.#pending.delete(reject)
          resolve(value)
        },
        (error: Error) => {
          this.#pending.delete(reject)
          if (error.message.includes('READONLY')) this.#demoted()
          this.failed(error)
          reject(this.#isClosed ? new FAE_ERR_STORE_CLOSED() : asStoreError(error))
        }
      )
    })
  }

  #setUp (): void {
    const attempt = ++this.#attempt
    this.#isSetUp = false
    clearTimeout(this.#setupRetry)
    this.#setupRetry = undefined
    this.#setUpNow(attempt).catch((error: Error) => {
      if (attempt !== this.#attempt || this.#isClosed) return
      this.#reason = reasonOf(error)
      this.#setupRetry = setTimeout(() => {
        this.#setupRetry = undefined
        if (this.#client.status !== 'ready') return
        // A replica is not where we want to be: ask anew where the master is.
        if (error instanceof ReplicaError && this.#isCreated) this.reconnect()
        else this.#setUp()
      }, SETUP_RETRY_MS).unref()
    })
  }

  async #setUpNow (attempt: number): Promise<void> {
    const client = this.#client as Redis
    const info = await client.info()
    if (/^role:slave/m.test(info) && !this.isCluster) throw new ReplicaError()
    const serverId = this.isCluster ? 'cluster' : field(info, 'run_id')
    const isOther = this.#lastServerId !== '' && this.#lastServerId !== serverId
    // Only on a connection of our own is it certain that no command is sent again to another server.
    this.serverId = this.#isCreated ? serverId : ''
    this.publishCommand = this.isCluster && Number.parseInt(field(info, 'redis_version')) >= 7 ? 'SPUBLISH' : 'PUBLISH'
    if (!this.isCluster) for (const { lua } of this.#scripts) await client.script('LOAD', lua)
    await this.#onConnected(isOther)
    if (attempt !== this.#attempt || this.#isClosed || client.status !== 'ready') return
    this.#lastServerId = serverId
    this.#isSetUp = true
    this.#become()
  }

  /** The server on the other end is no master any more: until one is, nothing is let through. */
  #demoted (): void {
    if (!this.#available || this.isCluster) return
    this.#unavailable(REPLICA)
    this.#setUp()
  }

  #become (): void {
    this.#available = true
    this.#isImpaired = false
    this.#reason = 'connected'
    this.onAvailability(this.availability)
  }

  #lost (): void {
    this.#attempt++
    this.#isSetUp = false
    clearTimeout(this.#setupRetry)
    this.#setupRetry = undefined
    if (this.#available) this.#unavailable('the connection to Redis is lost')
  }

  #heardOf (error: Error): void {
    if (!this.#available && !this.#isClosed) this.#reason = reasonOf(error)
  }

  #impaired (reason: string): void {
    this.#failedAt = performance.now()
    if (this.#isImpaired) return
    this.#isImpaired = true
    this.#reason = reason
    this.onAvailability(this.availability)
  }

  #unavailable (reason: string): void {
    this.#available = false
    this.#reason = reason
    this.#rejectPending(new FAE_ERR_STORE_UNAVAILABLE(reason))
    this.onAvailability(this.availability)
  }

  #rejectPending (error: Error): void {
    const pending = this.#pending
    this.#pending = new Set()
    for (const reject of pending) reject(error)
  }
}

class ReplicaError extends Error {
  constructor () { super(REPLICA) }
}

/** Bounded: who does not answer is left. */
export async function quit (client: Redis | Cluster): Promise<void> {
  if (client.status === 'ready') {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise((resolve) => { timer = setTimeout(resolve, QUIT_MS) })
    await Promise.race([client.quit().catch(() => {}), late])
    clearTimeout(timer)
  }
  client.disconnect()
}

/** Whatever is about the connection or passes is FAE_ERR_STORE_UNAVAILABLE; a mistake of ours stays what it is. */
export function asStoreError (error: Error & { code?: string }): Error & { code?: string } {
  if (error.code?.startsWith('FAE_ERR_') === true) return error
  if (error.name === 'ReplyError' && !PASSING.test(error.message)) return error
  return new FAE_ERR_STORE_UNAVAILABLE(reasonOf(error))
}

function reasonOf ({ message }: Error): string {
  return message === '' ? 'Redis is not reachable' : message.slice(0, 200)
}

function field (info: string, name: string): string {
  return new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1] ?? ''
}
