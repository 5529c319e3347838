/* The clients of the leak test: do a round of work when they are told to. */
import { WebSocket } from 'ws'
import type { AgentEvent, ClientFrame, ServerFrame } from '../../schemas/index.js'
import { KINDS, threadOf, THREADS_PER_USER, USERS, type Report, type Work } from './work.js'

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

function report (message: Report): void { process.send!(message) }

process.on('message', ({ url, connections, runs: runCount }: Work) => {
  const done = { connections: 0, runs: 0 }
  const timer = setInterval(() => { report({ type: 'progress', ...done }) }, 200)
  const cycling = Promise.all(Array.from({ length: USERS }, async (_, worker) => {
    for (let i = worker; i < connections; i += USERS) {
      await cycle(url, i)
      done.connections++
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
process.on('disconnect', () => { process.exit() })
