import websocket, { type WebSocket } from '@fastify/websocket'
import Fastify from 'fastify'
import type { AddressInfo } from 'node:net'
import { delta, thought } from '../events.js'
import type { BenchServer } from './server.js'

/** @fastify/websocket alone, and a set of sockets for each thread. */
export default async function alone (): Promise<BenchServer> {
  const app = Fastify()
  await app.register(websocket, { options: { perMessageDeflate: false } })
  const watchers = new Map<string, Set<WebSocket>>()
  app.get('/ws', { websocket: true }, (socket) => {
    socket.on('message', (data) => {
      const { threadId } = JSON.parse(String(data)) as { threadId: string }
      watchers.get(threadId)!.add(socket)
      socket.once('close', () => { watchers.get(threadId)!.delete(socket) })
      socket.send(JSON.stringify({ type: 'subscribed', threadId }))
    })
  })
  await app.listen({ port: 0, host: '127.0.0.1' })

  let seq = 0
  function send (thread: number, event: object): void {
    for (const socket of watchers.get(`t${thread}`)!) socket.send(JSON.stringify(event))
  }
  return {
    url: `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}/ws`,
    async addThreads (count) { for (let i = 0; i < count; i++) watchers.set(`t${i}`, new Set()) },
    think (thread, text) { send(thread, thought(thread, ++seq, text)) },
    async say (pieces) { for await (const piece of pieces) send(0, delta(0, ++seq, piece)) }
  }
}
