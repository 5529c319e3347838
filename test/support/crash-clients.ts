import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { WebSocket } from 'ws'
import { createClient, type AgentEvent as ClientEvent, type Client, type Thread } from '../../client/index.js'
import { LmdbStore } from '../../plugins/store/lmdb-store.js'
import type { AgentEvent } from '../../schemas/index.js'
import { random } from './crash.js'
import type { Told } from './crash-server.js'
import { until } from './delivery.js'
import { brokenRules } from './run-rules.js'
import { childEnv } from './child-env.js'

export interface CrashClientsOptions {
  readonly folder: string
  readonly kills: number
  readonly seed: number
  readonly clients?: number
  readonly threads?: number
  readonly onRound?: (line: string) => void
}

export interface CrashClientsReport {
  readonly kills: number
  /** Times that a client had its thread up to date again after a restart. */
  readonly resumed: number
  /** Events in the logs, and frames in which the clients got them. */
  readonly events: number
  readonly frames: number
  /** Runs that were asked for, and how they ended. */
  readonly runs: number
  readonly success: number
  readonly lost: number
  /** Runs that were accepted by one process and begun by a later one. */
  readonly startedLater: number
}

/** How long anything may take on a machine that is busy with other things, in milliseconds. */
const PATIENCE = 60_000

/**
 * Kills a server with SIGKILL at random moments, under clients that talk to it all the time, and starts it again on the same
 * port. In the end compares every event that any client got with what is stored, and what is stored with the rules of runs.
 * Rejects with node's AssertionError when something is missing, doubled or different.
 */
export async function crashClients ({ folder, kills, seed, clients: clientCount = 50, threads: threadCount = 20, onRound }: CrashClientsOptions): Promise<CrashClientsReport> {
  const next = random(seed)
  const port = await freePort(next)
  const logs = Array.from({ length: threadCount }, (_, i) => new KnownLog(`thread-${i}`))
  const runs = new KnownRuns()
  const people = Array.from({ length: clientCount }, (_, i) => new Person(i, port, logs[i % threadCount]!, runs, random(seed + i + 1)))
  const broken = (): string[] => [...logs, ...people].flatMap(({ broken }) => broken)
  let server = await Server.start(folder, port, runs)
  let resumed = 0
  try {
    for (const { threadId } of logs) await register(port, threadId)
    for (const person of people) person.begin()
    for (let round = 0; round < kills; round++) {
      const when = round === 0 ? 'at work' : next() < 0.5 ? 'at work' : next() < 0.5 ? 'clients return' : 'starting'
      const delayMs = Math.round(when === 'starting' ? 200 + next() * 1_300 : next() * 700)
      if (when !== 'starting') await server.ready
      if (when === 'at work') {
        await untilAllLive(people)
        if (round > 0) resumed += clientCount
      }
      await new Promise((resolve) => { setTimeout(resolve, delayMs) })
      await server.kill()
      await until(() => people.every(({ client }) => client.connected === undefined), 'everybody to notice', PATIENCE)
      assert.deepEqual(broken(), [], `round ${round}`)
      onRound?.(`kill ${round + 1}: ${when}, after ${delayMs} ms; ${runs.accepted.size} runs accepted, ${runs.began.size} begun`)
      runs.generation++
      server = Server.spawn(folder, port, runs)
    }
    await server.ready
    await untilAllLive(people)
    resumed += clientCount
    for (const person of people) person.isTalking = false
    await Promise.race([Promise.all(people.map(({ done }) => done)), deadline('every run that was asked for to end')])
    await server.kill()
    const ended = await compare(folder, logs, people, runs, kills)
    assert.deepEqual(broken(), [])
    return { kills, resumed, frames: logs.reduce((sum, { frames }) => sum + frames, 0), ...ended }
  } finally {
    await server.kill()
    await Promise.all(people.map(({ client }) => client.close()))
  }
}

/** Every client is connected and has all that is stored of its thread. */
async function untilAllLive (people: readonly Person[]): Promise<void> {
  const late = (): Person[] => people.filter(({ thread }) => thread.status !== 'live')
  await until(() => late().length === 0, () => `everybody to be back; ${late().map(({ name, thread, client }) => `${name} is ${thread.status} (${client.error})`).join(', ')}`, PATIENCE)
}

async function deadline (what: string): Promise<never> {
  return new Promise((_resolve, reject) => { setTimeout(() => { reject(new Error(`waited ${PATIENCE} ms for ${what}`)) }, PATIENCE).unref() })
}

/** The thread's owner, whom all its clients are logged in as. */
const ownerOf = (threadId: string): string => `owner of ${threadId}`

async function register (port: number, threadId: string): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/threads?userId=${encodeURIComponent(ownerOf(threadId))}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ threadId }) })
  assert.equal(response.status, 201)
}

/**
 * Below the ports that the kernel gives to outgoing connections: while no server is there, a client that tries such a port may
 * be given the very same one as its own, and then talks to itself.
 */
async function freePort (next: () => number): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    // Of several processes with one seed each finds its own.
    const port = 20_000 + (Math.floor(next() * 10_000) + process.pid) % 10_000
    const probe = createServer()
    const isFree = await new Promise<boolean>((resolve) => {
      probe.once('error', () => { resolve(false) })
      probe.listen(port, '127.0.0.1', () => { probe.close(() => { resolve(true) }) })
    })
    if (isFree) return port
  }
  throw new Error('no port is free')
}

/** One process that serves until it is killed. */
class Server {
  /** It listens; rejects if it ends by itself. */
  readonly ready: Promise<void>
  readonly #child: ChildProcess
  readonly #closed: Promise<void>
  #isKilled = false

  private constructor (folder: string, port: number, runs: KnownRuns) {
    const script = fileURLToPath(new URL('crash-server.ts', import.meta.url))
    const child = this.#child = spawn(process.execPath, ['--import', 'tsx', script, folder, String(port)], { stdio: ['pipe', 'pipe', 'pipe'], env: childEnv })
    const { generation } = runs
    let rest = ''
    let errors = ''
    child.stderr!.setEncoding('utf8').on('data', (chunk: string) => { errors += chunk })
    this.#closed = new Promise((resolve) => { child.on('close', () => { resolve() }) })
    this.ready = new Promise((resolve, reject) => {
      child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
        const lines = (rest + chunk).split('\n')
        // The last line may be cut in two.
        rest = lines.pop()!
        for (const line of lines) {
          const told = JSON.parse(line) as Told
          if (told.type === 'ready') resolve()
          else runs.begin(told.runId, generation)
        }
      })
      child.on('error', reject)
      child.on('close', (code, signal) => {
        if (!this.#isKilled || signal !== 'SIGKILL') runs.broken.push(`a server ended by itself (${code ?? signal}): ${errors}`)
        reject(new Error(`the server has ended: ${errors}`))
      })
    })
    this.ready.catch(() => {})
  }

  static spawn (folder: string, port: number, runs: KnownRuns): Server {
    return new Server(folder, port, runs)
  }

  static async start (folder: string, port: number, runs: KnownRuns): Promise<Server> {
    const server = new Server(folder, port, runs)
    await server.ready
    return server
  }

  /** Resolves when it is gone and all that it told has been heard. */
  async kill (): Promise<void> {
    this.#isKilled = true
    this.#child.kill('SIGKILL')
    await this.#closed
  }
}

/** What anybody was ever told of a thread, byte for byte. */
class KnownLog {
  readonly threadId: string
  readonly texts = new Map<number, string>()
  readonly broken: string[] = []
  frames = 0

  constructor (threadId: string) {
    this.threadId = threadId
  }

  hear (text: string): void {
    const { seq, threadId } = JSON.parse(text) as Partial<AgentEvent>
    if (seq === undefined || threadId !== this.threadId) return
    this.frames++
    const known = this.texts.get(seq)
    if (known === undefined) this.texts.set(seq, text)
    else if (known !== text) this.broken.push(`${this.threadId}: seq ${seq} was ${known} and is ${text}`)
  }
}

/** What is known of the runs from outside: who was promised one, and which process began it. */
class KnownRuns {
  /** Counts the processes. */
  generation = 0
  readonly accepted = new Map<string, { readonly threadId: string, readonly generation: number }>()
  readonly began = new Map<string, number>()
  readonly broken: string[] = []

  begin (runId: string, generation: number): void {
    const known = this.began.get(runId)
    if (known !== undefined) this.broken.push(`${runId} was begun by process ${known} and again by process ${generation}`)
    this.began.set(runId, generation)
  }
}

/** A client that follows a thread and asks for one run after the other. */
class Person {
  readonly name: string
  readonly client: Client
  readonly thread: Thread
  readonly broken: string[] = []
  /** seq of the last event that was handed out. */
  seq = 0
  isTalking = true
  done: Promise<void> = Promise.resolve()
  readonly #log: KnownLog
  readonly #runs: KnownRuns
  readonly #next: () => number

  constructor (index: number, port: number, log: KnownLog, runs: KnownRuns, next: () => number) {
    this.name = `client ${index}`
    this.#log = log
    this.#runs = runs
    this.#next = next
    this.client = createClient({
      url: `http://127.0.0.1:${port}`,
      query: { userId: ownerOf(log.threadId) },
      transport: 'websocket',
      WebSocket: class extends WebSocket {
        constructor (url: string, protocols: string) {
          super(url, protocols)
          this.on('message', (data) => { log.hear(String(data)) })
        }
      },
      backoff: { initialMs: 20, maxMs: 200 },
      onHandlerError: (error) => { this.#break(String(error)) }
    })
    this.thread = this.client.thread(log.threadId)
  }

  begin (): void {
    this.thread.onAny((event) => { this.#hear(event) })
    this.thread.onReset(() => { this.#break('was told to begin anew, and nothing was lost') })
    this.done = this.#talk().catch((error: unknown) => { this.#break(String(error)) })
  }

  async #talk (): Promise<void> {
    for (let count = 0; this.isTalking; count++) {
      const message = `${this.#next() < 0.25 ? 'long' : 'short'} ${this.name} ${count}`
      const run = await this.thread.send(message, { clientMessageId: message })
      this.#runs.accepted.set(run.runId, { threadId: this.thread.id, generation: this.#runs.generation })
      await run.completed
    }
  }

  #hear (event: ClientEvent): void {
    const { seq } = event
    if (seq !== ++this.seq) this.#break(`got seq ${seq} instead of ${this.seq}`)
    if (JSON.stringify(event) !== this.#log.texts.get(seq)) this.#break(`got another seq ${seq} than others`)
  }

  #break (what: string): void {
    this.broken.push(`${this.name} on ${this.#log.threadId} ${what}`)
  }
}

type Ended = Pick<CrashClientsReport, 'events' | 'runs' | 'success' | 'lost' | 'startedLater'>

/** What is stored, beside all that anybody knows of it. */
async function compare (folder: string, logs: readonly KnownLog[], people: readonly Person[], runs: KnownRuns, kills: number): Promise<Ended> {
  const store = new LmdbStore({ folder, retention: { maxEvents: 10_000_000, maxBytes: 2 ** 40 } })
  await store.open()
  try {
    const left: string[] = []
    store.onOrphan(({ runId }) => { left.push(runId) })
    await new Promise((resolve) => { setTimeout(resolve, 50) })
    assert.deepEqual(left, [], 'nothing is under way')
    assert.deepEqual(runs.broken, [])
    const ended: { -readonly [Name in keyof Ended]: number } = { events: 0, runs: 0, success: 0, lost: 0, startedLater: 0 }
    for (const log of logs) {
      const events = await compareLog(store, log)
      for (const person of people) if (person.thread.id === log.threadId) assert.equal(person.seq, events.length, `${person.name} has all`)
      assert.deepEqual(brokenRules(events), [])
      compareRuns(log.threadId, events, runs, kills, ended)
      ended.events += events.length
    }
    assert.equal(ended.runs, runs.accepted.size, 'as many runs as were asked for')
    for (const [runId, { generation }] of runs.accepted) if ((runs.began.get(runId) ?? -1) > generation) ended.startedLater++
    return ended
  } finally {
    await store.close()
  }
}

async function compareLog (store: LmdbStore, { threadId, texts }: KnownLog): Promise<AgentEvent[]> {
  const events: AgentEvent[] = []
  for (;;) {
    const { entries, head, epochs } = await store.read(threadId, events.length)
    assert.equal(epochs.length, 1, 'a killed process lost nothing, so nothing begins anew')
    for (const { seq, json } of entries) {
      assert.equal(seq, events.length + 1, `${threadId} has no gaps`)
      assert.equal(texts.get(seq), json, `${threadId}: what was told of seq ${seq} is what is stored`)
      events.push(JSON.parse(json) as AgentEvent)
    }
    if (events.length < head) continue
    assert.equal(texts.size, head, `nobody was told of more of ${threadId} than is stored`)
    return events
  }
}

function compareRuns (threadId: string, events: readonly AgentEvent[], runs: KnownRuns, kills: number, ended: { runs: number, success: number, lost: number }): void {
  const asked = new Set<string>()
  const said = new Set<string>()
  let lost = 0
  let live: string | undefined
  for (const event of events) {
    const { runId = '' } = event
    if (event.type === 'user_message') {
      const { clientMessageId = '' } = event.data
      assert.ok(!said.has(clientMessageId), `'${clientMessageId}' is there twice`)
      said.add(clientMessageId)
      asked.add(runId)
      assert.equal(runs.accepted.get(runId)?.threadId, threadId, `${runId} was asked for, and its client knows of it`)
    } else if (event.type === 'agent_started') {
      assert.equal(live, undefined, `${runId} began before ${live} had ended`)
      assert.ok(asked.delete(runId), `${runId} was asked for`)
      live = runId
    } else if (event.type === 'agent_completed') {
      const { status } = event.data
      live = undefined
      ended.runs++
      if (status === 'success') {
        ended.success++
        assert.ok(runs.began.has(runId), `${runId} was begun by somebody`)
      } else {
        assert.equal(status, 'lost', JSON.stringify(event))
        lost++
      }
    }
  }
  assert.deepEqual([...asked], [], 'each run that waited has begun and ended')
  // One at a time: whatever else was lost had only waited.
  assert.ok(lost <= kills, `${threadId} lost ${lost} runs in ${kills} kills`)
  ended.lost += lost
}
