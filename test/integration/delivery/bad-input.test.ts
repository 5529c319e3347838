import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import t from 'tap'
import { WebSocket } from 'ws'
import { MemoryStore } from '../../../plugins/store/index.js'
import { SUBPROTOCOL } from '../../../schemas/index.js'
import { triage } from '../../support/agents.js'
import { connect, type Receiver } from '../../support/connect.js'
import { turn, until, untilEmpty, wrapStore } from '../../support/delivery.js'
import { startApp } from '../../support/start-app.js'

/** Still there, and answers. */
async function isAlive (tab: Receiver, threadId: string): Promise<void> {
  const ref = String(Math.random())
  tab.send({ type: 'subscribe', ref, threadId })
  await tab.frame('subscribed', (frame) => frame.ref === ref)
}

t.test('every frame that makes no sense gets an answer that names what is wrong with it', async (t) => {
  const { app, url } = await startApp(t, { agents: [triage], limits: { maxBadFrames: 1_000, framesPerSecond: 1_000 } })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  const bad: Array<[what: string, frame: string | Buffer, says: RegExp]> = [
    ['no JSON', 'hello', /expected JSON/],
    ['nothing', '', /expected JSON/],
    ['half of it', '{"type":"pong"', /expected JSON/],
    ['no UTF-16', '{"type":"\\ud800"}', /type/],
    ['binary', Buffer.from('{"type":"pong"}'), /expected a text frame/],
    ['a number', '12', /\(root\)/],
    ['null', 'null', /\(root\)/],
    ['a list', '[]', /\(root\)|type/],
    ['deep', nested(30_000), /\(root\)|type/],
    ['deep inside', `{"type":"pong","x":${nested(20_000)}}`, /x/],
    ['no type', '{"threadId":"t"}', /type/],
    ['unknown type', '{"type":"shout"}', /type/],
    ['a type of the server', '{"type":"connected"}', /type/],
    ['a type of every object', '{"type":"constructor"}', /type/],
    ['__proto__', '{"type":"__proto__"}', /type/],
    ['no thread', '{"type":"subscribe","ref":"a"}', /threadId/],
    ['an empty thread', '{"type":"subscribe","threadId":""}', /threadId/],
    ['a thread of another type', '{"type":"subscribe","threadId":7}', /threadId/],
    ['a misspelt field', '{"type":"subscribe","threadId":"t","curser":"x"}', /curser/],
    ['an empty ref', '{"type":"subscribe","threadId":"t","ref":""}', /ref/],
    ['an ack without a cursor', '{"type":"ack","threadId":"t"}', /cursor/],
    ['a send without content', '{"type":"send","ref":"a","threadId":"t"}', /content|input|root/],
    ['a send with odd content', '{"type":"send","ref":"a","threadId":"t","content":[{"type":"pie"}]}', /content/],
    ['a cancel of nothing', '{"type":"cancel"}', /runId/]
  ]
  for (const [what, frame, says] of bad) {
    const before = tab.frames.length
    tab.socket.send(frame)
    await tab.until(() => tab.frames.length > before, what)
    const answer = tab.frames[before]!
    t.equal(answer.type, 'error', what)
    if (answer.type !== 'error') continue
    t.equal(answer.code, 'FAE_ERR_FRAME_INVALID', what)
    t.match(answer.message, says, what)
    t.ok(answer.message.length <= 1_000)
  }
  const refused: Array<[what: string, frame: Record<string, unknown>, code: string]> = [
    ['an unknown thread', { type: 'subscribe', ref: 'r', threadId: 'nowhere' }, 'FAE_ERR_THREAD_NOT_FOUND'],
    ['a very long thread', { type: 'subscribe', ref: 'r', threadId: 'x'.repeat(30_000) }, 'FAE_ERR_THREAD_NOT_FOUND'],
    ['a thread with a lone surrogate', { type: 'subscribe', ref: 'r', threadId: '\ud800' }, 'FAE_ERR_THREAD_NOT_FOUND'],
    ['a cursor that is none', { type: 'subscribe', ref: 'r', threadId, cursor: '12' }, 'FAE_ERR_CURSOR_INVALID'],
    ['an unknown run', { type: 'cancel', ref: 'r', runId: 'run_1' }, 'FAE_ERR_RUN_NOT_FOUND'],
    ['an unknown agent', { type: 'send', ref: 'r', threadId, content: 'x', agent: 'constructor' }, 'FAE_ERR_AGENT_NOT_FOUND'],
    ['an input that does not fit', { type: 'send', ref: 'r', threadId, input: { message: 7 } }, 'FAE_ERR_AGENT_INPUT'],
    ['a refresh, which this server does not know', { type: 'refresh', ref: 'r', token: 'x' }, 'FAE_ERR_BAD_REQUEST'],
    ['an ack of what is not subscribed', { type: 'ack', threadId: 'nowhere', cursor: 'x' }, 'FAE_ERR_NOT_SUBSCRIBED']
  ]
  for (const [what, frame, code] of refused) {
    const before = tab.frames.length
    tab.send(frame)
    await tab.until(() => tab.frames.length > before, what)
    t.match(tab.frames[before], { type: 'error', code, ...(frame.ref !== undefined && { ref: 'r' }) }, what)
  }
  // Valid on the surface: too deep for whatever stores or reads it.
  tab.socket.send(`{"type":"send","ref":"deep","threadId":${JSON.stringify(threadId)},"input":{"message":"x","more":${nested(20_000)}}}`)
  await tab.until(() => tab.frames.some((frame) => (frame.type === 'error' || frame.type === 'accepted') && frame.ref === 'deep'))
  t.equal(tab.closeCode, undefined)
  await isAlive(tab, threadId)
})

t.test('twenty bad frames: 4400, and nothing after it is looked at', async (t) => {
  const { app, url } = await startApp(t, { agents: [triage] })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  for (let i = 0; i < 19; i++) tab.socket.send('?')
  await isAlive(tab, threadId)
  tab.socket.send('?')
  // in the same breath: it must not start anything any more
  tab.send({ type: 'send', ref: 'late', threadId, content: 'too late' })
  t.equal(await tab.closed(), 4400)
  t.equal(tab.frames.filter(({ type }) => type === 'error').length, 20)
  await turn()
  t.same(await app.notifier.history(threadId), [])
  await untilEmpty(app)
})

t.test('a frame over maxPayload: 1009, others stay', async (t) => {
  const { app, url } = await startApp(t, { limits: { maxPayload: 10_000 } })
  const other = await connect(t, url, 'u')
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId: 'x'.repeat(20_000) })
  t.equal(await tab.closed(), 1009)
  const { threadId } = await app.threads.register({ userId: 'u' })
  await isAlive(other, threadId)
  await until(() => app.notifier.hub.connections.size === 1)
})

t.test('floods: 4429, of whatever kind', async (t) => {
  const { app, url } = await startApp(t, { limits: { framesPerSecond: 20 } })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const floods: Array<[what: string, send: (socket: WebSocket) => void, times: number]> = [
    ['frames', (socket) => { socket.send(JSON.stringify({ type: 'unsubscribe', threadId })) }, 200],
    ['pongs', (socket) => { socket.send('{"type":"pong"}') }, 2_000],
    ['acknowledgements', (socket) => { socket.send(JSON.stringify({ type: 'ack', threadId, cursor: 'x' })) }, 2_000],
    ['protocol pings', (socket) => { socket.ping() }, 200],
    ['protocol pongs', (socket) => { socket.pong() }, 200]
  ]
  for (const [what, send, times] of floods) {
    await t.test(what, async (t) => {
      const tab = await connect(t, url, 'u')
      for (let i = 0; i < times; i++) send(tab.socket)
      // of pings that it has to answer ws itself has enough at some point, and says no code
      t.ok([4429, ...(what === 'protocol pings' ? [1006] : [])].includes(await tab.closed()), `${tab.closeCode}`)
    })
  }
  await untilEmpty(app)
  const tab = await connect(t, url, 'u')
  await isAlive(tab, threadId)
})

t.test('bytes that are no frames at all, at any point of the conversation', async (t) => {
  const { app, url, port } = await startApp(t)
  const garbage: Array<[what: string, bytes: Buffer]> = [
    ['unmasked', Buffer.from([0x81, 0x02, 0x7b, 0x7d])],
    ['reserved bits', Buffer.from([0xf1, 0x80, 0, 0, 0, 0])],
    ['a reserved opcode', Buffer.from([0x83, 0x80, 0, 0, 0, 0])],
    ['a continuation of nothing', Buffer.from([0x80, 0x80, 0, 0, 0, 0])],
    ['a length beyond reason', Buffer.from([0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])],
    ['text that is no UTF-8', masked(Buffer.from([0xc3, 0x28]), 0x81)],
    ['noise', randomBytes(4_096)]
  ]
  for (const [what, bytes] of garbage) {
    const socket = await handshake(port, 'u')
    await until(() => app.notifier.hub.connections.size === 1, what)
    socket.write(bytes)
    await Promise.race([once(socket, 'close'), once(socket, 'end')])
    socket.destroy()
    await untilEmpty(app)
  }
  const { threadId } = await app.threads.register({ userId: 'u' })
  await isAlive(await connect(t, url, 'u'), threadId)
})

t.test('first frame in the same packet as the handshake: not lost', async (t) => {
  const { app, port } = await startApp(t)
  const { threadId } = await app.threads.register({ userId: 'u' })
  await app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'first' } })
  const frames = [{ type: 'subscribe', ref: 'early', threadId }, { type: 'unsubscribe', ref: 'then', threadId: 'another' }]
  const socket = await handshake(port, 'u', Buffer.concat(frames.map((frame) => masked(Buffer.from(JSON.stringify(frame))))))
  t.teardown(() => { socket.destroy() })
  let text = ''
  socket.on('data', (chunk) => { text += String(chunk) })
  await until(() => text.includes('"ref":"early"') && text.includes('"ref":"then"') && text.includes('"content":"first"'))
  t.ok(text.indexOf('"connected"') < text.indexOf('"subscribed"') && text.indexOf('"subscribed"') < text.indexOf('"content":"first"'), 'in order')
})

t.test('subscriptions per connection', async (t) => {
  const { app, url } = await startApp(t, { limits: { subscriptionsPerConnection: 3, framesPerSecond: 1_000 } })
  const threads = await Promise.all(Array.from({ length: 10 }, async () => app.threads.register({ userId: 'u' })))
  const tab = await connect(t, url, 'u')
  for (const [i, { threadId }] of threads.entries()) tab.send({ type: 'subscribe', ref: `${i}`, threadId })
  await tab.until(() => tab.frames.length === 11)
  t.equal(tab.frames.filter(({ type }) => type === 'subscribed').length, 3)
  t.same(tab.frames.filter((frame) => frame.type === 'error' && frame.code === 'FAE_ERR_SUBSCRIPTION_LIMIT').length, 7)
  t.equal(app.notifier.hub.feeds.size, 3)
  tab.send({ type: 'unsubscribe', threadId: threads[0]!.threadId })
  await isAlive(tab, threads[9]!.threadId)
  // a second socket has its own
  await isAlive(await connect(t, url, 'u'), threads[9]!.threadId)
})

t.test('connections per user: a real 429 before the upgrade', async (t) => {
  const { app, url } = await startApp(t, { limits: { connectionsPerUser: 2 } })
  const tabs = [await connect(t, url, 'u'), await connect(t, url, 'u')]
  const refused = new WebSocket(`${url.replace('http', 'ws')}/ws?userId=u`, SUBPROTOCOL)
  const [, response] = await once(refused, 'unexpected-response') as [unknown, { statusCode: number }]
  t.equal(response.statusCode, 429)
  await connect(t, url, 'another user')
  tabs[0]!.close()
  await until(() => app.notifier.hub.connectionsOf('u').size === 1)
  await connect(t, url, 'u')
})

t.test('many connections of a user at once find no more room than there is', async (t) => {
  const limit = 2
  // They are let in together: every one of them has asked for room before the first one has taken any.
  const waiting: Array<() => void> = []
  const { store } = wrapStore({
    async inbox (this: MemoryStore, userId: string) {
      await new Promise<void>((resolve) => { if (waiting.push(resolve) === 10) for (const go of waiting) go() })
      return MemoryStore.prototype.inbox.call(this, userId)
    }
  })
  const { app, url } = await startApp(t, { store, limits: { connectionsPerUser: limit } })
  const codes: number[] = []
  for (let i = 0; i < 10; i++) {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?userId=u`, SUBPROTOCOL)
    t.teardown(() => { socket.terminate() })
    socket.on('error', () => {})
    socket.on('close', (code) => { codes.push(code) })
  }
  await until(() => codes.length === 10 - limit, () => `the others to go: ${codes}`)
  t.equal(app.notifier.hub.connectionsOf('u').size, limit)
  t.ok(codes.every((code) => code === 4429 || code === 1006), `${codes}`)
})

/** A raw socket that has sent its upgrade, with `more` in the same packet, and was answered 101. */
async function handshake (port: number, userId: string, more = Buffer.alloc(0)): Promise<Socket> {
  const socket = connectTcp(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(Buffer.concat([Buffer.from([
    `GET /ws?userId=${userId} HTTP/1.1`,
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
    `Sec-WebSocket-Protocol: ${SUBPROTOCOL}`,
    '\r\n'
  ].join('\r\n')), more]))
  if (more.length === 0) await once(socket, 'data')
  return socket
}

/** One frame as clients send them. */
function masked (payload: Buffer, first = 0x81): Buffer {
  const mask = randomBytes(4)
  return Buffer.concat([Buffer.from([first, 0x80 | payload.length]), mask, payload.map((byte, i) => byte ^ mask[i % 4]!)])
}
