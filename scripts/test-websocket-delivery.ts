/*
 * Does a message come back? Connects to a running server like a browser would, sends one message to an agent and prints
 * every event of the run as it arrives.
 *
 * Exit codes: 0 all five critical events came in order and the run succeeded, 1 they did not, 2 the flags are wrong.
 */
import { randomUUID } from 'node:crypto'
import { parseArgs } from 'node:util'
import { WebSocket } from 'ws'
import type { AgentEvent, ServerFrame, Thread } from 'fastify-agent-events/schemas'

const usage = `Usage: npm run delivery -- --message TEXT [flags]

  --message TEXT     what to say (required)
  --user-id ID       who says it (test)
  --url URL          of the server, with the plugin's prefix if it has one (http://localhost:8000)
  --thread-id ID     register and use this thread; without it a new one is made
  --agent NAME       who shall answer; without it the server decides
  --timeout MS       how long to wait for the end of the run (30000)
`

const critical = ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'agent_completed'] as const

interface Options { url: string, userId: string, message: string, timeoutMs: number, threadId?: string, agent?: string }

/** The delivery failed; the message says how. */
class DeliveryError extends Error {}

/** The flags are wrong. */
class UsageError extends Error {}

function readOptions (argv: string[]): Options {
  const text = { type: 'string' } as const
  const values = parse()
  const timeoutMs = Number(values.timeout ?? 30_000)
  if (!(Number.isInteger(timeoutMs) && timeoutMs > 0)) throw new UsageError('--timeout must be a positive number of milliseconds')
  const url = (values.url ?? 'http://localhost:8000').replace(/\/+$/, '')
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) throw new UsageError('--url must be a URL that begins with http:// or https://')
  if (values.message === undefined || values.message === '') throw new UsageError('--message is missing')
  return {
    url,
    timeoutMs,
    message: values.message,
    userId: values['user-id'] ?? 'test',
    ...(values['thread-id'] === undefined ? {} : { threadId: values['thread-id'] }),
    ...(values.agent === undefined ? {} : { agent: values.agent })
  }

  function parse () {
    try {
      return parseArgs({ args: argv, options: { url: text, 'user-id': text, message: text, 'thread-id': text, agent: text, timeout: text } }).values
    } catch (error) {
      throw new UsageError((error as Error).message)
    }
  }
}

/** Both ways to say who one is; a header carries ASCII only. */
function addressOf (options: Options, path: string): { url: string, headers: Record<string, string> } {
  const url = new URL(options.url + path)
  url.searchParams.set('userId', options.userId)
  const headers: Record<string, string> = /^[\x20-\x7e]+$/.test(options.userId) ? { 'x-user-id': options.userId } : {}
  return { url: url.href, headers }
}

async function registerThread (options: Options, deadline: AbortSignal): Promise<string> {
  const { url, headers } = addressOf(options, '/threads')
  const body = JSON.stringify(options.threadId === undefined ? {} : { threadId: options.threadId })
  let response
  try {
    response = await fetch(url, { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body, signal: deadline })
  } catch (error) {
    const cause = (error as Error).cause as { code?: string, message?: string } | undefined
    throw new DeliveryError(cause?.code === 'ECONNREFUSED'
      ? `nobody listens at ${options.url}; start the server with npm start, or name another with --url`
      : `${options.url} cannot be reached: ${cause?.code ?? cause?.message ?? (error as Error).message}`)
  }
  const text = await response.text()
  if (!response.ok) throw new DeliveryError(`POST /threads answered ${response.status}: ${text.slice(0, 300)}`)
  return (JSON.parse(text) as Thread).threadId
}

/** The position at the end of an existing thread, so that only new events are sent. */
async function tailOf (options: Options, threadId: string, deadline: AbortSignal): Promise<string | undefined> {
  const { url, headers } = addressOf(options, `/threads/${encodeURIComponent(threadId)}/events?offset=now`)
  const response = await fetch(url, { headers, signal: deadline })
  await response.arrayBuffer()
  return response.headers.get('stream-next-offset') ?? undefined
}

/** Sends the message and collects the events of its run, printing each, until the run ends. */
function deliver (options: Options, threadId: string, cursor: string | undefined, deadline: AbortSignal): Promise<AgentEvent[]> {
  const { url, headers } = addressOf(options, '/ws')
  const socket = new WebSocket(url.replace(/^http/, 'ws'), 'agent-events.v1', { headers })
  const clientMessageId = randomUUID()
  const early: { event: AgentEvent, at: number }[] = []
  const events: AgentEvent[] = []
  let runId: string | undefined
  let sentAt = 0

  return new Promise((resolve, reject) => {
    const fail = (message: string) => finish(() => reject(new DeliveryError(events.length === 0 ? message : `${message}; ${verdict(events) ?? 'all five events had come'}`)))
    deadline.addEventListener('abort', () => fail(`the run did not end within ${options.timeoutMs} ms`))
    const finish = (settle: () => void) => {
      socket.close()
      settle()
    }
    const say = (frame: object) => socket.send(JSON.stringify(frame))

    const take = (event: AgentEvent, at: number) => {
      const ours = event.runId === runId || (event.type === 'user_message' && event.data.clientMessageId === clientMessageId)
      if (!ours) return
      events.push(event)
      print(event, at - sentAt)
      if (event.type === 'agent_completed') finish(() => resolve(events))
    }

    const receive = (frame: AgentEvent | ServerFrame, at: number) => {
      switch (frame.type) {
        case 'connected': return say({ type: 'subscribe', ref: 'subscribe', threadId, ...(cursor === undefined ? {} : { cursor }) })
        case 'subscribed': {
          if (frame.ref !== 'subscribe') return
          sentAt = performance.now()
          return say({ type: 'send', ref: 'send', threadId, content: options.message, clientMessageId, ...(options.agent === undefined ? {} : { agent: options.agent }) })
        }
        case 'accepted': {
          // The first events may overtake this answer.
          runId = frame.runId
          for (const { event, at } of early.splice(0)) take(event, at)
          return
        }
        case 'error': return fail(`the server answered ${frame.code}: ${frame.message}`)
        case 'ping': return say({ type: 'pong' })
      }
      if (!('seq' in frame)) return
      if (runId === undefined) early.push({ event: frame, at })
      else take(frame, at)
    }

    socket.on('message', (data) => receive(JSON.parse(String(data)), performance.now()))
    socket.on('error', (error) => fail(`the WebSocket failed: ${error.message}`))
    socket.on('unexpected-response', (_request, response) => fail(`the WebSocket was refused with status ${response.statusCode}`))
    socket.on('close', (code, reason) => fail(`the WebSocket was closed with ${code} ${String(reason)}`.trim()))
  })
}

function print (event: AgentEvent, latencyMs: number): void {
  process.stdout.write(`${String(event.seq).padStart(5)}  ${event.type.padEnd(17)} ${latencyMs.toFixed(1).padStart(8)} ms  ${summary(event)}\n`)
}

function summary (event: AgentEvent): string {
  switch (event.type) {
    case 'user_message': return short(event.data.content)
    case 'agent_started': return event.data.agent
    case 'agent_thinking':
    case 'assistant_message': return `${event.data.phase} ${short(event.data.text)}`
    case 'tool_executing': return `${event.data.tool} ${event.data.phase} ${short(event.data.args)}`
    case 'tool_completed': return `${event.data.tool} ${event.data.status} ${short(event.data.error ?? event.data.output)}`
    case 'agent_completed': return `${event.data.status} ${short(event.data.error ?? event.data.result)}`
    case 'custom': return event.data.name
  }
}

function short (value: unknown): string {
  const text = JSON.stringify(value) ?? ''
  return text.length <= 100 ? text : `${text.slice(0, 99)}…`
}

/** What is wrong with the events of a run; undefined when nothing is. */
function verdict (events: readonly AgentEvent[]): string | undefined {
  const missing = critical.filter((type) => !events.some((event) => event.type === type))
  if (missing.length > 0) return `missing: ${missing.join(', ')}`
  const firsts = critical.map((type) => events.findIndex((event) => event.type === type))
  const wrong = critical.findIndex((_, index) => index > 0 && firsts[index]! < firsts[index - 1]!)
  if (wrong > 0) return `out of order: ${critical[wrong]} came before ${critical[wrong - 1]}`
  const back = events.findIndex((event, index) => index > 0 && event.seq <= events[index - 1]!.seq)
  if (back > 0) return `out of order: seq ${events[back]!.seq} came after ${events[back - 1]!.seq}`
  const end = events.at(-1)!
  return end.type === 'agent_completed' && end.data.status !== 'success' ? `the run ended with ${end.data.status}: ${end.data.error?.message ?? end.data.reason ?? ''}` : undefined
}

// Whatever ends this process early, it is not a success.
process.exitCode = 1
let timer: NodeJS.Timeout | undefined
try {
  const options = readOptions(process.argv.slice(2))
  const expired = new AbortController()
  timer = setTimeout(() => expired.abort(new Error(`no answer within ${options.timeoutMs} ms`)), options.timeoutMs)
  const threadId = await registerThread(options, expired.signal)
  const cursor = options.threadId === undefined ? undefined : await tailOf(options, threadId, expired.signal)
  process.stdout.write(`thread ${threadId}, user ${options.userId}, ${options.url}\n  seq  type                  latency\n`)
  const events = await deliver(options, threadId, cursor, expired.signal)
  const problem = verdict(events)
  if (problem !== undefined) throw new DeliveryError(problem)
  process.stdout.write(`OK: all five critical events came in order, ${events.length} events in all\n`)
  process.exitCode = 0
} catch (error) {
  if (error instanceof UsageError) {
    process.exitCode = 2
    process.stderr.write(`${error.message}\n\n${usage}`)
  } else {
    process.stderr.write(error instanceof DeliveryError ? `FAILED: ${error.message}\n` : `FAILED: ${(error as Error).stack}\n`)
  }
} finally {
  clearTimeout(timer)
}
