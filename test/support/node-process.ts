import { build } from 'esbuild'
import { fork, type ChildProcess } from 'node:child_process'
import { rmSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Retention } from '../../plugins/store/index.js'
import type { ConnectionLimits } from '../../plugins/websocket-notifier/connection.js'
import type { AgentEvent } from '../../schemas/index.js'
import type { Watched } from './redis-sentinel.js'
import { childEnv } from './child-env.js'

interface Teardown { teardown (fn: () => unknown): void }
interface Answer { id?: number, port?: number, result?: unknown, error?: string }

export interface NodeOptions {
  /** A URL, the options for Sentinel, or the ports of a Cluster. */
  readonly redis: string | Watched['options'] | { readonly cluster: readonly number[] }
  readonly leaseMs?: number
  readonly retention?: Partial<Retention>
  readonly limits?: Partial<ConnectionLimits>
}

const root = fileURLToPath(new URL('../../', import.meta.url))
const SOURCE = fileURLToPath(new URL('./node-child.ts', import.meta.url))

let bundling: Promise<string> | undefined

/** The node as one file, which starts in a third of the time that its sources take; where it finds its packages. */
async function bundle (): Promise<string> {
  const outfile = `${root}node_modules/.cache/agent-events-node-${process.pid}.mjs`
  process.once('exit', () => { rmSync(outfile, { force: true }) })
  await build({ entryPoints: [SOURCE], outfile, bundle: true, packages: 'external', platform: 'node', format: 'esm', target: 'node20', sourcemap: 'inline' })
  return outfile
}

/** An app in a process of its own, from the sources, over a Redis: see node-child.ts for its agents. Ended with the test. */
export class NodeProcess {
  readonly port: number
  readonly #child: ChildProcess
  readonly #stderr: () => string
  readonly #pending = new Map<number, { resolve (result: unknown): void, reject (error: Error): void }>()
  #calls = 0

  private constructor (child: ChildProcess, port: number, stderr: () => string) {
    this.#child = child
    this.port = port
    this.#stderr = stderr
    child.on('message', ({ id, result, error }: Answer) => {
      const waiting = this.#pending.get(id!)
      this.#pending.delete(id!)
      if (error === undefined) waiting?.resolve(result)
      else waiting?.reject(new Error(error))
    })
    child.once('exit', () => {
      for (const { reject } of this.#pending.values()) reject(new Error('the node has ended'))
    })
  }

  static async start (t: Teardown, options: NodeOptions): Promise<NodeProcess> {
    // Nothing of this process' settings: its coverage and its loaders are not the node's.
    const child = fork(await (bundling ??= bundle()), [JSON.stringify(options)], { cwd: root, env: childEnv, execArgv: ['--enable-source-maps'], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    t.teardown(() => { child.kill('SIGKILL') })
    let stderr = ''
    child.stderr!.setEncoding('utf8').on('data', (text: string) => { stderr = (stderr + text).slice(-10_000) })
    const port = await new Promise<number>((resolve, reject) => {
      child.once('message', ({ port }: Answer) => { resolve(port!) })
      child.once('exit', (code) => { reject(new Error(`a node ended with ${code}: ${stderr}`)) })
    })
    return new NodeProcess(child, port, () => stderr)
  }

  get url (): string { return `http://127.0.0.1:${this.port}` }
  get pid (): number { return this.#child.pid! }
  get isAlive (): boolean { return this.#child.exitCode === null && this.#child.signalCode === null }
  /** What it complained of; an unhandled rejection, say. */
  get stderr (): string { return this.#stderr() }

  /** By its process id; resolves when it is gone. */
  async end (signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const gone = new Promise((resolve) => { this.#child.once('exit', resolve) })
    process.kill(this.pid, signal)
    await gone
  }

  /** SIGSTOP: connected, but does nothing. */
  pause (): void { process.kill(this.pid, 'SIGSTOP') }
  resume (): void { process.kill(this.pid, 'SIGCONT') }

  /** Whether a connection of the thread's user has processed everything up to the cursor, asked at this node. */
  confirmed (threadId: string, cursor: string, timeoutMs: number): Promise<unknown> {
    return this.#call('confirmed', threadId, cursor, timeoutMs)
  }

  /** The runs whose agent is at work in this process. */
  async active (): Promise<string[]> {
    return await this.#call('active') as string[]
  }

  /** See delivery.ts. */
  async append (threadIds: readonly string[], count: number, bytes: number, isCustom: boolean): Promise<void> {
    await this.#call('append', threadIds, count, bytes, isCustom)
  }

  async hold (port: number | undefined): Promise<void> { await this.#call('hold', port) }
  async release (port: number | undefined): Promise<void> { await this.#call('release', port) }
  async releaseAll (): Promise<void> { await this.#call('releaseAll') }
  async congested (): Promise<number> { return await this.#call('congested') as number }
  async untilEmpty (): Promise<void> { await this.#call('untilEmpty') }

  /** Everything retained of a thread, as this node tells it over HTTP. */
  async logOf (threadId: string, userId: string): Promise<AgentEvent[]> {
    const log: AgentEvent[] = []
    for (let offset = '-1'; ;) {
      const response = await fetch(`${this.url}/threads/${threadId}/events?offset=${encodeURIComponent(offset)}`, { headers: { 'x-user-id': userId } })
      if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
      log.push(...await response.json() as AgentEvent[])
      if (response.headers.get('stream-up-to-date') === 'true') return log
      offset = response.headers.get('stream-next-offset')!
    }
  }

  #call (call: string, ...args: unknown[]): Promise<unknown> {
    const id = ++this.#calls
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      this.#child.send({ id, call, args })
    })
  }
}

/** What stands before nodes: gives every connection to the next node that lives. Closed with the test. */
export async function startGateway (t: Teardown, nodes: readonly NodeProcess[]): Promise<string> {
  const sockets = new Set<Socket>()
  let turn = 0
  const server = createServer((client) => {
    const alive = nodes.filter(({ isAlive }) => isAlive)
    const upstream = connect(alive[turn++ % alive.length]!.port, '127.0.0.1')
    client.pipe(upstream).pipe(client)
    for (const [socket, other] of [[client, upstream], [upstream, client]] as const) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
