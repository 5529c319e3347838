import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { WireServer } from './wire-server.js'
import { childEnv } from '../support/child-env.js'

t.test('the code of the fallback is on its way for ever: the WebSocket is tried again in time', async (t) => {
  const server = await WireServer.start()
  t.teardown(() => server.close())
  server.greet = ({ socket }) => {
    if (server.peers.length > 2) return false
    socket.close(1012)
    return true
  }
  // a network that swallows one file
  const hooks = `export async function load (url, context, next) {
    if (url.includes('/client/fallback.')) { console.log('asked for'); await new Promise(() => { setInterval(() => {}, 1e9) }) }
    return next(url, context)
  }`
  const script = `
    import { register } from 'node:module'
    import { WebSocket } from 'ws'
    import { createClient } from ${JSON.stringify(new URL('../../client/index.ts', import.meta.url).href)}
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)})
    const client = createClient({ url: ${JSON.stringify(server.url)}, WebSocket, backoff: { initialMs: 1, maxMs: 2 }, connectTimeoutMs: 1_000 })
    await client.connect()
    console.log(client.transport)
    process.exit()`
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'], env: childEnv })
  const deadline = setTimeout(() => child.kill(), 30_000)
  t.teardown(() => { clearTimeout(deadline); child.kill() })
  let said = ''
  child.stdout.on('data', (text) => { said += String(text) })
  await once(child, 'close')
  t.match(said, /asked for/)
  t.match(said, /websocket\n$/)
  t.equal(server.peers.length, 3)
})
