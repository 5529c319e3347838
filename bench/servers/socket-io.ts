import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdapter } from '@socket.io/redis-streams-adapter'
import { Redis } from 'ioredis'
import { Server } from 'socket.io'
import { delta, thought } from '../events.js'
import type { BenchServer } from './server.js'

/** socket.io with connection state recovery, over WebSocket only; on several nodes with its adapter for Redis streams. */
export default async function socketIo ({ redis, pingInterval = 25_000 }: { redis?: string, pingInterval?: number }): Promise<BenchServer> {
  const http = createServer()
  const io = new Server(http, {
    transports: ['websocket'],
    connectionStateRecovery: {},
    pingInterval,
    ...(redis !== undefined && { adapter: createAdapter(new Redis(redis)) })
  })
  io.on('connection', (socket) => {
    socket.on('subscribe', (threadId: string) => {
      socket.join(threadId)
      socket.emit('subscribed', threadId)
    })
  })
  await new Promise<void>((resolve) => { http.listen(0, '127.0.0.1', resolve) })

  const seqs: number[] = []
  return {
    url: `ws://127.0.0.1:${(http.address() as AddressInfo).port}/socket.io/?EIO=4&transport=websocket`,
    async addThreads (count) { seqs.push(...new Array<number>(count).fill(0)) },
    think (thread, text) { io.to(`t${thread}`).emit('event', thought(thread, ++seqs[thread]!, text)) },
    async say (pieces) {
      for await (const piece of pieces) io.to('t0').emit('event', delta(0, ++seqs[0]!, piece))
    }
  }
}
