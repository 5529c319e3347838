/*
 * Does anything stay behind? Rounds of connections and runs against a server of this process, driven by clients of another
 * one, so that only the server's memory is measured. After each round everything is counted and the heap is collected.
 *
 * Exit codes: 0 all counts came back to zero and the heap did not grow, 1 they did not, 2 the flags are wrong.
 */
import { fork } from 'node:child_process'
import { on, once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { writeHeapSnapshot } from 'node:v8'
import Fastify, { type FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import type { AgentEvent, ClientFrame, ServerFrame } from '../schemas/index.js'
import type * as Library from '../index.js'

const usage = `Usage: npm run leak-test -- [flags]

  --cycles N         connect, subscribe, disconnect: how often in all (10000)
  --runs N           runs in all, of every kind and ending (20000)
  --rounds N         in how many rounds, with a measurement after each (10)
  --heap-snapshots   write leak-before.heapsnapshot and leak-after.heapsnapshot, for Chromium's memory panel
`

const WARM_UP_ROUNDS = 2
/** What the heap may seem to grow by over all measured rounds: its own noise. */
const NOISE_BYTES = 1024 * 1024
const USERS = 20
const THREADS_PER_USER = 2
/** What a run does and how it ends. */
const KINDS = ['says', 'streams', 'uses a tool', 'calls an agent', 'throws', 'is cancelled', 'is too slow', 'leaves things open'] as const

interface Work { url: string, cycles: number, runs: number }
type Report = { type: 'progress', cycles: number, runs: number } | { type: 'done' } | { type: 'failed', message: string }

// ---------- the clients ----------

/** One socket: resolves what it waits for by the frames that come. */
class Peer {
  readonly socket: WebSocket
  readonly #waiting = new Set<(frame: AgentEvent | ServerFrame) => void>()

  constructor (url: string, userId: string) {
    this.socket = new WebSocket(`${url}/ws?userId=${userId}`, 'agent-events.v1')
    this.socket.on('message', (data) => {
      const frame = JSON.parse(String(data)) as AgentEvent | ServerFrame
      for (const check of [...this.#waiting]) check(frame)
    })
    this.socket.on('error', () => {})
  }

  send (frame: ClientFrame): void { this.socket.send(JSON.stringify(frame)) }

  closed (): Promise<void> {
    return new Promise((resolve) => { this.socket.once('close', () => { resolve() }) })
  }

  frame (fits: (frame: AgentEvent | ServerFrame) => boolean, what: string): Promise<AgentEvent | ServerFrame> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => { reject(new Error(`no ${what} within 30 s`)) }, 30_000)
      const check = (frame: AgentEvent | ServerFrame): void => {
        // A cancel that came after the end says so.
        const failed = frame.type === 'error' && frame.code !== 'FAE_ERR_RUN_ENDED'
        if (!failed && !fits(frame)) return
        clearTimeout(timer)
        this.#waiting.delete(check)
        if (failed) reject(new Error(`${frame.code}: ${frame.message}`))
        else resolve(frame)
      }
      this.#waiting.add(check)
    })
  }
}

function threadOf (user: number, index: number): string { return `thread-${user}-${index}` }

/** Four ways to come and go: politely, without a word, before the answer, before the handshake is over. */
async function cycle (url: string, index: number): Promise<void> {
  const user = index % USERS
  const peer = new Peer(url, `user${user}`)
  const closed = peer.closed()
  if (index % 16 === 15) {
    peer.socket.terminate()
    await closed
    return
  }
  await peer.frame(({ type }) => type === 'connected', 'connected')
  for (let i = 0; i < THREADS_PER_USER; i++) peer.send({ type: 'subscribe', threadId: threadOf(user, i) })
  if (index % 4 !== 3) {
    const subscribed = await peer.frame(({ type }) => type === 'subscribed', 'subscribed') as Extract<ServerFrame, { type: 'subscribed' }>
    if (index % 4 === 2) peer.send({ type: 'ack', threadId: subscribed.threadId, cursor: subscribed.cursor })
  }
  if (index % 2 === 0) peer.socket.close()
  else peer.socket.terminate()
  await closed
}

async function runs (url: string, user: number, from: number, count: number, onRun: () => void): Promise<void> {
  if (count === 0) return
  const peer = new Peer(url, `user${user}`)
  await peer.frame(({ type }) => type === 'connected', 'connected')
  for (let i = 0; i < THREADS_PER_USER; i++) {
    peer.send({ type: 'subscribe', threadId: threadOf(user, i) })
    await peer.frame(({ type }) => type === 'subscribed', 'subscribed')
  }
  for (let i = 0; i < count; i++) {
    const kind = KINDS[(from + i) % KINDS.length]!
    const ref = String(i)
    let runId: string | undefined
    const ended = peer.frame((frame) => {
      if (frame.type === 'accepted' && frame.ref === ref) runId = frame.runId
      if (frame.type === 'agent_started' && kind === 'is cancelled' && 'runId' in frame && frame.parentRunId === undefined) peer.send({ type: 'cancel', runId: frame.runId! })
      return frame.type === 'agent_completed' && frame.runId === runId
    }, `end of a run that ${kind}`)
    peer.send({ type: 'send', ref, threadId: threadOf(user, i % THREADS_PER_USER), content: kind })
    await ended
    onRun()
  }
  const closed = peer.closed()
  peer.socket.close()
  await closed
}

/** In the other process: does a round of work when told to. */
function serveClients (): void {
  const report = (message: Report): void => { process.send!(message) }
  process.on('message', ({ url, cycles, runs: runCount }: Work) => {
    const done = { cycles: 0, runs: 0 }
    const timer = setInterval(() => { report({ type: 'progress', ...done }) }, 200)
    const cycling = Promise.all(Array.from({ length: USERS }, async (_, worker) => {
      for (let i = worker; i < cycles; i += USERS) {
        await cycle(url, i)
        done.cycles++
      }
    }))
    const running = Promise.all(Array.from({ length: USERS }, (_, user) => {
      return runs(url, user, user, Math.floor(runCount / USERS) + (user < runCount % USERS ? 1 : 0), () => { done.runs++ })
    }))
    Promise.all([cycling, running]).then(
      () => { report({ type: 'done' }) },
      (error: Error) => { report({ type: 'failed', message: error.message }) }
    ).finally(() => { clearInterval(timer) })
  })
}

// ---------- the server ----------

interface Counts { connections: number, subscriptions: number, feeds: number, runs: number, contexts: number, timers: number, listeners: number, handles: number }

/** Every ctx that an agent was given and that is not collected yet. */
const contexts = { live: 0, registry: new FinalizationRegistry<void>(() => { contexts.live-- }) }

function agentsOf ({ Type, defineAgent, defineTool }: typeof Library) {
  const search = defineTool({
    name: 'search',
    description: 'Answers at once',
    inputSchema: Type.Object({ query: Type.String() }),
    async execute ({ query }, { progress }) {
      await progress(0.5)
      return { query, hits: [1, 2, 3] }
    }
  })
  const wait = defineTool({ name: 'wait', description: 'Never answers', execute: () => new Promise<void>(() => {}) })
  const helper = defineAgent({
    name: 'helper',
    description: 'Called by the other',
    tools: [search],
    async run ({ message }, ctx) {
      contexts.live++
      contexts.registry.register(ctx)
      await ctx.tools.search({ query: message })
      return message
    }
  })
  async function * words (): AsyncGenerator<string> { for (let i = 0; i < 20; i++) yield `word ${i} ` }
  async function * stuck (): AsyncGenerator<string> { yield 'and'; yield ' then'; await new Promise(() => {}) }
  const worker = defineAgent({
    name: 'worker',
    description: 'Does what the message says',
    tools: [search, wait],
    agents: [helper],
    timeoutMs: 200,
    async run ({ message }, ctx) {
      contexts.live++
      contexts.registry.register(ctx)
      await ctx.think(message)
      switch (message as typeof KINDS[number]) {
        case 'says': return ctx.say('hello')
        case 'streams': return ctx.say(words())
        case 'uses a tool': return ctx.tools.search({ query: message })
        case 'calls an agent': return ctx.agents.helper({ message })
        case 'throws': throw new Error('told to')
        case 'is cancelled': return ctx.tools.wait()
        case 'is too slow':
          ctx.signal.addEventListener('abort', () => {})
          return ctx.say(stuck())
        case 'leaves things open':
          ctx.tools.wait()
          ctx.say(stuck())
          ctx.agents.helper({ message })
      }
    }
  })
  return [worker]
}

async function startServer (library: typeof Library): Promise<{ app: FastifyInstance, url: string }> {
  const app = Fastify()
  await app.register(library.default, {
    prefix: '/',
    agents: agentsOf(library),
    authenticate: async (request) => ({ userId: (request.query as { userId: string }).userId }),
    // What is remembered of a thread is not a leak: little of it, so that it is full before the first measurement.
    store: { memory: { retention: { maxEvents: 100 } } },
    limits: { framesPerSecond: 100_000 }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  for (let user = 0; user < USERS; user++) {
    for (let i = 0; i < THREADS_PER_USER; i++) await app.threads.register({ userId: `user${user}`, threadId: threadOf(user, i) })
  }
  return { app, url: `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

function count (app: FastifyInstance): Counts {
  const { connections, feeds } = app.notifier.hub
  const resources = process.getActiveResourcesInfo()
  const listeners = app.server.eventNames().reduce((sum, name) => sum + app.server.listenerCount(name), 0)
  return {
    connections: connections.size,
    subscriptions: [...connections.values()].reduce((sum, { subscriptions }) => sum + subscriptions.size, 0),
    feeds: feeds.size,
    runs: app.agents.active().length,
    contexts: contexts.live,
    timers: resources.filter((type) => type === 'Timeout').length,
    listeners,
    handles: resources.filter((type) => type !== 'Timeout' && type !== 'Immediate').length
  }
}

/** Waits until the server has let go of what the clients let go of, and collects until there is nothing more to collect. */
async function settle (app: FastifyInstance, rest: Counts | undefined): Promise<{ counts: Counts, heap: number }> {
  const gc = globalThis.gc!
  let heap = Infinity
  for (let i = 0, calm = 0; i < 100 && calm < 3; i++) {
    await new Promise((resolve) => { setTimeout(resolve, 50) })
    await gc()
    const { heapUsed } = process.memoryUsage()
    const isAtRest = rest === undefined || leftovers(count(app), rest).length === 0
    calm = isAtRest && heapUsed >= heap - 50_000 ? calm + 1 : 0
    heap = Math.min(heap, heapUsed)
  }
  return { counts: count(app), heap }
}

function leftovers (counts: Counts, rest: Counts): string[] {
  return (Object.keys(rest) as Array<keyof Counts>).filter((name) => counts[name] > rest[name]).map((name) => `${counts[name] - rest[name]} ${name}`)
}

/** Bytes per round, by least squares. */
function slopeOf (heaps: readonly number[]): number {
  const middle = (heaps.length - 1) / 2
  const mean = heaps.reduce((sum, heap) => sum + heap, 0) / heaps.length
  let above = 0
  let below = 0
  for (const [i, heap] of heaps.entries()) {
    above += (i - middle) * (heap - mean)
    below += (i - middle) ** 2
  }
  return below === 0 ? 0 : above / below
}

function megabytes (bytes: number): string { return `${(bytes / 1024 / 1024).toFixed(2)} MB` }

function progress (text: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${text}`)
}

async function main (): Promise<void> {
  const options = readOptions()
  if (options === undefined) return
  if (globalThis.gc === undefined) {
    process.stderr.write('The collector must be exposed: npm run leak-test, or node --expose-gc\n')
    process.exitCode = 2
    return
  }
  // What is published, not the sources.
  const library = await import(new URL('../dist/index.js', import.meta.url).href) as typeof Library
  const { app, url } = await startServer(library)
  const clients = fork(new URL(import.meta.url), ['--as-clients'], { execArgv: process.execArgv })
  const doRound = async (work: Work, label: string): Promise<void> => {
    clients.send(work)
    const done = new AbortController()
    const gone = once(clients, 'exit', { signal: done.signal }).then(() => { throw new Error('the clients\' process is gone') })
    const working = (async () => {
      for await (const [report] of on(clients, 'message', { signal: done.signal }) as AsyncIterable<[Report]>) {
        if (report.type === 'done') return
        if (report.type === 'failed') throw new Error(report.message)
        progress(`${label}: ${report.cycles}/${work.cycles} connections, ${report.runs}/${work.runs} runs`)
      }
    })()
    try {
      await Promise.race([working, gone])
    } finally {
      gone.catch(() => {})
      done.abort()
    }
  }

  try {
    const { cycles, runs: runCount, rounds } = options
    const { counts: rest } = await settle(app, undefined)
    const heaps: number[] = []
    const left: string[] = []
    const names = Object.keys(rest) as Array<keyof Counts>
    process.stdout.write(`${cycles} connections and ${runCount} runs in ${rounds} rounds, Node ${process.version}\n`)
    process.stdout.write(`${'round'.padEnd(8)}${'heap'.padStart(10)}${'rss'.padStart(11)}  ${names.map((name) => name.padStart(name.length + 2)).join('')}\n`)
    for (let round = 1; round <= rounds; round++) {
      const share = (all: number): number => Math.floor(all * round / rounds) - Math.floor(all * (round - 1) / rounds)
      await doRound({ url, cycles: share(cycles), runs: share(runCount) }, `round ${round} of ${rounds}`)
      const { counts, heap } = await settle(app, rest)
      heaps.push(heap)
      left.push(...leftovers(counts, rest).map((what) => `round ${round}: ${what}`))
      progress('')
      process.stdout.write(`${String(round).padEnd(8)}${megabytes(heap).padStart(10)}${megabytes(process.memoryUsage().rss).padStart(11)}  ${names.map((name) => String(counts[name]).padStart(name.length + 2)).join('')}\n`)
      if (options.snapshots && round === Math.min(WARM_UP_ROUNDS, rounds)) writeHeapSnapshot('leak-before.heapsnapshot')
    }
    if (options.snapshots) writeHeapSnapshot('leak-after.heapsnapshot')

    const measured = heaps.slice(Math.min(WARM_UP_ROUNDS, Math.max(0, heaps.length - 3)))
    const slope = slopeOf(measured)
    const growth = slope * (measured.length - 1)
    const perRun = slope / (runCount / rounds)
    process.stdout.write(`heap: ${(slope / 1024).toFixed(1)} KB per round after warm-up, ${perRun.toFixed(1)} bytes per run, ${megabytes(growth)} over ${measured.length} rounds (noise: ${megabytes(NOISE_BYTES)})\n`)
    if (left.length > 0) process.stdout.write(`left behind: ${left.join('; ')}\n`)
    const isClean = left.length === 0 && growth <= NOISE_BYTES
    process.stdout.write(isClean ? 'OK: everything came back to where it was\n' : 'FAILED: something stays behind\n')
    process.exitCode = isClean ? 0 : 1
  } finally {
    clients.kill()
    await app.close()
  }
}

function readOptions (): { cycles: number, runs: number, rounds: number, snapshots: boolean } | undefined {
  try {
    const text = { type: 'string' } as const
    const { values } = parseArgs({ options: { cycles: text, runs: text, rounds: text, 'heap-snapshots': { type: 'boolean' } } })
    const number = (name: 'cycles' | 'runs' | 'rounds', fallback: number, least: number): number => {
      const value = Number(values[name] ?? fallback)
      if (!Number.isSafeInteger(value) || value < least) throw new Error(`--${name} must be a whole number of at least ${least}`)
      return value
    }
    return { cycles: number('cycles', 10_000, 0), runs: number('runs', 20_000, 0), rounds: number('rounds', 10, 1), snapshots: values['heap-snapshots'] === true }
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

if (process.argv.includes('--as-clients')) {
  serveClients()
} else {
  // Whatever ends this process early, it is not a success.
  process.exitCode = 1
  await main()
}
