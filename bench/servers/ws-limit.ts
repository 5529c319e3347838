import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { WebSocketServer, WebSocket } from 'ws'
import type { BenchServer } from '../workload.js'

/** The limit: framed once for all, written to the bare sockets, one system call per socket and turn. No log, no guarantees. */
export default async function limit (): Promise<BenchServer> {
  const http = createServer()
  const sockets = new WebSocketServer({ server: http, perMessageDeflate: false })
  const watchers = new Map<string, Set<Socket>>()
  const corked = new Set<Socket>()
  let isScheduled = false
  let seq = 0
  sockets.on('connection', (socket: WebSocket & { _socket: Socket }) => {
    socket.on('message', (data) => {
      const { threadId } = JSON.parse(String(data)) as { threadId: string }
      watchers.get(threadId)!.add(socket._socket)
      socket.send(JSON.stringify({ type: 'subscribed', threadId }))
    })
  })
  return {
    async listen () {
      await new Promise<void>((resolve) => { http.listen(0, '127.0.0.1', resolve) })
      return { port: (http.address() as AddressInfo).port, path: '/' }
    },
    async prepare (threads) {
      for (let i = 0; i < threads; i++) watchers.set(`t${i}`, new Set())
    },
    emit (thread, text) {
      const threadId = `t${thread}`
      const event = {
        v: 1,
        id: String(++seq),
        seq,
        type: 'agent_thinking',
        threadId,
        runId: 'run_0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11',
        agentId: 'bench:speaker:0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11',
        timestamp: new Date().toISOString(),
        data: { agent: 'speaker', thinkingId: `thinking_${seq}`, kind: 'status', phase: 'full', text }
      }
      const frame = Buffer.concat(frames(JSON.stringify(event)))
      for (const socket of watchers.get(threadId)!) {
        if (!corked.has(socket)) {
          socket.cork()
          corked.add(socket)
        }
        socket.write(frame)
      }
      if (isScheduled) return
      isScheduled = true
      setImmediate(() => {
        isScheduled = false
        for (const socket of corked) socket.uncork()
        corked.clear()
      })
    },
    settled: () => new Promise((resolve) => { setTimeout(resolve, 50) })
  }
}

function frames (text: string): Buffer[] {
  const payload = Buffer.from(text)
  const header = payload.length < 126 ? Buffer.from([0x81, payload.length]) : Buffer.from([0x81, 126, payload.length >> 8, payload.length & 255])
  return [header, payload]
}
