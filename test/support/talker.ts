import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { createClient, type Client, type RunHandle, type Thread } from '../../client/index.js'
import type { AgentEvent } from '../../schemas/index.js'
import { post } from './connect.js'
import type { NodeProcess } from './node-process.js'

interface Teardown { teardown (fn: () => unknown): void }

/** Says one thing after the other in a thread of its own, whatever happens, and keeps what it was handed since the last reset. */
export class Talker {
  readonly userId: string
  readonly threadId: string
  readonly client: Client
  readonly thread: Thread
  record: AgentEvent[] = []
  resets = 0
  /** What the client's status was, in turn. */
  readonly statuses: string[] = []
  /** For how long it was told that events may be late, each time. */
  readonly degradedMs: number[] = []
  readonly problems: string[] = []
  /** Messages that were taken and whose run has ended, or was lost with the log. */
  rounds = 0
  readonly messageIds: string[] = []
  #isTalking = true
  #talk: Promise<void> | undefined
  #reset: () => void = () => {}

  private constructor (userId: string, threadId: string, url: string) {
    this.userId = userId
    this.threadId = threadId
    const report = (error: unknown): void => { this.problems.push(String(error)) }
    this.client = createClient({ url, query: { userId }, WebSocket, backoff: { initialMs: 20, maxMs: 500 }, ackMs: 20, onHandlerError: report })
    let degradedAt: number | undefined
    this.client.onStatus((status) => {
      this.statuses.push(status)
      if (status === 'degraded') degradedAt = performance.now()
      if (status !== 'live' || degradedAt === undefined) return
      this.degradedMs.push(performance.now() - degradedAt)
      degradedAt = undefined
    })
    // What the server refuses while its store is away is asked again by the client.
    this.client.onError(({ code, message }) => { if (code !== 'FAE_ERR_STORE_UNAVAILABLE') report(`${code}: ${message}`) })
    this.thread = this.client.thread(threadId)
    this.thread.onReset(() => {
      this.resets++
      this.record = []
      this.#reset()
    })
    this.thread.onAny((event) => {
      const last = this.record.at(-1)
      if (last !== undefined && event.seq !== last.seq + 1) this.problems.push(`${event.seq} after ${last.seq}`)
      this.record.push(event as AgentEvent)
    })
  }

  /** @param url where its connections go, the gateway's say */
  static async start (t: Teardown, userId: string, node: NodeProcess, url: string): Promise<Talker> {
    const { status, body } = await post(node.url, '/threads', userId)
    if (status !== 201) throw new Error(`thread not made: ${status} ${JSON.stringify(body)}`)
    const talker = new Talker(userId, body.threadId, url)
    t.teardown(() => talker.client.close())
    return talker
  }

  get last (): string { return `seq ${this.record.at(-1)?.seq}, ${this.rounds} rounds, ${this.thread.status}, ${this.problems}` }

  talk (): void {
    this.#talk = this.#goOn()
  }

  /** Resolves when the last thing said was answered. */
  async fallSilent (): Promise<void> {
    this.#isTalking = false
    await this.#talk
  }

  async #goOn (): Promise<void> {
    await delay(Math.random() * 500)
    while (this.#isTalking) {
      const reset = new Promise<void>((resolve) => { this.#reset = resolve })
      const run = await this.#say(randomUUID())
      if (run === undefined) return
      await Promise.race([run.completed, reset]).catch((error) => { this.problems.push(String(error)) })
      this.rounds++
      await delay(300 + Math.random() * 400)
    }
  }

  /** Until it is taken. */
  async #say (clientMessageId: string): Promise<RunHandle<unknown> | undefined> {
    for (;;) {
      try {
        const run = await this.thread.send(`hello ${this.rounds}`, { clientMessageId })
        this.messageIds.push(clientMessageId)
        return run
      } catch (error) {
        if ((error as { code?: string }).code !== 'FAE_ERR_STORE_UNAVAILABLE') {
          this.problems.push(String(error))
          return undefined
        }
        await delay(50)
      }
    }
  }
}

/** Every run that the log tells of has ended; its beginning may have gone with an earlier log. */
function isOver (log: readonly AgentEvent[]): boolean {
  const ended = new Set(log.flatMap(({ type, runId }) => type === 'agent_completed' ? [runId] : []))
  return log.every(({ runId }) => runId === undefined || ended.has(runId))
}

/** The log once nothing more will come. */
export async function finalLog (node: NodeProcess, { threadId, userId }: { threadId: string, userId: string }, timeoutMs = 30_000): Promise<AgentEvent[]> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const log = await node.logOf(threadId, userId)
    if (isOver(log)) return log
    if (Date.now() > deadline) throw new Error(`a run of ${threadId} goes on: ${log.slice(-10).map(({ type }) => type)}`)
    await delay(100)
  }
}
