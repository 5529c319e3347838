import t from 'tap'
import type { AgentEventsError, ThreadStatus } from '../../client/index.js'
import { seqsOf, setup, until, upTo } from './helpers.js'
import { EPOCH } from './wire-server.js'
import { formatCursor, type ClientFrame } from '../../schemas/index.js'

const subscribes = (frames: ClientFrame[]) => frames.filter((frame) => frame.type === 'subscribe')

t.test('what was before and what comes arrives in order, once (B4)', async (t) => {
  const { server, client } = await setup(t)
  server.count('t', 3)
  const thread = client.thread('t')
  t.equal(client.thread('t'), thread, 'the same object for the same id')
  t.equal(thread.status, 'idle')
  t.equal(thread.cursor, undefined)
  const statuses: ThreadStatus[] = []
  thread.onStatus((status) => { statuses.push(status) })
  const seqs = seqsOf(thread)
  await until(() => seqs.length === 3)
  server.count('t', 2)
  await until(() => seqs.length === 5)
  t.same(seqs, upTo(5))
  t.equal(thread.cursor, formatCursor(EPOCH, 5))
  t.same(statuses, ['connecting', 'replaying', 'live'])
  t.equal(thread.complete, true)
})

t.test('on() gets one type, both kinds of listeners can be removed, the same function may listen twice', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const got: string[] = []
  const listener = () => { got.push('twice') }
  const off = thread.on('custom', listener)
  const offToo = thread.on('custom', listener)
  thread.on('user_message', (event) => { got.push(`message ${JSON.stringify(event.data.content)}`) })
  const seqs = seqsOf(thread)
  server.count('t')
  await until(() => seqs.length === 1)
  off()
  server.append('t', 'user_message', { messageId: 'm', content: 'hi' })
  server.count('t')
  await until(() => seqs.length === 3)
  offToo()
  server.count('t')
  await until(() => seqs.length === 4)
  t.same(got, ['twice', 'twice', 'message "hi"', 'twice'])
})

t.test('a listener removed by another one while an event is handed out does not get it', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const got: number[] = []
  let off = () => {}
  thread.onAny(() => { off() })
  off = thread.onAny((event) => { got.push(event.seq) })
  const seqs = seqsOf(thread)
  server.count('t', 2)
  await until(() => seqs.length === 2)
  t.same(got, [])
})

t.test('events of a type that is not known yet are passed on', async (t) => {
  const { server, client } = await setup(t)
  const types: string[] = []
  client.thread('t').onAny((event) => { types.push(event.type) })
  server.append('t', 'from_the_future' as 'custom', {})
  await until(() => types.length === 1)
  t.same(types, ['from_the_future'])
})

t.test('an event sent twice, and a late lower one, are dropped', async (t) => {
  const { server, client } = await setup(t)
  server.onWay = (event, peer) => {
    if (event.seq > 1) peer.say(server.log('t').events[event.seq - 2]!)
    peer.say(event)
    return event
  }
  const seqs = seqsOf(client.thread('t'))
  server.count('t', 20)
  await until(() => seqs.length >= 20)
  server.count('t')
  await until(() => seqs.at(-1) === 21)
  t.same(seqs, upTo(21))
})

t.test('a hole is filled from the log', async (t) => {
  const { server, client, errors } = await setup(t)
  const dropped = new Set([3, 7])
  server.onWay = (event) => dropped.delete(event.seq) ? undefined : event
  const seqs = seqsOf(client.thread('t'))
  server.count('t', 10)
  await until(() => seqs.length === 10)
  t.same(seqs, upTo(10))
  t.equal(server.peers.length, 1, 'on the same connection')
  t.same(errors, [], 'one that heals at once is no error')
})

t.test('a thread that is closed where it hears of its hole leaves no timer', async (t) => {
  const { server, client } = await setup(t)
  server.onWay = (event) => event.seq === 3 ? undefined : event
  const thread = client.thread('t')
  const timers = (): number => process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length
  let left: number | undefined
  thread.onError(() => {
    thread.close()
    const before = timers()
    queueMicrotask(() => { left = timers() - before })
  })
  seqsOf(thread)
  server.count('t', 4)
  await until(() => left !== undefined)
  t.equal(left, 0)
})

t.test('a hole that does not heal is told and tried again with growing delays, not in a loop', async (t) => {
  const { server, client } = await setup(t)
  let isBroken = true
  server.onWay = (event) => isBroken && event.seq === 3 ? undefined : event
  const thread = client.thread('t')
  const codes: string[] = []
  thread.onError((error) => { codes.push(error.code) })
  const seqs = seqsOf(thread)
  server.count('t', 4)
  await until(() => codes.length >= 2)
  t.same(codes.slice(0, 2), ['FAE_ERR_CLIENT_HOLE', 'FAE_ERR_CLIENT_HOLE'])
  t.same(seqs, [1, 2])
  isBroken = false
  await until(() => seqs.length === 4)
  t.same(seqs, upTo(4))
})

t.test('another epoch is fine where the numbers go on', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const seqs = seqsOf(thread)
  server.count('t', 2)
  await until(() => seqs.length === 2)
  server.log('t').epoch = 'k3xw9q00bbbb'
  server.count('t', 2)
  await until(() => seqs.length === 4)
  t.same(seqs, upTo(4))
  t.equal(thread.cursor, 'k3xw9q00bbbb-0000000004')
  t.equal(subscribes(server.frames).length, 1)
})

t.test('a listener that throws or rejects is reported with its event and keeps nobody waiting', async (t) => {
  const reported: Array<[string, number | undefined]> = []
  const { server, client } = await setup(t, { onHandlerError: (error, event) => { reported.push([(error as Error).message, event?.seq]) } })
  const thread = client.thread('t')
  thread.onAny((event) => { if (event.seq === 1) throw new Error('thrown') })
  thread.onAny(async (event) => { if (event.seq === 2) throw new Error('rejected') })
  const seqs = seqsOf(thread)
  server.count('t', 3)
  await until(() => seqs.length === 3 && reported.length === 2)
  t.same(reported, [['thrown', 1], ['rejected', 2]])
  await until(() => server.acks.at(-1)?.cursor === formatCursor(EPOCH, 3), 'it counts as processed')
})

t.test('what nobody handles is loud', async (t) => {
  const { server, client } = await setup(t, { onHandlerError: undefined })
  const error = new Error('thrown')
  const logged: unknown[] = []
  t.capture(console, 'error', (first: unknown) => { logged.push(first) })
  client.thread('t').onAny(() => { throw error })
  server.count('t')
  await until(() => logged.length === 1)
  t.equal(logged[0], error)
})

t.test('an event is handed out when all listeners of the one before have settled', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const log: string[] = []
  let release = () => {}
  thread.onAny(async (event) => {
    log.push(`slow ${event.seq}`)
    await new Promise<void>((resolve) => { release = resolve })
    log.push(`done ${event.seq}`)
  })
  thread.onAny((event) => { log.push(`fast ${event.seq}`) })
  server.count('t', 3)
  for (let seq = 1; seq <= 3; seq++) {
    await until(() => log.at(-1) === `fast ${seq}`)
    t.equal(thread.cursor, formatCursor(EPOCH, seq - 1), 'the cursor moves after settling')
    release()
    await until(() => log.includes(`done ${seq}`))
  }
  t.same(log, [1, 2, 3].flatMap((seq) => [`slow ${seq}`, `fast ${seq}`, `done ${seq}`]))
})

t.test('acknowledgements are gathered and cumulative (C5)', async (t) => {
  const { server, client } = await setup(t, { ackMs: 200 })
  const seqs = seqsOf(client.thread('t'))
  await until(() => server.frames.length === 1)
  server.count('t', 100)
  await until(() => server.acks.at(-1)?.cursor === formatCursor(EPOCH, 100))
  t.equal(seqs.length, 100)
  t.ok(server.acks.length < 20, `${server.acks.length} for 100 events`)
  t.same(server.acks.map((ack) => ack.cursor), server.acks.map((ack) => ack.cursor).sort(), 'never backwards')
})

t.test('what a listener still works on is not acknowledged', async (t) => {
  const { server, client } = await setup(t)
  let release = () => {}
  client.thread('t').onAny((event) => event.seq === 2 ? new Promise<void>((resolve) => { release = resolve }) : undefined)
  server.count('t', 3)
  await until(() => server.acks.length === 1)
  t.equal(server.acks[0]!.cursor, formatCursor(EPOCH, 1))
  release()
  await until(() => server.acks.at(-1)?.cursor === formatCursor(EPOCH, 3))
})

t.test('two threads share one socket and do not wait for each other (C4)', async (t) => {
  const { server, client } = await setup(t)
  const slow: number[] = []
  client.thread('a').onAny((event) => { slow.push(event.seq); return new Promise<void>(() => {}) })
  const seqs = seqsOf(client.thread('b'))
  server.count('a', 5)
  server.count('b', 5)
  await until(() => seqs.length === 5)
  t.same(seqs, upTo(5))
  t.same(slow, [1])
  t.equal(server.peers.length, 1)
  client.thread('a').close()
  server.count('b')
  await until(() => seqs.length === 6)
})

t.test('without a listener events wait, also between two listeners', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const first: number[] = []
  const off = thread.onAny((event) => { first.push(event.seq); if (event.seq === 2) off() })
  server.count('t', 4)
  await until(() => first.length === 2)
  const other = seqsOf(client.thread('u'))
  server.count('u')
  await until(() => other.length === 1)
  const a = seqsOf(thread)
  const b = seqsOf(thread)
  await until(() => a.length === 2)
  t.same([first, a, b], [[1, 2], [3, 4], [3, 4]])
})

t.test('nobody listens for long: the newest events stay', async (t) => {
  const { server, client } = await setup(t, { maxQueuedEvents: 3 })
  const run = await client.thread('t').send('hi')
  server.count('t', 10)
  server.complete('t', run.runId)
  t.same(await run.result(), { answer: 42 }, 'a run is watched to its end without listeners')
  const seqs = seqsOf(client.thread('t'))
  await until(() => seqs.length === 3)
  t.same(seqs, [10, 11, 12])
})

for (const isSettled of [true, false]) {
  t.test(`the last listener leaves while the queue is full${isSettled ? '' : ', and never settles'}: a run that somebody waits for still ends`, async (t) => {
    const { server, client } = await setup(t, { maxQueuedEvents: 3 })
    const thread = client.thread('t')
    const run = await thread.send('hi')
    let release = () => {}
    const off = thread.onAny(() => new Promise<void>((resolve) => { release = resolve }))
    server.count('t', 20)
    await until(() => server.frames.some((frame) => frame.type === 'unsubscribe'), 'the pause')
    off()
    if (isSettled) release()
    server.complete('t', run.runId)
    t.same(await run.result(), { answer: 42 })
    release()
    const seqs = seqsOf(thread)
    server.count('t')
    await until(() => seqs.at(-1) === 23)
    t.same(seqs, upTo(23, seqs[0]), 'whoever comes later gets the newest, without a hole')
  })
}

t.test('slow listeners: what does not fit the queue stays on the server, and nothing is lost', async (t) => {
  const { server, client } = await setup(t, { maxQueuedEvents: 5 })
  const thread = client.thread('t')
  const seqs: number[] = []
  let inHand = 0
  thread.onAny(async (event) => {
    t.equal(++inHand, 1)
    await new Promise((resolve) => { setImmediate(resolve) })
    seqs.push(event.seq)
    inHand--
  })
  server.count('t', 100)
  await until(() => seqs.length === 100)
  t.same(seqs, upTo(100))
  t.ok(subscribes(server.frames).length > 5, 'it was paused again and again')
  t.equal(server.peers.length, 1)
})

t.test('reset: the place is lost while connected (recovered: false, unasked)', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  let state: number[] = []
  const log: string[] = []
  let release = () => {}
  thread.onAny(async (event) => {
    state.push(event.seq)
    if (event.id === formatCursor(EPOCH, 3)) await new Promise<void>((resolve) => { release = resolve })
    log.push(event.id)
  })
  thread.onReset(async () => { state = []; log.push('reset') })
  server.count('t', 5)
  await until(() => state.length === 3)
  server.restart('t', 'k3xw9q00zzzz', 2)
  const other = seqsOf(client.thread('u'))
  server.count('u')
  await until(() => other.length === 1)
  t.same(state, [1, 2, 3], 'the reset waits for the listener that is at work')
  release()
  await until(() => state.length === 2)
  t.same(state, [1, 2])
  t.same(log, [...[1, 2, 3].map((seq) => formatCursor(EPOCH, seq)), 'reset', 'k3xw9q00zzzz-0000000001', 'k3xw9q00zzzz-0000000002'])
  await until(() => server.acks.some((ack) => ack.cursor === 'k3xw9q00zzzz-0000000002'))
  t.notOk(server.acks.some((ack) => ack.cursor === formatCursor(EPOCH, 3)), 'what was settled after the reset is no longer acknowledged')
})

t.test('reset: the place was lost while away', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const log: Array<number | string> = []
  thread.onAny((event) => { log.push(event.seq) })
  thread.onReset(() => { log.push('reset') })
  server.count('t', 2)
  await until(() => log.length === 2)
  const { events } = server.log('t')
  server.logs.set('t', { epoch: EPOCH, first: 10, events: [] })
  server.count('t', 2)
  server.peers[0]!.socket.terminate()
  await until(() => log.length === 5)
  t.same(log, [1, 2, 'reset', 10, 11])
  t.equal(thread.complete, false, 'what came before 10 is gone')
  t.equal(events.length, 2)
})

t.test('trimmed before the first look: no reset, since there is nothing to drop, but not complete either', async (t) => {
  const { server, client } = await setup(t)
  server.logs.set('t', { epoch: EPOCH, first: 5, events: [] })
  server.count('t', 2)
  const thread = client.thread('t')
  thread.onReset(() => { t.fail('nothing to drop') })
  const seqs = seqsOf(thread)
  await until(() => seqs.length === 2)
  t.same(seqs, [5, 6])
  t.equal(thread.complete, false)
})

t.test('errors of a thread', async (t) => {
  t.test('a refused subscription is told, and tried again when somebody asks again', async (t) => {
    const { server, client } = await setup(t)
    let isThere = false
    server.intercept = (peer, frame) => {
      if (isThere || frame.type !== 'subscribe') return false
      peer.say({ type: 'error', ref: frame.ref!, code: 'FAE_ERR_THREAD_NOT_FOUND', message: 'not found' })
      return true
    }
    const thread = client.thread('t')
    const got: AgentEventsError[] = []
    thread.onError((error) => { got.push(error) })
    const seqs = seqsOf(thread)
    await until(() => got.length === 1)
    t.match(got[0], { name: 'AgentEventsError', code: 'FAE_ERR_THREAD_NOT_FOUND', message: 'not found', threadId: 't' })
    t.equal(thread.status, 'closed')
    t.equal(client.status, 'live', 'the connection lives')
    isThere = true
    server.count('t')
    thread.onAny(() => {})
    await until(() => seqs.length === 1)
    t.equal(thread.status, 'live')
  })

  t.test('a store that is away is no answer: tried again', async (t) => {
    const { server, client } = await setup(t)
    let refusals = 3
    server.intercept = (peer, frame) => {
      if (frame.type !== 'subscribe' || refusals-- <= 0) return false
      peer.say({ type: 'error', ref: frame.ref!, threadId: frame.threadId, code: 'FAE_ERR_STORE_UNAVAILABLE', message: 'away' })
      return true
    }
    const thread = client.thread('t')
    const codes: string[] = []
    thread.onError((error) => { codes.push(error.code) })
    const seqs = seqsOf(thread)
    server.count('t')
    await until(() => seqs.length === 1)
    t.same(codes, Array(3).fill('FAE_ERR_STORE_UNAVAILABLE'))
  })

  t.test('the server ends the subscription: for good, or because it failed', async (t) => {
    const { server, client } = await setup(t)
    const thread = client.thread('t')
    const messages: string[] = []
    thread.onError((error) => { messages.push(`${error.code} ${error.message}`) })
    const seqs = seqsOf(thread)
    server.count('t')
    await until(() => seqs.length === 1)
    const peer = server.peers[0]!
    peer.subscriptions.delete('t')
    peer.say({ type: 'error', threadId: 't', code: 'FAE_ERR_STORE_UNAVAILABLE', message: 'away' })
    peer.say({ type: 'unsubscribed', threadId: 't', reason: 'error' })
    server.count('t')
    await until(() => seqs.length === 2)
    t.same(seqs, [1, 2])
    peer.say({ type: 'unsubscribed', threadId: 't', reason: 'deleted' })
    await until(() => messages.length === 2)
    t.match(messages, [/FAE_ERR_STORE_UNAVAILABLE away/, /FAE_ERR_THREAD_NOT_FOUND .*deleted/])
    t.equal(thread.status, 'closed')
  })

  t.test('the server does not know the subscription any more: made again', async (t) => {
    const { server, client, errors } = await setup(t)
    const seqs = seqsOf(client.thread('t'))
    server.count('t')
    await until(() => seqs.length === 1)
    const peer = server.peers[0]!
    peer.subscriptions.delete('t')
    server.count('t')
    peer.say({ type: 'error', threadId: 't', code: 'FAE_ERR_NOT_SUBSCRIBED', message: 'who?' })
    await until(() => seqs.length === 2)
    t.same(errors, [])
  })

  t.test('unheard errors go to the client, and unheard there to onHandlerError', async (t) => {
    const { server, client, errors } = await setup(t)
    const seqs = seqsOf(client.thread('t'))
    server.count('t')
    await until(() => seqs.length === 1)
    const peer = server.peers[0]!
    peer.say({ type: 'error', threadId: 't', code: 'X_1', message: '' })
    peer.say({ type: 'error', code: 'X_2', message: '' })
    peer.say({ type: 'error', ref: 'nobody', code: 'X_3', message: 'late' })
    await until(() => errors.length === 2)
    t.match(errors, [{ code: 'X_1', threadId: 't' }, { code: 'X_2' }])
    const heard: string[] = []
    client.onError((error) => { heard.push(error.code) })
    peer.say({ type: 'error', threadId: 't', code: 'X_4', message: '' })
    peer.say({ type: 'error', threadId: 'other', code: 'X_5', message: '' })
    peer.socket.send('not a frame')
    await until(() => heard.length === 3)
    t.same(heard, ['X_4', 'X_5', 'FAE_ERR_FRAME_INVALID'])
    t.equal(errors.length, 2)
  })
})

t.test('close() of a thread acknowledges, unsubscribes, and a new object goes on from the start', async (t) => {
  const { server, client } = await setup(t, { ackMs: 60_000 })
  const thread = client.thread('t')
  const seqs = seqsOf(thread)
  server.count('t', 3)
  await until(() => seqs.length === 3)
  const statuses: ThreadStatus[] = []
  thread.onStatus((status) => { statuses.push(status) })
  thread.close()
  thread.close()
  t.equal(thread.status, 'closed')
  t.same(statuses, ['closed'])
  await until(() => server.frames.at(-1)?.type === 'unsubscribe')
  t.match(server.frames.map((frame) => frame.type), ['subscribe', 'ack', 'unsubscribe'])
  await t.rejects(thread.send('x'), { code: 'FAE_ERR_CLIENT_CLOSED' })
  await t.rejects(thread.cancel('x'), { code: 'FAE_ERR_CLIENT_CLOSED' })
  const again = client.thread('t')
  t.not(again, thread)
  const seqsAgain = seqsOf(again)
  await until(() => seqsAgain.length === 3)
  server.count('t')
  await until(() => seqsAgain.length === 4)
  t.same(seqs, upTo(3))
})
