import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer, WebSocket } from 'ws'
import { delta, thought } from '../events.js'
import type { BenchServer } from './server.js'

/** Hand-written sockets: JSON.stringify and send for each socket, no log, no guarantees. */
export default async function handWritten (): Promise<BenchServer> {
  const http = createServer()
  const sockets = new WebSocketServer({ server: http, perMessageDeflate: false })
  const watchers = new Map<string, Set<WebSocket>>()
  sockets.on('connection', (socket) => {
    socket.on('message', (data) => {
      const { threadId } = JSON.parse(String(data)) as { threadId: string }
      watchers.get(threadId)!.add(socket)
      socket.once('close', () => { watchers.get(threadId)!.delete(socket) })
      socket.send(JSON.stringify({ type: 'subscribed', threadId }))
    })
  })
  await new Promise<void>((resolve) => { http.listen(0, '127.0.0.1', resolve) })

  const seqs: number[] = []
  function send (thread: number, event: object): void {
    for (const socket of watchers.get(`t${thread}`)!) if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(event))
  }
  return {
    url: `ws://127.0.0.1:${(http.address() as AddressInfo).port}/`,
    async addThreads (count) {
      for (let i = 0; i < count; i++) {
        watchers.set(`t${i}`, new Set())
        seqs[i] = 0
      }
    },
    think (thread, text) { send(thread, thought(thread, ++seqs[thread]!, text)) },
    async say (pieces) {
      for await (const piece of pieces) send(0, delta(0, ++seqs[0]!, piece))
    }
  }
}
