import type tap from 'tap'
import { WebSocket } from 'ws'
import { createClient, type AgentEvent, type Client, type ClientOptions, type Thread } from '../../client/index.js'
import { WireServer } from './wire-server.js'

/** Resolves when the condition holds; rejects at the deadline and says what was waited for. */
export async function until (condition: () => unknown, what = String(condition)): Promise<void> {
  const deadline = Date.now() + 30_000
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`Waited in vain for ${what}`)
    await new Promise((resolve) => { setTimeout(resolve, 2) })
  }
}

interface Test { teardown (fn: () => unknown): unknown }

/** Makes timers of so many milliseconds, or from so many to so many, fire almost at once. */
export function hasten (t: Test & Pick<typeof tap, 'intercept'>, fromMs: number, toMs = fromMs): void {
  const timers = setTimeout
  const value = (listener: () => void, ms: number, ...rest: []) => timers(listener, ms >= fromMs && ms <= toMs ? 300 : ms, ...rest)
  t.intercept(globalThis, 'setTimeout', { value })
}

/** What a client in a page listens to, for as long as the test runs. */
export function fakePage (t: Test, more: object = {}): EventTarget {
  const page = new EventTarget()
  const globals = { addEventListener: page.addEventListener.bind(page), removeEventListener: page.removeEventListener.bind(page), ...more }
  Object.assign(globalThis, globals)
  t.teardown(() => { for (const name of Object.keys(globals)) Reflect.deleteProperty(globalThis, name) })
  return page
}

/** A server and a client of it, both gone after the test. */
export async function setup (t: Test, options: Partial<ClientOptions> = {}): Promise<{ server: WireServer, client: Client, errors: unknown[] }> {
  const server = await WireServer.start()
  const errors: unknown[] = []
  const client = createClient({
    url: server.url,
    WebSocket,
    backoff: { initialMs: 2, maxMs: 10 },
    ackMs: 5,
    onHandlerError: (error) => { errors.push(error) },
    ...options
  })
  t.teardown(async () => {
    await client.close()
    await server.close()
  })
  return { server, client, errors }
}

/** The seqs of the events a thread hands out, as they come. */
export function seqsOf (thread: Thread): number[] {
  const seqs: number[] = []
  thread.onAny((event: AgentEvent) => { seqs.push(event.seq) })
  return seqs
}

export function upTo (last: number, first = 1): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}
