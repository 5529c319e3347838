/* All watchers of one job, in a process of their own: connect, subscribe, count. */
import { WebSocket } from 'ws'

interface Start { port: number, path: string, kind: string, threads: number, watchers: number }

const EVENT = Buffer.from('agent_thinking')
let received = 0

process.on('message', async (message: { start: Start } | 'count') => {
  if (message === 'count') {
    process.send!({ received })
    return
  }
  const { port, path, kind, threads, watchers } = message.start
  const sockets: Array<Promise<void>> = []
  for (let thread = 0; thread < threads; thread++) for (let i = 0; i < watchers; i++) sockets.push(watch(`ws://127.0.0.1:${port}${path}`, kind, `t${thread}`))
  await Promise.all(sockets)
  process.send!({ ready: true })
})
process.on('disconnect', () => { process.exit() })

function watch (url: string, kind: string, threadId: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { perMessageDeflate: false })
    socket.on('error', reject)
    if (kind !== 'socket-io') socket.on('open', () => { socket.send(JSON.stringify({ type: 'subscribe', threadId })) })
    socket.on('message', (data: Buffer) => {
      if (data.includes(EVENT)) {
        received++
        return
      }
      const text = String(data)
      // Engine.IO's and Socket.IO's own handshake and pings.
      if (kind === 'socket-io' && text.startsWith('0')) socket.send('40')
      else if (kind === 'socket-io' && text.startsWith('40')) socket.send(`42${JSON.stringify(['subscribe', threadId])}`)
      else if (kind === 'socket-io' && text === '2') socket.send('3')
      else if (text.includes('"ping"')) socket.send('{"type":"pong"}')
      if (text.includes('subscribed')) resolve()
    })
  })
}
