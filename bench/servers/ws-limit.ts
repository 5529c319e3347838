import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { WebSocketServer, type WebSocket } from 'ws'
import { delta, thought } from '../events.js'
import type { BenchServer } from './server.js'

/** The limit: framed once for all, written to the bare sockets, one system call per socket and turn. No log, no guarantees. */
export default async function limit (): Promise<BenchServer> {
  const http = createServer()
  const sockets = new WebSocketServer({ server: http, perMessageDeflate: false })
  const watchers = new Map<string, Set<Socket>>()
  sockets.on('connection', (socket: WebSocket & { _socket: Socket }) => {
    socket.on('message', (data) => {
      const { threadId } = JSON.parse(String(data)) as { threadId: string }
      watchers.get(threadId)!.add(socket._socket)
      socket.send(JSON.stringify({ type: 'subscribed', threadId }))
    })
  })
  await new Promise<void>((resolve) => { http.listen(0, '127.0.0.1', resolve) })

  const seqs: number[] = []
  const corked = new Set<Socket>()
  function send (thread: number, event: object): void {
    const bytes = frame(JSON.stringify(event))
    if (corked.size === 0) setImmediate(uncork)
    for (const socket of watchers.get(`t${thread}`)!) {
      if (!corked.has(socket)) {
        socket.cork()
        corked.add(socket)
      }
      socket.write(bytes)
    }
  }
  function uncork (): void {
    for (const socket of corked) socket.uncork()
    corked.clear()
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

/** A text frame of 126 bytes to 64 KiB, as all events of the bench are. */
function frame (text: string): Buffer {
  const length = Buffer.byteLength(text)
  const bytes = Buffer.allocUnsafe(4 + length)
  bytes[0] = 0x81
  bytes[1] = 126
  bytes.writeUInt16BE(length, 2)
  bytes.write(text, 4)
  return bytes
}
