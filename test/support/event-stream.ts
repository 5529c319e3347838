import { request, type Agent, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import type { AgentEvent } from '../../schemas/index.js'
import { until } from './delivery.js'

/** For busy machines: nothing here is about speed. */
const DEADLINE_MS = 60_000

export interface Message { type: string, data: string, lastEventId: string }
export interface Control { streamNextOffset?: string, streamCursor?: string, upToDate?: boolean, reset?: boolean }

/** One answer of an event stream, parsed as browsers do. Ended with the test. */
export class EventStream {
  status = 0
  headers: IncomingHttpHeaders = {}
  readonly messages: Message[] = []
  readonly events: AgentEvent[] = []
  comments = 0
  lastEventId: string
  body = ''
  hasEnded = false
  response: IncomingMessage | undefined
  readonly request: ClientRequest
  #rest = ''
  #type = ''
  #id: string
  #data: string[] = []

  constructor (t: { teardown (fn: () => unknown): void }, url: string, { headers = {}, lastEventId = '', agent }: { headers?: Record<string, string>, lastEventId?: string, agent?: Agent } = {}) {
    this.lastEventId = this.#id = lastEventId
    this.request = request(url, { headers: { accept: 'text/event-stream', ...headers, ...(lastEventId !== '' && { 'last-event-id': lastEventId }) }, ...(agent !== undefined && { agent }) })
    t.teardown(() => { this.request.destroy() })
    this.request.on('error', () => { this.hasEnded = true })
    this.request.on('response', (response) => {
      this.response = response
      this.status = response.statusCode!
      this.headers = response.headers
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => { this.#read(chunk) })
      response.on('error', () => {})
      response.on('close', () => { this.hasEnded = true })
    })
    this.request.end()
  }

  get controls (): Control[] {
    return this.messages.filter(({ type }) => type === 'control').map(({ data }) => JSON.parse(data) as Control)
  }

  until (condition: (stream: this) => unknown, what: string): Promise<void> {
    return until(() => condition(this), () => `${what}; status ${this.status}, ${this.messages.length} messages, ended ${this.hasEnded}, the last: ${JSON.stringify(this.messages.at(-1))?.slice(0, 300)}`, DEADLINE_MS)
  }

  /** Resolves with its status once the answer has begun. */
  async opened (): Promise<number> {
    await this.until(({ status, hasEnded }) => status > 0 || hasEnded, 'the answer')
    return this.status
  }

  async ended (): Promise<void> {
    await this.until(({ hasEnded }) => hasEnded, 'the end of the stream')
  }

  abort (): void {
    this.request.destroy()
  }

  #read (chunk: string): void {
    this.body += chunk
    const lines = (this.#rest + chunk).split('\n')
    this.#rest = lines.pop()!
    for (const line of lines) this.#line(line)
  }

  #line (line: string): void {
    if (line === '') return this.#dispatch()
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)!
    if (field === '') this.comments++
    else if (field === 'event') this.#type = value!
    else if (field === 'data') this.#data.push(value!)
    else if (field === 'id') this.#id = value!
  }

  #dispatch (): void {
    // Only a whole message counts.
    this.lastEventId = this.#id
    if (this.#data.length > 0) {
      const message = { type: this.#type === '' ? 'message' : this.#type, data: this.#data.join('\n'), lastEventId: this.lastEventId }
      this.messages.push(message)
      if (message.type === 'data') this.events.push(...JSON.parse(message.data) as AgentEvent[])
    }
    this.#type = ''
    this.#data = []
  }
}

/** What a browser's EventSource does: comes back to the same address with the last id it saw, and gives up on any answer but 200. */
export class PlainEventSource {
  readonly streams: EventStream[] = []
  readonly messages: Message[] = []
  isClosed = false
  givenUpWith: number | undefined

  constructor (t: { teardown (fn: () => unknown): void }, url: string | (() => string), headers: Record<string, string> = {}) {
    t.teardown(() => { this.close() })
    this.#run(t, url, headers).catch((error) => { throw error })
  }

  get events (): AgentEvent[] {
    return this.messages.filter(({ type }) => type === 'data').flatMap(({ data }) => JSON.parse(data) as AgentEvent[])
  }

  close (): void {
    this.isClosed = true
    this.streams.at(-1)?.abort()
  }

  async #run (t: { teardown (fn: () => unknown): void }, url: string | (() => string), headers: Record<string, string>): Promise<void> {
    let lastEventId = ''
    while (!this.isClosed) {
      const stream = new EventStream(t, typeof url === 'string' ? url : url(), { headers, lastEventId })
      this.streams.push(stream)
      for (let taken = 0; ;) {
        await new Promise((resolve) => { setTimeout(resolve, 5) })
        const hasEnded = stream.hasEnded
        this.messages.push(...stream.messages.slice(taken))
        taken = stream.messages.length
        if (hasEnded) break
      }
      lastEventId = stream.lastEventId
      if (stream.status !== 0 && stream.status !== 200) {
        this.givenUpWith = stream.status
        return
      }
    }
  }
}
