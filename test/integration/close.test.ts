import t, { type Test } from 'tap'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectTcp, type Socket } from 'node:net'
import { WebSocket } from 'ws'
import { SUBPROTOCOL, closeCodes } from '../../schemas/index.js'
import { Type, defineAgent, type AgentEventsOptions, type AnyAgent } from '../../index.js'
import { Receiver, connect } from '../support/connect.js'
import { brokenRules } from '../support/run-rules.js'
import { startApp, type StartedApp } from '../support/start-app.js'

/*
 * app.close(): runs get their terminal event, sockets get goaway, their last events and their code, and whoever does not
 * answer is cut off. How long that may take is bounded by the deadline of each test alone.
 */

const DEADLINE_MS = 20_000

async function within<T> (promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => { reject(new Error(`${what} took longer than ${DEADLINE_MS} ms`)) }, DEADLINE_MS) })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** An upgraded socket that never answers anything; one that is paused never even reads. */
async function rawSocket (t: Test, { port }: StartedApp, userId: string, threadId: string, isPaused: boolean): Promise<Socket> {
  const socket = connectTcp({ port, host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => { socket.destroy() })
  socket.on('error', () => {})
  socket.write([
    `GET /ws?userId=${userId} HTTP/1.1`, 'Host: x', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`, `Sec-WebSocket-Protocol: ${SUBPROTOCOL}`, '', ''
  ].join('\r\n'))
  await once(socket, 'data')
  const payload = Buffer.from(JSON.stringify({ type: 'subscribe', threadId }))
  // A client's frame is masked; with a mask of zeros it is itself.
  socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]))
  if (isPaused) socket.pause()
  else socket.resume()
  return socket
}

const stubborn = defineAgent({
  name: 'stubborn',
  description: 'Talks until it is ended, and then tries on',
  async run (_input, ctx) {
    for (let i = 0; !ctx.signal.aborted; i++) {
      await ctx.emit('note', i)
      await new Promise((resolve) => { setTimeout(resolve, 250) })
    }
    ctx.say('I am not done')
    await new Promise(() => {})
  }
})

const options: Partial<AgentEventsOptions> = { agents: [stubborn as AnyAgent], events: { note: Type.Any() }, closeGraceMs: 100 }

t.test('1,000 sockets, a hundred of which do not answer, and 50 live runs', async (t) => {
  // Who does not answer is not to be cut before, however long it takes until all are there.
  const started = await startApp(t, { ...options, heartbeat: { intervalMs: 3_600_000 } })
  const { app, url } = started
  const runs = await Promise.all(Array.from({ length: 50 }, async (_, i) => {
    const userId = `u${i}`
    const { threadId } = await app.threads.register({ userId })
    const agent = await app.agents.createForUser(stubborn, { userId, threadId })
    return { userId, threadId, runId: agent.runId, settled: agent.execute({ message: '' }).catch((error: unknown) => error) }
  }))
  const answering: Array<{ tab: Receiver, threadId: string }> = []
  for (const { userId, threadId } of runs) {
    answering.push(...await Promise.all(Array.from({ length: 18 }, async () => {
      const tab = await connect(t, url, userId)
      tab.send({ type: 'subscribe', threadId })
      await tab.frame('subscribed')
      return { tab, threadId }
    })))
    await Promise.all([rawSocket(t, started, userId, threadId, true), rawSocket(t, started, userId, threadId, false)])
  }
  t.equal(app.notifier.hub.connections.size, 1_000)

  await within(Promise.all([app.close(), app.close()]), 'close')
  t.equal(app.notifier.hub.connections.size, 0, 'no connection is left')
  t.equal(app.notifier.hub.feeds.size, 0, 'no feed is left')
  t.same(app.agents.active(), [], 'no run is left')
  for (const { settled } of runs) t.match(await settled, { code: 'FAE_ERR_RUN_CANCELLED' })
  const codes = await Promise.all(answering.map(({ tab }) => tab.closed()))
  t.same([...new Set(codes)], [closeCodes.restart.code], 'every socket that answers has its code')
  const reconnects = new Set<number>()
  const wrong = answering.flatMap(({ tab, threadId }) => {
    const events = tab.events(threadId)
    const goaways = tab.frames.flatMap((frame) => frame.type === 'goaway' ? [frame] : [])
    if (goaways[0] !== undefined) reconnects.add(goaways[0].reconnectInMs)
    const problems = brokenRules(events)
    if (goaways.length !== 1) problems.push(`${goaways.length} goaways`)
    if (events[0]?.seq !== 1) problems.push(`begins at ${events[0]?.seq}`)
    const end = tab.frames.at(-1)
    if (end?.type !== 'agent_completed' || end.data.status !== 'cancelled') problems.push(`ends with ${end?.type}`)
    return problems
  })
  t.same(wrong.slice(0, 5), [], 'goaway, then everything up to the terminal event')
  t.ok(reconnects.size > 100, 'they come back at different times')
  await within(app.close(), 'another close')
})

t.test('a run that ends within the grace ends as it wants to', async (t) => {
  let finish = (_value: unknown) => {}
  const agent = defineAgent({ name: 'quick', description: '', run: () => new Promise((resolve) => { finish = resolve }) })
  const { app, url } = await startApp(t, { agents: [agent], closeGraceMs: DEADLINE_MS })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  tab.send({ type: 'send', ref: '1', threadId, content: 'go' })
  await tab.frame('agent_started')
  const closed = app.close()
  await tab.frame('goaway')
  finish('done')
  await within(closed, 'close')
  t.match(await tab.frame('agent_completed'), { data: { status: 'success', result: 'done' } })
  t.equal(await tab.closed(), closeCodes.restart.code)
})

t.test('close while sockets connect, subscribe and send', async (t) => {
  for (let round = 0; round < 5; round++) {
    const { app, url } = await startApp(t, { ...options, closeGraceMs: 50 })
    const { threadId } = await app.threads.register({ userId: 'u' })
    const receivers = Array.from({ length: 40 }, (_, i) => {
      const receiver = new Receiver(new WebSocket(`${url.replace('http', 'ws')}/ws?userId=u`, SUBPROTOCOL))
      receiver.socket.on('open', () => {
        receiver.send({ type: 'subscribe', threadId })
        receiver.send({ type: 'send', ref: '1', threadId, content: `hello ${i}` })
      })
      t.teardown(() => { receiver.socket.terminate() })
      return receiver
    })
    await receivers[0]!.until(() => app.notifier.hub.connections.size >= round * 8 || receivers[0]!.closeCode !== undefined, 'some of them', 200).catch(() => {})
    await within(app.close(), 'close')
    const codes = await Promise.all(receivers.map((receiver) => receiver.closed()))
    // 1012 for who was connected; who was not yet gets a refusal, which a WebSocket shows as 1006.
    t.ok(codes.every((code) => code === closeCodes.restart.code || code === 1006), `codes ${[...new Set(codes)].join(', ')}`)
    t.equal(app.notifier.hub.connections.size, 0)
    t.equal(app.notifier.hub.feeds.size, 0)
    t.same(app.agents.active(), [])
    for (const receiver of receivers) {
      const accepted = receiver.frames.filter(({ type }) => type === 'accepted').length
      const ended = new Set(receiver.events(threadId).flatMap(({ type, runId }) => type === 'agent_completed' ? [runId!] : []))
      const began = new Set(receiver.events(threadId).flatMap(({ type, runId }) => type === 'agent_started' ? [runId!] : []))
      if (receiver.closeCode === closeCodes.restart.code && receiver.frames.some(({ type }) => type === 'subscribed')) t.same([...began].filter((runId) => !ended.has(runId)), [], `${accepted} accepted, every run that began has ended`)
    }
  }
})

t.test('a peer whose upgrade waits for authentication when the app closes', async (t) => {
  let authenticated = () => {}
  let asked = () => {}
  const isAsked = new Promise<void>((resolve) => { asked = resolve })
  const { app, url } = await startApp(t, {
    ...options,
    authenticate: async () => {
      asked()
      await new Promise<void>((resolve) => { authenticated = resolve })
      return { userId: 'u' }
    }
  })
  const receiver = new Receiver(new WebSocket(`${url.replace('http', 'ws')}/ws`, SUBPROTOCOL))
  t.teardown(() => { receiver.socket.terminate() })
  await isAsked
  const closed = app.close()
  await new Promise((resolve) => { setImmediate(resolve) })
  authenticated()
  await within(closed, 'close')
  t.ok([1006, closeCodes.restart.code].includes(await receiver.closed() as 1012))
  t.equal(app.notifier.hub.connections.size, 0)
})

t.test('nobody is connected: close is immediate, and the process could end', async (t) => {
  const before = process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length
  const { app } = await startApp(t, options)
  await within(app.close(), 'close')
  await app.close()
  t.ok(process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length <= before)
})
