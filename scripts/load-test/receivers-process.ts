/*
 * The receivers of a load test, or those of its users that are this process's: real sockets that write down what they get.
 * At the end each one's record is compared with the log as the server tells it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { SUBPROTOCOL, type AgentEvent, type ServerFrame } from '../../schemas/index.js'
import { Latencies } from './latencies.js'
import { fail, obey, report, sample, SAMPLE_EVERY_MS, type Command } from './messages.js'
import { nodeOf, now, randomFrom, threadId, userId, userOf, type LoadOptions } from './options.js'
import { addVerdict, judge, newVerdict, readLog, Receipt } from './verdict.js'

const CONNECTING_AT_ONCE = 50
/** How long nothing at all may arrive while something is missing, before it counts as lost. */
const PATIENCE_MS = 10_000
const REOPEN_MS = 500
const ATTEMPTS = 60
/** How long a double may follow. */
const QUIET_MS = 250

const [options, part] = JSON.parse(process.argv[2]!) as [LoadOptions, number]
const random = randomFrom(options.seed + 1_000 + part)
const stats = { delivered: 0, lastAt: 0, resumed: 0, notRecovered: 0, cutOff: 0, refusals: {} as Record<string, number> }
let latencies = new Latencies()
let isChurning = true

/** One tab of a user, that follows all of the user's threads. */
class Receiver {
  /** And subscribed to everything. */
  isConnected = false
  readonly receipts = new Map<string, Receipt>()
  readonly #url: string
  #socket: WebSocket | undefined
  /** Up to where events of a thread are from before the socket: they were late because we were away. */
  readonly #heads = new Map<string, number>()

  constructor (user: number, url: string) {
    this.#url = `ws://${url}/ws?userId=${userId(user)}`
    for (let index = 0; index < options.threads; index++) this.receipts.set(threadId(user, index), new Receipt())
  }

  /** Connects and subscribes where it was; comes back by itself when it is cut off. */
  async open (): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#connect()
      } catch (error) {
        if (attempt === ATTEMPTS) throw error
        stats.cutOff++
        await delay(REOPEN_MS)
      }
    }
  }

  #connect (): Promise<void> {
    this.#heads.clear()
    const socket = new WebSocket(this.#url, SUBPROTOCOL, { perMessageDeflate: false, handshakeTimeout: 60_000 })
    this.#socket = socket
    return new Promise((resolve, reject) => {
      socket.on('error', reject)
      socket.on('open', () => {
        for (const [threadId, { cursor }] of this.receipts) socket.send(JSON.stringify({ type: 'subscribe', threadId, ...(cursor !== undefined && { cursor }) }))
      })
      socket.on('message', (data: Buffer) => {
        if (this.#socket !== socket) return
        this.#onFrame(JSON.parse(data.toString()) as AgentEvent | ServerFrame, data)
        if (this.isConnected || this.#heads.size < this.receipts.size) return
        this.isConnected = true
        resolve()
      })
      socket.on('close', (code) => {
        if (this.#socket !== socket) return
        reject(new Error(`cut off with ${code}`))
        if (!this.isConnected) return
        this.isConnected = false
        stats.cutOff++
        this.open().catch(fail)
      })
    })
  }

  drop (politely: boolean): void {
    const socket = this.#socket
    this.#socket = undefined
    this.isConnected = false
    if (politely) socket?.close()
    else socket?.terminate()
  }

  #onFrame (frame: AgentEvent | ServerFrame, data: Buffer): void {
    if ('seq' in frame) {
      this.receipts.get(frame.threadId)!.add(frame.seq, frame.id, data)
      stats.delivered++
      stats.lastAt = now()
      const { dueAt } = (frame.data as { metadata?: { dueAt?: number } }).metadata ?? {}
      if (dueAt !== undefined && frame.seq > this.#heads.get(frame.threadId)!) latencies.add(stats.lastAt - dueAt)
    } else if (frame.type === 'subscribed') {
      this.#heads.set(frame.threadId, frame.head)
      if (!frame.recovered) stats.notRecovered++
    } else if (frame.type === 'ping') {
      this.#socket!.send('{"type":"pong"}')
    } else if (frame.type === 'error') {
      stats.refusals[frame.code] = (stats.refusals[frame.code] ?? 0) + 1
      // A subscribe while the store was away, say.
      if (!this.isConnected) this.#socket!.terminate()
    }
  }
}

/** Does not write down the fifth event: what a broken client or server would do. */
function sabotage (receipt: Receipt): void {
  const add = receipt.add.bind(receipt)
  let count = 0
  receipt.add = (...event) => { if (++count !== 5) add(...event) }
}

const receivers: Receiver[] = []
let urls: string[] = []
let churning: Promise<unknown> = Promise.resolve()

async function connect (to: string[]): Promise<void> {
  urls = to
  const waiting: Receiver[] = []
  for (let connection = 0; connection < options.connections; connection++) {
    const user = userOf(connection, options)
    if (user % options.receivers === part) waiting.push(new Receiver(user, urls[nodeOf(connection, options)]!))
  }
  if (options.sabotage && part === 0) sabotage(waiting[0]!.receipts.values().next().value!)
  const reporting = setInterval(() => { report({ type: 'connecting', connected: receivers.length }) }, SAMPLE_EVERY_MS)
  const queue = waiting.values()
  await Promise.all(Array.from({ length: CONNECTING_AT_ONCE }, async () => {
    for (const receiver of queue) {
      await receiver.open()
      receivers.push(receiver)
    }
  }))
  clearInterval(reporting)
  report({ type: 'connected' })
  setInterval(() => {
    report(sample({ delivered: stats.delivered, latencies: latencies.toJSON() }))
    latencies = new Latencies()
  }, SAMPLE_EVERY_MS)
  churning = Promise.all(receivers.slice(0, Math.round(receivers.length * options.churn)).map(comeAndGo))
}

async function comeAndGo (receiver: Receiver): Promise<void> {
  for (;;) {
    await delay(500 + random() * 2_500)
    if (!isChurning) return
    if (!receiver.isConnected) continue
    receiver.drop(random() < 0.5)
    await delay(random() * 500)
    await receiver.open()
    stats.resumed++
  }
}

/** Everything of a thread, page by page. */
async function logOf (threadId: string, userId: string): Promise<AgentEvent[]> {
  const log: AgentEvent[] = []
  for (let offset = '-1'; ;) {
    const response = await fetch(`http://${urls[log.length % urls.length]}/threads/${threadId}/events?offset=${offset}&userId=${userId}`)
    if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
    for (const event of await response.json() as AgentEvent[]) log.push(event)
    if (response.headers.get('stream-up-to-date') === 'true') return log
    offset = response.headers.get('stream-next-offset')!
  }
}

async function judgeAll (): Promise<void> {
  isChurning = false
  await churning
  const logs = new Map<string, number[]>()
  for (let user = part; user < options.users; user += options.receivers) {
    for (let index = 0; index < options.threads; index++) {
      const id = threadId(user, index)
      logs.set(id, readLog(id, await logOf(id, userId(user))))
    }
  }
  const since = now()
  const isBehind = ({ receipts }: Receiver): boolean => [...receipts].some(([threadId, { seqs }]) => (seqs.at(-1) ?? 0) < logs.get(threadId)!.length)
  while (receivers.some(isBehind) && now() - Math.max(since, stats.lastAt) < PATIENCE_MS) await delay(50)
  await delay(QUIET_MS)
  const verdict = newVerdict()
  for (const { receipts } of receivers) for (const [threadId, receipt] of receipts) addVerdict(verdict, judge(logs.get(threadId)!, receipt))
  const logged = [...logs.values()].reduce((sum, { length }) => sum + length, 0)
  const { resumed, notRecovered, cutOff, refusals } = stats
  report({ type: 'judged', verdict, logged, resumed, notRecovered, cutOff, refusals })
}

obey((command: Command) => {
  if (command.type === 'judge') return judgeAll()
  if (command.type === 'connect') return connect(command.urls)
})
