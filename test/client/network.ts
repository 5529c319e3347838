import { WebSocket } from 'ws'
import { createClient, type AgentEvent, type Client, type ClientOptions, type ClientStatus, type Thread } from '../../client/index.js'
import { defineAgent, type AgentEventsOptions } from '../../index.js'
import { triage } from '../support/agents.js'
import { logOf } from '../support/delivery.js'
import { startApp, type StartedApp } from '../support/start-app.js'
import { TcpProxy, type Fault } from '../support/tcp-proxy.js'
import { until } from './helpers.js'

interface Test { teardown (fn: () => unknown): void }

/** A server behind a network that lets through what it likes. */
export class Network {
  readonly server: StartedApp
  readonly proxy: TcpProxy
  /** What happens to an upgrade, a ticket, a stream and a long-poll; nothing: they pass. */
  webSocket: Fault
  ticket: Fault
  stream: Fault
  poll: Fault
  /** First lines of the requests, as they came. */
  readonly requests: string[] = []

  private constructor (server: StartedApp, proxy: TcpProxy) {
    this.server = server
    this.proxy = proxy
    proxy.onRequest = (text) => {
      const line = /^(GET|POST|HEAD) .*/.exec(text)?.[0]
      if (line === undefined) return undefined
      this.requests.push(line)
      if (line.includes('/ws')) return this.webSocket
      if (line.includes('/tickets')) return this.ticket
      if (line.includes('live=sse')) return this.stream
      return line.includes('live=long-poll') ? this.poll : undefined
    }
  }

  static async start (t: Test, options: Partial<AgentEventsOptions> = {}): Promise<Network> {
    const server = await startApp(t, { agents: [triage, walker], coalesceMs: 0, ...options })
    return new Network(server, await TcpProxy.start(t, server.port, { plain: true }))
  }

  client (t: Test, options: Partial<ClientOptions> = {}): { client: Client, statuses: ClientStatus[], errors: unknown[] } {
    const errors: unknown[] = []
    const client = createClient({
      url: this.proxy.url,
      query: { userId: 'u' },
      WebSocket,
      backoff: { initialMs: 2, maxMs: 10 },
      ackMs: 5,
      onHandlerError: (error) => { errors.push(error) },
      ...options
    })
    t.teardown(() => client.close())
    const statuses: ClientStatus[] = []
    client.onStatus((status) => { statuses.push(status) })
    return { client, statuses, errors }
  }

  async thread (): Promise<string> {
    return (await this.server.app.threads.register({ userId: 'u' })).threadId
  }

  count (kind: string): number { return this.requests.filter((line) => line.includes(kind)).length }
}

/** What a thread hands out, held against the log. */
export class Log {
  ids: string[] = []
  resets = 0
  readonly thread: Thread

  constructor (thread: Thread) {
    this.thread = thread
    thread.onReset(() => { this.resets++; this.ids = [] })
    thread.onAny((event: AgentEvent) => { this.ids.push(event.id) })
  }

  /** Ends as the server's log, event by event. */
  async equals (server: StartedApp): Promise<string[]> {
    const log = (await logOf(server.app, this.thread.id)).map(({ id }) => id)
    await until(() => this.ids.length >= log.length, `${log.length} events; ${this.ids.length} came, status ${this.thread.status}`)
    return log
  }
}

/** Takes one step for each turn it is given, and says so. */
export const walker = defineAgent({
  name: 'walker',
  description: 'Walks',
  async run ({ message }, ctx) {
    const steps = Number(message)
    for (let step = 1; step <= steps; step++) {
      await new Promise<void>((resolve, reject) => {
        ctx.signal.addEventListener('abort', () => {
          turns.delete(resolve)
          reject(ctx.signal.reason)
        })
        turns.add(resolve)
      })
      await ctx.think(`step ${step}`)
    }
    return steps
  }
})

const turns = new Set<() => void>()

/** Lets the walkers that wait take a step. */
export async function step (): Promise<void> {
  await until(() => turns.size > 0, 'a walker')
  for (const turn of turns) turn()
  turns.clear()
}
