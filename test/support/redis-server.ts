import { spawn, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, Socket, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { Redis } from 'ioredis'

interface Teardown { teardown (fn: () => unknown): void }

/** Where redis-server is. @throws an error that names what is missing */
export function findRedisServer (): string {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(folder, 'redis-server')
    if (existsSync(file)) return file
  }
  throw new Error('redis-server is not in PATH. Install Redis 6.2 or newer, for example: apt-get install redis-server')
}

/**
 * Below those that the system gives to connections, and so is the one 10,000 above it, on which a Cluster's servers talk:
 * a server that is down for a while finds both free when it comes back.
 */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 20_000)
    const server = createServer()
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => { resolve(false) })
      server.listen(port, '127.0.0.1', () => { resolve(true) })
    })
    if (!isFree) continue
    await new Promise((resolve) => { server.close(resolve) })
    return port
  }
}

/** A real redis-server, or a sentinel, of this test: on a free port, in a folder of its own, gone with the test. */
export class RedisServer {
  readonly port: number
  readonly folder: string
  readonly #args: readonly string[]
  #process: ChildProcess | undefined

  private constructor (port: number, folder: string, args: readonly string[]) {
    this.port = port
    this.folder = folder
    this.#args = args
  }

  get url (): string { return `redis://127.0.0.1:${this.port}` }
  get pid (): number { return this.#process!.pid! }

  /** @param args more of redis-server's, which win over ours; a leading path is its configuration file */
  static async start (t: Teardown, { args = [], port }: { args?: readonly string[] | ((folder: string, port: number) => Promise<readonly string[]>), port?: number } = {}): Promise<RedisServer> {
    for (let attempt = 1; ; attempt++) {
      const folder = await mkdtemp(join(tmpdir(), 'agent-events-redis-'))
      const chosen = port ?? await freePort()
      const server = new RedisServer(chosen, folder, typeof args === 'function' ? await args(folder, chosen) : args)
      t.teardown(async () => {
        await server.kill()
        await rm(folder, { recursive: true, force: true })
      })
      try {
        await server.start()
        return server
      } catch (error) {
        // Somebody else was given the same port meanwhile.
        if (port !== undefined || attempt === 3) throw error
      }
    }
  }

  /** Again on the same port in the same folder. */
  async start (): Promise<void> {
    const file = findRedisServer()
    const own = ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.folder, '--save', '', '--appendonly', 'no', '--loglevel', 'warning']
    const args = this.#args[0]?.startsWith('/') === true ? this.#args : [...own, ...this.#args]
    this.#process = spawn(file, args, { stdio: 'ignore' })
    await this.#answers()
  }

  /** Gracefully: what it keeps is kept. */
  async stop (): Promise<void> {
    await this.#end('SIGTERM')
  }

  async kill (): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** SIGSTOP: connected, but does not answer. */
  pause (): void { process.kill(this.pid, 'SIGSTOP') }
  resume (): void { process.kill(this.pid, 'SIGCONT') }

  /** One command on a connection of its own. */
  async command (...args: [name: string, ...rest: Array<string | number>]): Promise<unknown> {
    const client = new Redis(this.port, '127.0.0.1', { lazyConnect: true, retryStrategy: null })
    client.on('error', () => {})
    try {
      await client.connect()
      return await client.call(...args)
    } finally {
      client.disconnect()
    }
  }

  async #end (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise((resolve) => { child.once('exit', resolve) })
    if (signal === 'SIGTERM') child.kill('SIGCONT')
    child.kill(signal)
    await exited
  }

  async #answers (): Promise<void> {
    const deadline = Date.now() + 10_000
    for (;;) {
      try {
        const isLoaded = await this.command('PING') === 'PONG'
        // Not somebody else's, which was quicker at this port.
        if (isLoaded && String(await this.command('INFO', 'server')).includes(`process_id:${this.pid}\r`)) return
      } catch {
        // Not there yet.
      }
      const { exitCode, signalCode } = this.#process!
      if (exitCode !== null || signalCode !== null) throw new Error(`redis-server ended with ${exitCode ?? signalCode}: another program has its port?`)
      if (Date.now() > deadline) throw new Error('redis-server does not answer')
      await new Promise((resolve) => { setTimeout(resolve, 10) })
    }
  }
}

/** A port before another one that can be made to swallow what comes back, as a dead network does. */
export class Proxy {
  readonly port: number
  readonly #pairs: Array<{ client: Socket, server: Socket, sent: string, isDeaf: boolean }> = []
  #deafeningWord: string | undefined

  private constructor (port: number) {
    this.port = port
  }

  static async start (t: Teardown, targetPort: number): Promise<Proxy> {
    const server = createServer((client) => {
      const upstream = new Socket()
      const pair = { client, server: upstream, sent: '', isDeaf: false }
      proxy.#pairs.push(pair)
      upstream.connect(targetPort, '127.0.0.1')
      client.on('data', (data) => {
        pair.sent = (pair.sent + data.toString('latin1')).slice(-10_000)
        if (proxy.#deafeningWord !== undefined && data.includes(proxy.#deafeningWord)) {
          proxy.#deafeningWord = undefined
          pair.isDeaf = true
        }
        upstream.write(data)
      })
      upstream.on('data', (data) => { if (!pair.isDeaf) client.write(data) })
      client.on('close', () => { upstream.destroy() })
      upstream.on('close', () => { client.destroy() })
      client.on('error', () => {})
      upstream.on('error', () => {})
    })
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
    const proxy = new Proxy((server.address() as AddressInfo).port)
    t.teardown(async () => {
      for (const { client } of proxy.#pairs) client.destroy()
      await new Promise((resolve) => { server.close(resolve) })
    })
    return proxy
  }

  /** The next connection that sends this hears nothing any more: Redis does it, and the answer is lost. */
  deafenOn (word: string): void {
    this.#deafeningWord = word
  }

  /** Deaf connections end. */
  cutDeaf (): void {
    for (const { client, isDeaf } of this.#pairs) if (isDeaf) client.destroy()
  }

  /** Connections on which this was sent hear nothing any more. @returns how many */
  deafen (sent: string): number {
    const found = this.#pairs.filter((pair) => pair.sent.includes(sent) && !pair.client.destroyed)
    for (const pair of found) pair.isDeaf = true
    return found.length
  }
}
