import fc from 'fast-check'
import t from 'tap'
import { WebSocket } from 'ws'
import { createClient, type AgentEvent, type Client } from '../../../client/index.js'
import { logOf, ServerSockets, turn, until, untilEmpty } from '../../support/delivery.js'
import { startApp } from '../../support/start-app.js'
import { TcpProxy } from '../../support/tcp-proxy.js'

const seed = Number(process.env.FC_SEED ?? Date.now() % 2 ** 31)
const numRuns = Number(process.env.FC_RUNS ?? 100)
t.comment(`FC_SEED=${seed} FC_RUNS=${numRuns}`)

const RETAINED = 40

type Step =
  | { do: 'append', count: number, bytes: number }
  | { do: 'cut' | 'halfCloseServer' | 'halfCloseClient' | 'stallClient' | 'stallServer' | 'resume' | 'hold' | 'release' }
  | { do: 'slow' | 'fast', reader: number }
  | { do: 'reopen', reader: number }
  | { do: 'turn', times: number }

const reader = fc.nat({ max: 2 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('append'), count: fc.integer({ min: 1, max: 12 }), bytes: fc.constantFrom(0, 0, 500, 3_000) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('cut', 'cut', 'halfCloseServer', 'halfCloseClient', 'stallClient', 'stallServer', 'resume', 'hold', 'release') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('slow', 'fast'), reader }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reopen'), reader }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('turn'), times: fc.integer({ min: 1, max: 20 }) }) }
)

/** A page's state built from a thread: what it was handed since the last reset. */
class Reader {
  readonly client: Client
  readonly threadId: string
  ids: string[] = []
  seq: number | undefined
  resets = 0
  isSlow = false
  readonly problems: string[] = []

  constructor (client: Client, threadId: string) {
    this.client = client
    this.threadId = threadId
    this.open()
  }

  open (): void {
    this.ids = []
    this.seq = undefined
    const thread = this.client.thread(this.threadId)
    thread.onReset(() => {
      this.resets++
      this.ids = []
      this.seq = undefined
    })
    thread.onAny((event: AgentEvent) => {
      if (this.seq !== undefined && event.seq !== this.seq + 1) this.problems.push(`${event.seq} after ${this.seq}`)
      this.seq = event.seq
      this.ids.push(event.id)
      return this.isSlow ? turn() : undefined
    })
  }

  reopen (): void {
    this.client.thread(this.threadId).close()
    this.open()
  }
}

t.test('clients whose network breaks in every way end with the log, or were told to begin anew (B4, D2)', async (t) => {
  const { app, port } = await startApp(t, {
    store: { memory: { retention: { maxEvents: RETAINED } } },
    limits: { highWaterMark: 1, framesPerSecond: 100_000, connectionsPerUser: 1_000 },
    // a stalled network is noticed by silence
    heartbeat: { intervalMs: 60, timeoutMs: 60 }
  })
  const sockets = new ServerSockets(app)
  let user = 0
  let resets = 0
  let connections = 0

  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 50, size: 'max' }), async (steps) => {
    const userId = `user ${++user}`
    const threads = await Promise.all([0, 1].map(async () => app.threads.register({ userId })))
    const logs = threads.map((): string[] => [])
    // plain: what does not get through as a WebSocket comes by HTTP
    const proxy = await TcpProxy.start({ teardown () {} }, port, { plain: true })
    const errors: unknown[] = []
    const clients = [0, 1].map(() => createClient({
      url: proxy.url,
      query: { userId },
      WebSocket,
      backoff: { initialMs: 1, maxMs: 8 },
      ackMs: 2,
      maxQueuedEvents: 15,
      onHandlerError: (error) => { errors.push(error) }
    }))
    // two tabs; one of them shows both threads
    const readers = [new Reader(clients[0]!, threads[0]!.threadId), new Reader(clients[0]!, threads[1]!.threadId), new Reader(clients[1]!, threads[0]!.threadId)]
    for (const step of steps) {
      switch (step.do) {
        case 'append':
          await Promise.all(Array.from({ length: step.count }, (_, i) => app.notifier.sendToThread(threads[i % 2]!.threadId, {
            type: 'assistant_message',
            data: { agent: 'a', text: 'x'.repeat(step.bytes) }
          })))
          for (const [i, log] of logs.entries()) log.push(...(await logOf(app, threads[i]!.threadId)).filter(({ seq }) => seq > log.length).map(({ id }) => id))
          break
        case 'cut': proxy.cut(); break
        case 'halfCloseServer': proxy.halfClose('toServer'); break
        case 'halfCloseClient': proxy.halfClose('toClient'); break
        case 'stallClient': proxy.stall('toClient'); break
        case 'stallServer': proxy.stall('toServer'); break
        case 'resume': proxy.resume(); break
        case 'hold': for (const { server } of proxy.links) sockets.hold(server.localPort); break
        case 'release': sockets.releaseAll(); break
        case 'slow': readers[step.reader]!.isSlow = true; break
        case 'fast': readers[step.reader]!.isSlow = false; break
        case 'reopen': readers[step.reader]!.reopen(); break
        case 'turn': for (let i = 0; i < step.times; i++) await turn()
      }
    }
    sockets.releaseAll()
    proxy.resume()
    for (const reader of readers) {
      const log = logs[threads.findIndex(({ threadId }) => threadId === reader.threadId)]!
      if (log.length > 0) await until(() => reader.seq === log.length || reader.problems.length > 0, () => `seq ${log.length} at the client; it has ${reader.seq}, its thread is ${reader.client.thread(reader.threadId).status}`, 30_000)
      if (reader.problems.length > 0) throw new Error(reader.problems.join('; '))
      const from = log.length - reader.ids.length
      if (JSON.stringify(reader.ids) !== JSON.stringify(log.slice(from))) throw new Error('the record is not the log')
      const isWhole = from === 0 || !reader.client.thread(reader.threadId).complete
      if (!isWhole) throw new Error(`a record from ${from + 1} on presents itself as the whole`)
      resets += reader.resets
    }
    if (errors.length > 0) throw new Error(`reported: ${errors.join('; ')}`)
    connections += proxy.accepted
    await Promise.all(clients.map(async (client) => client.close()))
    await proxy.close()
    await untilEmpty(app)
  }), { seed, numRuns, endOnFailure: process.env.FC_SHRINK === undefined })
  t.comment({ resets, connections })
  if (numRuns >= 100) t.ok(resets > 0 && connections > 2 * numRuns, 'the hard cases were among them')
})
