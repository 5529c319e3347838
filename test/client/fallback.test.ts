import fc from 'fast-check'
import t from 'tap'
import { createClient, type AgentEventsError } from '../../client/index.js'
import { fakePage, hasten, until } from './helpers.js'
import { Log, Network, step } from './network.js'

const seed = Number(process.env.FC_SEED ?? Date.now() % 2 ** 31)
const numRuns = Number(process.env.FC_RUNS ?? 30)
t.comment(`FC_SEED=${seed} FC_RUNS=${numRuns}`)

t.test('no WebSocket gets through: server-sent events carry a run (E1, E4)', async (t) => {
  const network = await Network.start(t)
  network.webSocket = 'cut'
  const { client, statuses, errors } = network.client(t)
  const thread = client.thread(await network.thread())
  const log = new Log(thread)
  const run = await thread.send('ping', { agent: 'triage' })
  t.same(await run.result(), { answer: 'PING' })
  t.same(log.ids, await log.equals(network.server))
  t.equal(client.transport, 'sse')
  t.equal(client.status, 'live')
  t.equal(thread.status, 'live')
  t.same(errors, [])
  t.same(statuses, ['connecting', 'offline', 'connecting', 'offline', 'connecting', 'live'])
  const { record: { threadId: inbox } } = await network.server.app.threads.inbox('u')
  t.match(client.connected, { userId: 'u', inbox, mode: 'realtime', maxPayload: Infinity })
  t.equal(network.count('live=long-poll'), 0)
})

for (const fault of ['cut', 'stall'] as const) {
  t.test(`no stream gets through either (${fault}): polling carries a run, and users are told (E1, E3)`, async (t) => {
    const network = await Network.start(t)
    network.webSocket = network.stream = fault
    const { client, errors } = network.client(t, { connectTimeoutMs: 500 })
    const thread = client.thread(await network.thread())
    const log = new Log(thread)
    const run = await thread.send('ping', { agent: 'triage' })
    t.same(await run.result(), { answer: 'PING' })
    t.same(log.ids, await log.equals(network.server))
    await until(() => client.status === 'degraded' && client.transport === 'polling')
    t.equal(thread.status, 'degraded')
    t.same(errors, [])
  })
}

t.test('WebSockets are swallowed: nobody waits for a second one, and when they pass again, they are used', async (t) => {
  const network = await Network.start(t)
  network.webSocket = 'stall'
  const { client, statuses, errors } = network.client(t, { connectTimeoutMs: 1_000 })
  await client.connect()
  t.equal(client.transport, 'sse')
  t.same(statuses, ['connecting', 'offline', 'connecting', 'live'])
  network.webSocket = undefined
  await until(() => client.transport === 'websocket')
  t.same(errors, [])
})

t.test('the page says that the network is gone: a stream that still arrives goes on, another one is given up', async (t) => {
  const page = fakePage(t)
  const network = await Network.start(t)
  const { client, statuses, errors } = network.client(t, { transport: 'sse', connectTimeoutMs: 1_000 })
  const log = new Log(client.thread(await network.thread()))
  const say = (content: string) => network.server.app.notifier.sendToThread(log.thread.id, { type: 'user_message', data: { content } })
  await until(() => log.thread.status === 'live')
  page.dispatchEvent(new Event('offline'))
  await until(() => network.count('live=sse') === 2)
  await say('still there')
  t.same(log.ids, await log.equals(network.server))
  t.same(statuses, ['connecting', 'live'])

  network.stream = 'stall'
  network.proxy.stall('toClient')
  page.dispatchEvent(new Event('offline'))
  await until(() => client.status === 'offline')
  network.stream = undefined
  network.proxy.resume()
  await say('back')
  t.same(log.ids, await log.equals(network.server))
  t.same([log.resets, errors], [0, []])
})

t.test('the network swallows what is asked by HTTP: a WebSocket is tried beside it', async (t) => {
  const network = await Network.start(t)
  network.webSocket = 'cut'
  network.ticket = 'stall'
  const { client, errors } = network.client(t, { connectTimeoutMs: 1e9 })
  client.connect().catch(() => {})
  await until(() => network.count('/tickets') === 1)
  network.webSocket = undefined
  await until(() => client.transport === 'websocket')
  t.same(errors, [])
})

t.test('down and up again in the middle of a run, with one cursor: every event once', async (t) => {
  const network = await Network.start(t)
  const { client, errors } = network.client(t, { connectTimeoutMs: 1_000 })
  const thread = client.thread(await network.thread())
  const log = new Log(thread)
  const run = await thread.send('6', { agent: 'walker' })
  const seen: Array<string | undefined> = []
  const walk = async () => {
    const { length } = log.ids
    await step()
    await until(() => log.ids.length > length, 'the step')
    seen.push(client.transport)
  }
  await walk()

  network.webSocket = 'cut'
  network.proxy.cut()
  await until(() => client.transport === 'sse')
  await walk()

  network.stream = 'cut'
  network.proxy.cut()
  await until(() => client.transport === 'polling' && client.status === 'degraded')
  await walk()

  network.stream = undefined
  await until(() => client.transport === 'sse' && client.status === 'live', 'streams again')
  await walk()

  network.webSocket = undefined
  await until(() => client.transport === 'websocket', 'a WebSocket again')
  t.equal(client.status, 'live')
  await walk()
  await walk()

  t.equal(await run.result(), 6)
  t.same(log.ids, await log.equals(network.server))
  t.equal(log.resets, 0)
  t.same(seen, ['websocket', 'sse', 'polling', 'sse', 'websocket', 'websocket'])
  t.same(errors, [])
})

t.test('a network that changes its mind at any moment: no loss, no double (B4)', async (t) => {
  const network = await Network.start(t, { limits: { connectionsPerUser: 1_000 }, longPollMs: 50 })
  const { app } = network.server
  const change = fc.constantFrom('webSocket', 'stream', 'poll') as fc.Arbitrary<'webSocket' | 'stream' | 'poll'>
  const happening = fc.oneof(
    { weight: 6, arbitrary: fc.record({ append: fc.integer({ min: 1, max: 5 }) }) },
    { weight: 3, arbitrary: fc.record({ change, fault: fc.constantFrom(undefined, undefined, 'cut' as const, 'stall' as const) }) },
    { weight: 2, arbitrary: fc.constant({ cut: true }) },
    { weight: 4, arbitrary: fc.record({ wait: fc.integer({ min: 1, max: 50 }) }) }
  )
  const transports = new Set<string>()
  await fc.assert(fc.asyncProperty(fc.boolean(), fc.array(happening, { minLength: 5, maxLength: 25 }), async (isBlocked, happenings) => {
    if (isBlocked) network.webSocket = network.stream = 'cut'
    const { client } = network.client(t, { connectTimeoutMs: 200 })
    const log = new Log(client.thread(await network.thread()))
    let sent = 0
    for (const it of happenings) {
      if ('append' in it) for (let i = 0; i < it.append; i++) await app.notifier.sendToThread(log.thread.id, { type: 'assistant_message', data: { agent: 'a', messageId: 'm', partId: String(sent++), phase: 'full', text: 'x' } })
      if ('change' in it) network[it.change] = it.fault
      if ('cut' in it) network.proxy.cut()
      if ('wait' in it) await new Promise((resolve) => { setTimeout(resolve, it.wait) })
      if (client.transport) transports.add(client.transport)
    }
    network.webSocket = network.stream = network.poll = undefined
    network.proxy.resume()
    const expected = await log.equals(network.server)
    await until(() => client.transport === 'websocket', 'the WebSocket in the end')
    if (log.ids.join() !== expected.join() || log.resets > 0) throw new Error(`got ${log.ids.join()} instead of ${expected.join()}, ${log.resets} resets`)
    await client.close()
  }), { seed, numRuns, endOnFailure: true })
  t.comment([...transports].join())
  t.equal(transports.size, 3)
})

t.test('option transport', async (t) => {
  const network = await Network.start(t)
  for (const [transport, status] of [['sse', 'live'], ['polling', 'degraded']] as const) {
    await t.test(`${transport}: without any WebSocket, there or not`, async (t) => {
      network.requests.length = 0
      const { client } = network.client(t, { transport, WebSocket: undefined })
      const thread = client.thread(await network.thread())
      const log = new Log(thread)
      const run = await thread.send('ping')
      t.same(await run.result(), { answer: 'PING' })
      t.same(log.ids, await log.equals(network.server))
      await until(() => thread.status === status)
      t.equal(client.transport, transport)
      t.equal(network.count('/ws'), 0)
      t.equal(network.count(transport === 'sse' ? 'long-poll' : 'sse'), 0)
    })
  }

  t.test('sse: waits for streams to get through', async (t) => {
    const network = await Network.start(t)
    network.stream = 'cut'
    const { client, statuses } = network.client(t, { transport: 'sse' })
    const log = new Log(client.thread(await network.thread()))
    await until(() => statuses.filter((status) => status === 'offline').length >= 2)
    t.equal(network.count('long-poll'), 0)
    network.stream = undefined
    const run = await log.thread.send('ping')
    t.same(await run.result(), { answer: 'PING' })
  })

  t.test('websocket: waits for the WebSocket', async (t) => {
    const network = await Network.start(t)
    network.webSocket = 'cut'
    const { client, statuses } = network.client(t, { transport: 'websocket' })
    const connecting = client.connect()
    await until(() => statuses.filter((status) => status === 'offline').length >= 4)
    t.equal(network.count('/tickets'), 0)
    network.webSocket = undefined
    t.match(await connecting, { userId: 'u' })
  })
})

t.test('by HTTP', async (t) => {
  const network = await Network.start(t, { store: { memory: { retention: { maxEvents: 20 } } }, maxEventBytes: 10_000 })
  const { app } = network.server
  const say = (threadId: string, text: string) => app.notifier.sendToThread(threadId, { type: 'user_message', data: { messageId: text, content: text } })

  for (const transport of ['sse', 'polling'] as const) {
    await t.test(transport, async (t) => {
      t.test('a run is cancelled', async (t) => {
        const { client } = network.client(t, { transport })
        const run = await client.thread(await network.thread()).send('2', { agent: 'walker' })
        await run.cancel()
        t.equal((await run.completed).data.status, 'cancelled')
        await run.cancel()
        await t.rejects(client.thread(await network.thread()).cancel('run_of_nobody'), { code: 'FAE_ERR_RUN_NOT_FOUND' })
      })

      t.test('what is refused is refused with its code', async (t) => {
        const { client, errors } = network.client(t, { transport })
        const thread = client.thread(await network.thread())
        await t.rejects(thread.send('hi', { agent: 'nobody' }), { code: 'FAE_ERR_AGENT_NOT_FOUND', threadId: thread.id })
        await t.rejects(thread.send('x'.repeat(20_000)), { code: 'FAE_ERR_EVENT_TOO_LARGE' })
        await t.rejects(thread.send('x'.repeat(2_000_000)), { code: 'FAE_ERR_EVENT_TOO_LARGE' })
        await t.rejects(client.thread('nowhere').send('hi'), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
        await until(() => client.thread('nowhere').status === 'closed')
        t.equal(client.status, transport === 'sse' ? 'live' : 'degraded', 'the connection lives')
        t.same(errors, [])
      })

      t.test('the same clientMessageId twice is one run', async (t) => {
        const { client } = network.client(t, { transport })
        const thread = client.thread(await network.thread())
        const [a, b] = await Promise.all([thread.send('hi', { clientMessageId: 'm' }), thread.send('hi', { clientMessageId: 'm' })])
        t.equal(a.runId, b.runId)
      })

      t.test('a thread with a past: replayed, then live; what is trimmed is told', async (t) => {
        const { client } = network.client(t, { transport })
        const whole = client.thread(await network.thread())
        const trimmed = client.thread(await network.thread())
        for (let at = 0; at < 5; at++) await say(whole.id, String(at))
        for (let at = 0; at < 40; at++) await say(trimmed.id, String(at))
        for (const thread of [whole, trimmed]) {
          const statuses: string[] = []
          thread.onStatus((status) => { statuses.push(status) })
          const log = new Log(thread)
          await say(thread.id, 'more')
          t.same(log.ids, await log.equals(network.server))
          t.equal(thread.complete, thread === whole)
          t.ok(statuses.includes('replaying'))
          await until(() => thread.status === client.status)
        }
      })

      t.test('the place is lost while away: everything retained comes after a reset', async (t) => {
        const { client } = network.client(t, { transport })
        const log = new Log(client.thread(await network.thread()))
        await say(log.thread.id, 'first')
        await until(() => log.ids.length === 1)
        network.proxy.isDown = true
        network.proxy.cut()
        for (let at = 0; at < 40; at++) await say(log.thread.id, String(at))
        network.proxy.isDown = false
        await until(() => log.resets === 1)
        t.same(log.ids, await log.equals(network.server))
        t.equal(log.thread.complete, false)
      })

      t.test('a thread that is deleted ends', async (t) => {
        const { client } = network.client(t, { transport })
        const log = new Log(client.thread(await network.thread()))
        const errors: AgentEventsError[] = []
        log.thread.onError((error) => { errors.push(error) })
        await say(log.thread.id, 'first')
        await until(() => log.ids.length === 1)
        await app.threads.delete(log.thread.id)
        await until(() => log.thread.status === 'closed')
        t.match(errors, [{ code: 'FAE_ERR_THREAD_NOT_FOUND', threadId: log.thread.id }])
      })

      t.test('nobody there for a while', async (t) => {
        const { client, statuses } = network.client(t, { transport })
        const log = new Log(client.thread(await network.thread()))
        await say(log.thread.id, 'first')
        await until(() => log.ids.length === 1)
        network.proxy.isDown = true
        network.proxy.cut()
        await until(() => statuses.filter((status) => status === 'offline').length >= 3)
        const sent = log.thread.send('ping')
        network.proxy.isDown = false
        t.same(await (await sent).result(), { answer: 'PING' })
        t.equal(log.ids.length, new Set(log.ids).size)
      })

      t.test('more threads than requests that may stay open: all get everything, sends get through, and users are told', async (t) => {
        // those that are asked now and then
        hasten(t, 2_000, 4_000)
        const { client } = network.client(t, { transport })
        const logs = await Promise.all(Array.from({ length: 6 }, async () => new Log(client.thread(await network.thread()))))
        await until(() => logs.every(({ thread }) => thread.cursor !== undefined))
        await until(() => client.status === 'degraded')
        for (const { thread } of logs) await say(thread.id, 'hello')
        t.same(await (await logs[5]!.thread.send('ping')).result(), { answer: 'PING' })
        for (const log of logs) t.same(log.ids, await log.equals(network.server))
        for (const { thread } of logs.slice(0, 3)) thread.close()
        await until(() => client.status === (transport === 'sse' ? 'live' : 'degraded'))
        await say(logs[5]!.thread.id, 'still there?')
        t.same(logs[5]!.ids, await logs[5]!.equals(network.server))
      })

      t.test('slow listeners: the rest waits on the server', async (t) => {
        const { client } = network.client(t, { transport, maxQueuedEvents: 2 })
        const thread = client.thread(await network.thread())
        for (let at = 0; at < 8; at++) await say(thread.id, String(at))
        const seqs: number[] = []
        thread.onAny(async ({ seq }) => {
          await new Promise((resolve) => { setImmediate(resolve) })
          seqs.push(seq)
        })
        await until(() => seqs.length === 8)
        t.same(seqs, [1, 2, 3, 4, 5, 6, 7, 8])
      })
    })
  }
})

t.test('close() leaves nothing behind on the server', async (t) => {
  for (const transport of ['sse', 'polling'] as const) {
    const network = await Network.start(t)
    const { hub } = network.server.app.notifier
    const { client } = network.client(t, { transport })
    const log = new Log(client.thread(await network.thread()))
    await until(() => log.thread.cursor !== undefined && hub.streams.size === 1, 'the request that stays open')
    const sent = log.thread.send('ping')
    sent.catch(() => {})
    await client.close()
    await until(() => hub.streams.size === 0)
    t.equal(client.transport, undefined)
    await client.close()
  }
})

t.test('closed while the fallback is on its way', async (t) => {
  const client = createClient({ url: 'http://127.0.0.1:9', transport: 'sse' })
  client.thread('t').onAny(() => {})
  await client.close()
  t.equal(client.status, 'closed')
  await new Promise((resolve) => { setTimeout(resolve, 20) })
  t.equal(client.status, 'closed')
})

t.test('a text with separators that end a line elsewhere is a text like any other', async (t) => {
  const network = await Network.start(t)
  const { client, errors } = network.client(t, { transport: 'sse' })
  const threadId = await network.thread()
  const log = new Log(client.thread(threadId))
  for (const content of ['one\u2028two\u2029three', 'after it']) await network.server.app.notifier.sendToThread(threadId, { type: 'user_message', data: { content } })
  await until(() => log.ids.length === 2)
  t.same(log.ids, await log.equals(network.server))
  t.same(errors, [])
})
