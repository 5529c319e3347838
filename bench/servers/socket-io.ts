import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Server } from 'socket.io'
import type { BenchServer } from '../workload.js'

/** socket.io with connection state recovery, over WebSocket only. */
export default async function socketIo (): Promise<BenchServer> {
  const http = createServer()
  const io = new Server(http, { transports: ['websocket'], connectionStateRecovery: {} })
  io.on('connection', (socket) => {
    socket.on('subscribe', (threadId: string) => {
      socket.join(threadId)
      socket.emit('subscribed', threadId)
    })
  })
  let seq = 0
  return {
    async listen () {
      await new Promise<void>((resolve) => { http.listen(0, '127.0.0.1', resolve) })
      return { port: (http.address() as AddressInfo).port, path: '/socket.io/?EIO=4&transport=websocket' }
    },
    async prepare () {},
    emit (thread, text) {
      const threadId = `t${thread}`
      io.to(threadId).emit('event', {
        v: 1,
        id: String(++seq),
        seq,
        type: 'agent_thinking',
        threadId,
        runId: 'run_0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11',
        agentId: 'bench:speaker:0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11',
        timestamp: new Date().toISOString(),
        data: { agent: 'speaker', thinkingId: `thinking_${seq}`, kind: 'status', phase: 'full', text }
      })
    },
    settled: () => new Promise((resolve) => { setTimeout(resolve, 50) })
  }
}
