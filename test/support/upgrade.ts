import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { WebSocket, type ClientOptions } from 'ws'
import { SUBPROTOCOL } from '../../schemas/index.js'
import { Receiver } from './connect.js'

/** The HTTP answer to an upgrade that is none. */
export interface Refusal { status: number, code: string, text: string }

/** Asks for a WebSocket at /ws: what it receives, or the server's refusal. Closed with the test. */
export async function upgrade (t: { teardown (fn: () => unknown): void }, url: string, query: string, options: ClientOptions = {}): Promise<Receiver | Refusal> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?${query}`, SUBPROTOCOL, options)
  t.teardown(() => { socket.terminate() })
  // At once: the first frame may be in the packet of the handshake.
  const receiver = new Receiver(socket)
  const response = await Promise.race([once(socket, 'open').then(() => undefined), once(socket, 'unexpected-response').then(([, answer]) => answer as IncomingMessage)])
  if (response === undefined) return receiver
  let text = ''
  for await (const chunk of response) text += String(chunk)
  return { status: response.statusCode!, code: text.startsWith('{') ? (JSON.parse(text) as { code: string }).code : '', text }
}
