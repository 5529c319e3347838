import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { WebSocket, type ClientOptions } from 'ws'
import { SUBPROTOCOL } from '../../schemas/index.js'

/** The HTTP answer to an upgrade that is none. */
export interface Refusal { status: number, code: string, text: string }

/** Asks for a WebSocket at /ws: an open one, or the server's refusal. Closed with the test. */
export async function upgrade (t: { teardown (fn: () => unknown): void }, url: string, query: string, options: ClientOptions = {}): Promise<WebSocket | Refusal> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?${query}`, SUBPROTOCOL, options)
  t.teardown(() => { socket.terminate() })
  socket.on('error', () => {})
  const response = await Promise.race([once(socket, 'open').then(() => undefined), once(socket, 'unexpected-response').then(([, answer]) => answer as IncomingMessage)])
  if (response === undefined) return socket
  let text = ''
  for await (const chunk of response) text += String(chunk)
  return { status: response.statusCode!, code: text.startsWith('{') ? (JSON.parse(text) as { code: string }).code : '', text }
}
