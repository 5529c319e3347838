import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer, WebSocket } from 'ws'
import type { BenchServer } from '../workload.js'

/** Hand-written sockets: JSON.stringify and send per socket, no log, no guarantees. */
export default async function handWritten (): Promise<BenchServer> {
  const http = createServer()
  const sockets = new WebSocketServer({ server: http, perMessageDeflate: false })
  const watchers = new Map<string, Set<WebSocket>>()
  sockets.on('connection', (socket) => {
    socket.on('message', (data) => {
      const { threadId } = JSON.parse(String(data)) as { threadId: string }
      watchers.get(threadId)!.add(socket)
      socket.send(JSON.stringify({ type: 'subscribed', threadId }))
    })
  })
  const runId = `run_${randomUUID()}`
  const agentId = `bench:speaker:${randomUUID()}`
  let seq = 0
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
        runId,
        agentId,
        timestamp: new Date().toISOString(),
        data: { agent: 'speaker', thinkingId: `thinking_${seq}`, kind: 'status', phase: 'full', text }
      }
      for (const socket of watchers.get(threadId)!) if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(event))
    },
    settled: () => new Promise((resolve) => { setTimeout(resolve, 50) })
  }
}
