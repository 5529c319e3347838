import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { MemoryStore, type Retention, type Store } from '../../plugins/store/index.js'
import type { AgentEvent } from '../../schemas/index.js'
import type { Receiver } from './connect.js'

/** Resolves when the condition holds; rejects at the deadline and says what was waited for. */
export async function until (condition: () => unknown, what: string | (() => string) = String(condition), timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`Waited ${timeoutMs} ms in vain for ${typeof what === 'string' ? what : what()}`)
    await new Promise((resolve) => { setTimeout(resolve, 2) })
  }
}

/** Lets the event loop turn. */
export async function turn (): Promise<void> {
  return new Promise((resolve) => { setImmediate(resolve) })
}

/** Everything retained of a thread, page by page. */
export async function logOf (app: FastifyInstance, threadId: string, after?: string): Promise<AgentEvent[]> {
  const log: AgentEvent[] = []
  for (let cursor = after; ;) {
    const page = await app.notifier.history(threadId, { limit: 100, ...(cursor !== undefined && { after: cursor }) })
    if (page.length === 0) return log
    log.push(...page)
    cursor = page.at(-1)!.id
  }
}

/** Stores events of so many bytes, one in each thread in turn, and does not wait for one before the next. */
export async function appendAll (app: FastifyInstance, threadIds: readonly string[], count: number, bytes: number, isCustom: boolean): Promise<void> {
  await Promise.all(Array.from({ length: count }, (_, i) => app.notifier.sendToThread(threadIds[i % threadIds.length]!, {
    type: 'user_message',
    data: { content: `${i} ${'x'.repeat(bytes)}${isCustom ? '\u{1f41f} "quoted"' : ''}` }
  })))
}

/** How many connections have more in their buffers than they should. */
export function congestedIn (app: FastifyInstance): number {
  return [...app.notifier.hub.connections.values()].filter(({ congested }) => congested).length
}

/** Every subscription, feed and connection is gone. */
export async function untilEmpty (app: FastifyInstance): Promise<void> {
  const { connections, feeds } = app.notifier.hub
  await until(() => connections.size === 0 && feeds.size === 0, () => `an empty hub: ${connections.size} connections, ${feeds.size} feeds`)
}

/** The memory store with something before or after some of its calls: slowness, counting, failure. */
export function wrapStore (wrap: Partial<Store>, retention: Partial<Retention> = {}): { store: Store, inner: MemoryStore } {
  const inner = new MemoryStore(retention)
  const store = new Proxy(inner, {
    get: (target, name) => {
      const own = wrap[name as keyof Store] ?? Reflect.get(target, name, target) as unknown
      return typeof own === 'function' ? own.bind(target) : own
    }
  })
  return { store, inner }
}

/** The server's ends of its sockets: to let one take nothing, as if the kernel's buffers were full. */
export class ServerSockets {
  readonly #byPort = new Map<number, Socket>()
  readonly #held = new Set<Socket>()

  constructor (app: FastifyInstance) {
    app.server.on('connection', (socket) => {
      const port = socket.remotePort!
      this.#byPort.set(port, socket)
      socket.on('close', () => {
        this.#held.delete(socket)
        if (this.#byPort.get(port) === socket) this.#byPort.delete(port)
      })
    })
  }

  /** @param port the client's end */
  hold (port: number | undefined): void {
    const socket = this.#byPort.get(port ?? 0)
    if (socket === undefined || this.#held.has(socket)) return
    this.#held.add(socket)
    socket.cork()
  }

  release (port: number | undefined): void {
    const socket = this.#byPort.get(port ?? 0)
    if (socket !== undefined && this.#held.delete(socket)) socket.uncork()
  }

  releaseAll (): void {
    for (const socket of this.#held) socket.uncork()
    this.#held.clear()
  }
}

/** The local port of a receiver's socket. */
export function portOf (receiver: Receiver): number | undefined {
  return (receiver.socket as unknown as { _socket: Socket | null })._socket?.localPort
}
