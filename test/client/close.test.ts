import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { triage } from '../support/agents.js'
import { startApp } from '../support/start-app.js'
import { TcpProxy } from '../support/tcp-proxy.js'
import { until } from './helpers.js'
import { childEnv } from '../support/child-env.js'

/** What a client may be doing when it is closed; `fault` is what the network does to what is asked with it. */
const moments = [
  { options: { transport: 'websocket' }, is: 'live' },
  { options: { transport: 'websocket', headers: { 'x-user-id': 'u' } }, is: 'live' },
  { options: { transport: 'websocket' }, fault: 'stall', is: 'connecting' },
  { options: { transport: 'websocket' }, fault: 'cut', is: 'offline' },
  { options: { transport: 'sse' }, is: 'live' },
  { options: { transport: 'sse' }, fault: 'stall', is: 'connecting' },
  { options: { transport: 'sse' }, fault: 'cut', is: 'offline' },
  { options: { transport: 'polling' }, is: 'degraded' },
  { options: { transport: 'auto', backoff: { initialMs: 1, maxMs: 100 } }, fault: 'cut-sockets', is: 'live' },
  { options: { transport: 'auto', backoff: { initialMs: 1, maxMs: 100 } }, fault: 'cut-streams', is: 'degraded' }
] as const

/** Closes a client at each of these moments, and says what it left behind; ends by itself, when nothing keeps it. */
const script = (url: string) => `
  import { WebSocket } from 'ws'
  import { createClient } from ${JSON.stringify(new URL('../../client/index.ts', import.meta.url).href)}
  let listeners = 0
  const page = {
    visibilityState: 'visible',
    addEventListener () { listeners++ },
    removeEventListener () { listeners-- }
  }
  Object.assign(globalThis, page, { document: page })
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
  for (const { options, fault = 'none', is } of ${JSON.stringify(moments)}) {
    const client = createClient({ url: ${JSON.stringify(url)}, query: { userId: 'u', fault }, WebSocket, storage: { getItem: () => null, setItem () {}, removeItem () {} }, backoff: { initialMs: 1e9, maxMs: 1e9 }, connectTimeoutMs: 1e9, ...options })
    const thread = client.thread('t')
    let events = 0
    thread.onAny(() => { events++ })
    await new Promise((resolve) => { const timer = setInterval(() => { if (client.status === is && (!client.connected || events > 0)) resolve(clearInterval(timer)) }, 2) })
    const sent = thread.send('hi').catch(({ code }) => code)
    const ahead = thread[Symbol.asyncIterator]().next().catch(({ code }) => code)
    const used = { timers: timers(), listeners }
    await client.close()
    await Promise.all([sent, ahead])
    // what was asked by HTTP is told that it is over, and lets go a moment later
    for (const since = Date.now(); timers() > 0 && Date.now() - since < 5_000;) await new Promise((resolve) => { setImmediate(resolve) })
    console.log(JSON.stringify({ is, transport: options.transport, fault, used, left: { timers: timers(), listeners } }))
  }`

t.test('close() leaves nothing behind, whatever the client is doing: no timer, no listener, no socket, and the process ends', async (t) => {
  const { app, port } = await startApp(t, { agents: [triage] })
  const proxy = await TcpProxy.start(t, port, { plain: true })
  proxy.onRequest = (text) => {
    if (text.includes('fault=stall')) return 'stall'
    if (text.includes('fault=cut&') || text.includes('fault=cut ')) return 'cut'
    if (text.includes('fault=cut-') && text.includes('/ws?')) return 'cut'
    return text.includes('fault=cut-streams') && text.includes('live=sse') ? 'cut' : undefined
  }
  await app.threads.register({ userId: 'u', threadId: 't' })
  await app.notifier.sendToThread('t', { type: 'user_message', data: { messageId: 'm', content: 'hello' } })

  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script(proxy.url)], { stdio: ['ignore', 'pipe', 'inherit'], env: childEnv })
  const deadline = setTimeout(() => child.kill('SIGKILL'), 60_000)
  t.teardown(() => { clearTimeout(deadline); child.kill('SIGKILL') })
  let said = ''
  child.stdout.on('data', (text) => { said += String(text) })
  t.same(await once(child, 'close'), [0, null], 'nothing keeps the process')

  const lines = said.trim().split('\n').map((line) => JSON.parse(line))
  t.equal(lines.length, moments.length)
  for (const { is, transport, fault, used, left } of lines) {
    t.same(left, { timers: 0, listeners: 0 }, `${transport}, ${fault}, ${is}`)
    t.ok(used.listeners === 4 && used.timers > 0, `it had used ${JSON.stringify(used)}`)
  }
  const { hub } = app.notifier
  await until(() => hub.connections.size === 0 && hub.streams.size === 0 && hub.feeds.size === 0)
})
