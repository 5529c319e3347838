/// <reference lib="dom" />
import { createClient, type AgentEvent, type Client, type Thread, type TransportName } from 'fastify-agent-events/client'

/*
 * A page of a host, in the browser. Its address says who is asking and what is read: ?userId=…&threadId=…, with &token to
 * show a token that the host gives at /token, and with &kept to go on after a reload where it was.
 */

export interface Received { readonly event: AgentEvent, readonly transport: TransportName | undefined }

export interface HostPage {
  readonly client: Client
  readonly thread: Thread
  /** What was handed out since the last reset, of earlier loads too if it is kept. */
  received: Received[]
  resets: number
  /** What the client was, in turn. */
  readonly statuses: string[]
  readonly errors: string[]
}

declare global {
  var host: HostPage
}

const asked = new URLSearchParams(location.search)
const isKept = asked.has('kept')
const client = createClient({
  url: '/',
  ...(asked.has('userId') && { query: { userId: asked.get('userId')! } }),
  ...(asked.has('token') && { headers: async () => ({ authorization: `Bearer ${await (await fetch('/token', { cache: 'no-store' })).text()}` }) }),
  ...(isKept && { storage: localStorage }),
  backoff: { initialMs: 20, maxMs: 200 },
  connectTimeoutMs: 2_000,
  onHandlerError: (error) => { host.errors.push(String(error)) }
})
const thread = client.thread(asked.get('threadId')!)
const host: HostPage = globalThis.host = {
  client,
  thread,
  received: JSON.parse(isKept ? localStorage.getItem('received') ?? '[]' : '[]') as Received[],
  resets: 0,
  statuses: [],
  errors: []
}
client.onStatus((status) => { host.statuses.push(status) })
thread.onReset(() => {
  host.resets++
  host.received = []
})
thread.onAny((event) => {
  host.received.push({ event, transport: client.transport })
  // as a page that keeps what it shows: it has it before its cursor moves on
  if (isKept) localStorage.setItem('received', JSON.stringify(host.received))
})
