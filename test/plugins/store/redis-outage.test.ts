import t from 'tap'
import { Redis } from 'ioredis'
import { RedisStore } from '../../../plugins/store/index.js'
import { Proxy, RedisServer, freePort } from '../../support/redis-server.js'
import { openRedis } from '../../support/redis-store.js'
import { TcpProxy } from '../../support/tcp-proxy.js'
import { Reader, body, persist, readAll, start, step, thread, until, valueOf } from '../../support/store-steps.js'

const unhandled: unknown[] = []
process.on('unhandledRejection', (reason) => { unhandled.push(reason) })

const LASTING = ['--appendonly', 'yes', '--appendfsync', 'always']

t.test('Redis is away at boot: the store opens, says so, and comes to life with it', async (t) => {
  const port = await freePort()
  const store = await openRedis(t, `redis://127.0.0.1:${port}`)
  const changes: boolean[] = []
  store.onAvailability(({ available }) => { changes.push(available) })
  t.equal(store.availability.available, false)
  t.match(store.availability.reason, /ECONNREFUSED/)
  const calls: Array<() => Promise<unknown>> = [
    () => store.putThread(thread('t1')), () => store.getThread('t1'), () => store.append('t1', [body()]), () => store.append('t1', [body()], { start: start('r1') }),
    () => store.read('t1', 0), () => store.watch('t1', new Reader(store, 't1')), () => store.inbox('u1'), () => store.listThreads('u1', { limit: 1 }),
    () => store.getRun('r1'), () => store.claimNext('t1'), () => store.deleteThread('t1')
  ]
  for (const call of calls) await t.rejects(call, { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  t.strictSame(await store.ask({ type: 'watched', threadId: 't1' }, { timeoutMs: 1_000, answers: 'first' }), [])
  await RedisServer.start(t, { port })
  await until('Redis', () => store.availability.available)
  t.strictSame(changes, [true])
  await store.putThread(thread('t1'))
  const reader = await persist(() => Reader.on(store, 't1'))
  await store.append('t1', [body()])
  await until('a live event', () => reader.seq === 1)
})

t.test('a store that never saw Redis closes at once', async (t) => {
  const store = new RedisStore({ redis: `redis://127.0.0.1:${await freePort()}` })
  const opening = store.open()
  await store.close()
  await t.rejects(opening, { code: 'FAE_ERR_STORE_CLOSED' })
  await t.rejects(store.getThread('t1'), { code: 'FAE_ERR_STORE_CLOSED' })
  const second = await openRedis(t, `redis://127.0.0.1:${await freePort()}`)
  await second.close()
  t.equal(second.availability.available, false)
})

t.test('killed and started again with its data, under load: nothing lost, nothing doubled, nobody reset', async (t) => {
  const server = await RedisServer.start(t, { args: LASTING })
  const [store, other] = [await openRedis(t, server.url), await openRedis(t, server.url)]
  const orphans: string[] = []
  for (const node of [store, other]) node.onOrphan(({ runId }) => orphans.push(runId))
  await store.putThread(thread('t1'))
  await store.append('t1', [body(0)], { start: start('r1') })
  const readers = [await Reader.on(store, 't1'), await Reader.on(other, 't1')]
  const before = (await store.read('t1', 0)).epochs
  const writing = { on: true, n: 1 }
  const writer = (async () => {
    while (writing.on) {
      const n = writing.n + 1
      await persist(() => store.append('t1', [body(n - 1)], { run: step('r1', n) }))
      writing.n = n
    }
  })()
  for (let round = 1; round <= 2; round++) {
    const at = writing.n
    await until('events', () => writing.n > at + 200)
    await server.kill()
    await until('the outage to be noticed', () => !store.availability.available && !other.availability.available)
    await server.start()
    await until('events again', () => writing.n > at + 400)
  }
  writing.on = false
  await writer
  const stored = await readAll(store, 't1')
  t.strictSame(stored.map(valueOf), Array.from({ length: writing.n }, (_, i) => i))
  for (const reader of readers) {
    await until('all of them', () => reader.seq === stored.length)
    t.equal(reader.resets, 0)
    t.equal(reader.problem, undefined)
    t.strictSame(reader.entries.map(({ seq }) => seq), stored.map(({ seq }) => seq))
    t.strictSame(reader.entries, stored)
  }
  const { epochs } = await store.read('t1', 0)
  t.strictSame(epochs[0], before[0])
  t.equal(epochs.length, 3, 'one more for each time a tail might have been lost')
  t.strictSame(orphans, [], 'an outage makes nobody an orphan')
})

t.test('started again with an old copy: seq goes on in a new history, whose tail was lost is told', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  const orphans: string[] = []
  store.onOrphan(({ runId }) => orphans.push(runId))
  await store.putThread(thread('t1'))
  await store.append('t1', [body(1)], { start: start('r1') })
  await store.append('t1', [body(2)], { start: start('r2') })
  const early = await Reader.on(store, 't1')
  await until('two events', () => early.seq === 2)
  await server.command('SAVE')
  const { epoch } = (await store.getThread('t1'))!
  await store.append('t1', [body(3)], { run: step('r1', 2) })
  await store.append('t1', [body(4)], { run: step('r2', 2, { ends: 'success' }) })
  const late = await Reader.on(store, 't1')
  await until('four events', () => late.seq === 4 && early.seq === 4)
  await server.kill()
  await until('the outage to be noticed', () => !store.availability.available)
  await server.start()
  const { first } = await persist(() => store.append('t1', [body('5 of the run')], { run: step('r1', 3) }))
  t.equal(first.seq, 3, 'a hole in n is allowed once')
  t.ok(first.epoch > epoch)
  await until('both to be told', () => late.resets === 1 && early.resets === 1)
  const stored = await readAll(store, 't1')
  t.strictSame(stored.map(valueOf), [1, 2, '5 of the run'])
  for (const reader of [early, late]) {
    await until('the whole log', () => reader.seq === 3)
    t.strictSame(reader.entries, stored)
    t.equal(reader.problem, undefined)
  }
  t.strictSame((await store.read('t1', 0)).epochs, [{ epoch, from: 1 }, { epoch: first.epoch, from: 3 }], 'who was at 2 has missed nothing')
  await t.rejects(store.append('t1', [body()], { run: step('r1', 5) }), { code: 'FAE_ERR_RUN_HOLE' }, 'but only once')
  await until('the run whose end was lost', () => orphans.includes('r2'))
  t.notOk(orphans.includes('r1'))
})

t.test('a run whose end was lost is found also where another one of its thread is just ending', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  const orphans: string[] = []
  store.onOrphan(({ runId }) => orphans.push(runId))
  await store.putThread(thread('t1'))
  await store.append('t1', [body()], { start: start('r1') })
  await server.command('SAVE')
  await store.append('t1', [body()], { run: step('r1', 2, { ends: 'success' }) })
  await store.append('t1', [body()], { start: start('r2') })
  await server.kill()
  await until('the outage to be noticed', () => !store.availability.available)
  const end = (): Promise<unknown> => store.append('t1', [body()], { run: step('r2', 2, { ends: 'success' }) })
  await t.rejects(end(), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  await server.start()
  await until('Redis', () => store.availability.available)
  // While that end is not answered nobody knows which runs are left: several looks come to nothing.
  const later = Date.now() + 2_000
  await until('some leases', () => Date.now() > later)
  t.strictSame(orphans, [])
  await end()
  await until('the run whose end was lost', () => orphans.includes('r1'))
  const run = (await store.getRun('r1'))!
  await store.append('t1', [body()], { run: step('r1', run.n + 1, { fence: run.fence + 1, takesOver: true, ends: 'lost' }) })
  t.strictSame([...new Set(orphans)], ['r1'])
})

t.test('a run whose end was lost is found also where a beat comes before anybody has looked for it', async (t) => {
  const server = await RedisServer.start(t)
  const way = await TcpProxy.start(t, server.port, { plain: true })
  const store = await openRedis(t, way.url.replace('http', 'redis'), { leaseMs: 5_000 })
  const orphans: string[] = []
  store.onOrphan(({ runId }) => orphans.push(runId))
  await store.putThread(thread('t1'))
  await store.append('t1', [body()], { start: start('r1') })
  await server.command('SAVE')
  await store.append('t1', [body()], { run: step('r1', 2, { ends: 'success' }) })
  await server.kill()
  let isStalled = false
  way.onRequest = (request) => {
    if (request.includes('script')) {
      isStalled = true
      return 'stall'
    }
    if (!isStalled || !request.includes('{runners}:nodes')) return undefined
    way.onRequest = () => undefined
    way.resume()
  }
  await server.start()
  await until('the run whose end was lost', () => orphans.includes('r1'))
})

t.test('started again empty: each node puts back the threads and live runs it holds, in a new history', async (t) => {
  const server = await RedisServer.start(t)
  const [store, other] = [await openRedis(t, server.url, { checkMs: 200 }), await openRedis(t, server.url, { checkMs: 200 })]
  await store.putThread(thread('watched', 'u1', { metadata: { title: 'x' } }))
  await store.putThread(thread('running', 'u1'))
  await store.putThread(thread('nobody', 'u1'))
  const inbox = await store.inbox('u2')
  await store.append('running', [body(1)], { start: start('r1') })
  await store.append('running', [body(2)], { run: step('r1', 2, { opens: [['tool:1', 'a']] }) })
  await store.append('running', [body(3)], { start: start('r2') })
  await store.append('running', [body(4)], { run: step('r2', 2, { ends: 'success' }) })
  await store.append('watched', [body(1)])
  const { epoch } = (await store.getThread('watched'))!
  const reader = await Reader.on(other, 'watched')
  await Reader.on(other, inbox.record.threadId)
  await until('the event', () => reader.seq === 1)
  await server.kill()
  const appending = persist(() => store.append('running', [body(3)], { run: step('r1', 3) }))
  await until('the outage to be noticed', () => !store.availability.available && !other.availability.available)
  await server.start()
  const { first } = await appending
  t.equal(first.seq, 1)
  await until('the reader to be told', () => reader.resets === 1)
  const page = await store.read('watched', 0)
  t.strictSame([page.head, page.entries], [0, []])
  t.ok(page.epochs[0]!.epoch > epoch)
  t.strictSame((await store.getThread('watched'))?.record.metadata, { title: 'x' })
  const run = (await other.getRun('r1'))!
  t.strictSame([run.state, run.n, { ...run.open }], ['running', 3, { 'tool:1': 'a' }])
  t.equal(await other.getRun('r2'), undefined, 'what has ended is gone')
  t.equal(await store.getThread('nobody'), undefined, 'a thread nobody held is unknown')
  t.strictSame((await store.listThreads('u1', { limit: 10 })).map(({ record }) => record.threadId), ['running', 'watched'])
  t.equal((await store.inbox('u2')).record.threadId, inbox.record.threadId)
  await store.append('watched', [body('new')])
  await until('events of the new history', () => reader.seq === 1)
  t.strictSame(reader.entries.map(valueOf), ['new'])
  // Emptied by hand, its process goes on: what is held is put back when it is needed.
  await server.command('FLUSHALL')
  t.equal((await store.append('running', [body()], { run: step('r1', 4) })).first.seq, 1)
  await until('the check to tell', () => reader.resets === 2)
  t.equal((await other.getThread('watched'))?.head, 0)
})

t.test('stopped for a while: calls are refused meanwhile, nobody is an orphan, and all goes on', async (t) => {
  const server = await RedisServer.start(t)
  const [store, other] = [await openRedis(t, server.url, { leaseMs: 1_000 }), await openRedis(t, server.url, { leaseMs: 1_000 })]
  const orphans: string[] = []
  for (const node of [store, other]) node.onOrphan(({ runId }) => orphans.push(runId))
  await store.putThread(thread('t1'))
  await store.append('t1', [body(1)], { start: start('r1') })
  const readers = [await Reader.on(store, 't1'), await Reader.on(other, 't1')]
  server.pause()
  const waiting = persist(() => store.append('t1', [body(2)], { run: step('r1', 2) }))
  await until('the stall to be noticed', () => !store.availability.available && !other.availability.available)
  t.match(store.availability.reason, /does not answer/)
  await t.rejects(store.read('t1', 0), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  // Three leases long.
  const until3 = Date.now() + 3_000
  await until('three leases', () => Date.now() > until3)
  server.resume()
  t.equal((await waiting).first.seq, 2)
  await until('both', () => store.availability.available && other.availability.available)
  for (let n = 3; n <= 5; n++) await store.append('t1', [body(n)], { run: step('r1', n) })
  for (const reader of readers) await until('all events', () => reader.seq === 5)
  const until2 = Date.now() + 2_000
  await until('two leases more', () => Date.now() > until2)
  t.strictSame(orphans, [])
  t.strictSame((await readAll(store, 't1')).map(valueOf), [1, 2, 3, 4, 5])
  for (const reader of readers) {
    t.strictSame(reader.entries.map(valueOf), [1, 2, 3, 4, 5])
    t.equal(reader.problem, undefined)
    t.equal(reader.resets, 0)
  }
})

t.test('a Redis that takes no writes: that is said, also when nobody writes, and whoever reads still can', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  await store.putThread(thread('t1'))
  await store.append('t1', [body(1)])
  await server.command('CONFIG', 'SET', 'maxmemory', '1')
  await until('a beat to fail', () => store.availability.isImpaired === true)
  t.match(store.availability, { available: true, reason: /OOM/ })
  t.strictSame((await readAll(store, 't1')).map(valueOf), [1])
  await t.rejects(store.append('t1', [body(2)]), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  const late = await openRedis(t, server.url)
  t.strictSame((await readAll(late, 't1')).map(valueOf), [1], 'also a process that comes meanwhile')
  await server.command('CONFIG', 'SET', 'maxmemory', '0')
  await until('all to be well', () => store.availability.isImpaired === undefined && late.availability.isImpaired === undefined)
  t.equal(store.availability.available, true)
  t.equal((await store.append('t1', [body(2)])).first.seq, 2)
})

t.test('whoever comes back from an outage later than others, though within the time between two attempts, keeps its runs', async (t) => {
  const server = await RedisServer.start(t)
  const way = await TcpProxy.start(t, server.port, { plain: true })
  const late = await openRedis(t, way.url.replace('http', 'redis'), { leaseMs: 500 })
  const early = await openRedis(t, server.url, { leaseMs: 500 })
  const orphans: string[] = []
  early.onOrphan(({ runId }) => orphans.push(runId))
  await late.putThread(thread('t1'))
  await late.append('t1', [body(1)], { start: start('r1') })
  way.isDown = true
  way.cut()
  await server.command('CLIENT', 'KILL', 'TYPE', 'normal')
  await until('both to notice', () => !late.availability.available && !early.availability.available)
  await until('one to be back', () => early.availability.available)
  const later = Date.now() + 800
  await until('more than a lease', () => Date.now() > later)
  way.isDown = false
  await until('the other one to be back', () => late.availability.available)
  t.strictSame(orphans, [])
  t.equal((await late.append('t1', [body(2)], { run: step('r1', 2) })).first.seq, 2)
})

t.test('the subscriber is killed again and again: its watchers miss nothing', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  const threadIds = Array.from({ length: 250 }, (_, i) => `t${i}`)
  await Promise.all(threadIds.map((threadId) => store.putThread(thread(threadId))))
  const readers = await Promise.all(threadIds.map((threadId) => Reader.on(store, threadId)))
  for (let round = 1; round <= 3; round++) {
    const appending = Promise.all(threadIds.map((threadId) => persist(() => store.append(threadId, [body(round)]))))
    await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
    const unwatch = await store.watch('t0', { events () {}, gap () {}, deleted () {} })
    unwatch()
    await appending
    for (const reader of readers) await until('the event', () => reader.seq === round)
  }
  await store.append('t0', [body(4)])
  await until('a live event', () => readers[0]!.seq === 4)
  for (const reader of readers) if (reader.problem !== undefined || reader.resets > 0) t.fail(`${reader.problem} ${reader.resets}`)
  t.equal(store.availability.available, true)
})

t.test('a subscriber that hears nothing and looks healthy is noticed and replaced', async (t) => {
  const server = await RedisServer.start(t)
  const proxy = await Proxy.start(t, server.port)
  const deaf = await openRedis(t, `redis://127.0.0.1:${proxy.port}`, { probeMs: 200, checkMs: 600_000 })
  const store = await openRedis(t, server.url)
  await store.putThread(thread('t1'))
  const reader = await Reader.on(deaf, 't1')
  await store.append('t1', [body()])
  await until('a live event', () => reader.seq === 1)
  t.equal(proxy.deafen('agent_events:events:{t1}'), 1)
  await store.append('t1', [body()])
  await until('the missed event', () => reader.seq === 2)
  t.ok(reader.gaps >= 1)
  const { gaps } = reader
  await store.append('t1', [body()])
  await until('a live event again', () => reader.seq === 3)
  t.equal(reader.gaps, gaps)
  t.equal(reader.problem, undefined)
})

t.test('the answer to a start was lost: its own process is told of the run that it does not know', async (t) => {
  const server = await RedisServer.start(t)
  const proxy = await Proxy.start(t, server.port)
  const store = await openRedis(t, `redis://127.0.0.1:${proxy.port}`)
  const orphans = new Set<string>()
  store.onOrphan(({ runId }) => orphans.add(runId))
  await store.putThread(thread('t1'))
  await store.append('t1', [body()], { start: start('known') })
  proxy.deafenOn('never heard of')
  await t.rejects(store.append('t1', [body('never heard of')], { start: start('unknown') }), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  await until('another connection', () => store.availability.available)
  await until('the run that nobody knows of', () => orphans.has('unknown'))
  t.strictSame([...orphans], ['unknown'])
  t.equal((await store.getRun('unknown'))?.state, 'running')
})

t.test('the answer to a start was lost while its process was about to close: another one is told of the run', async (t) => {
  const server = await RedisServer.start(t)
  const proxy = await Proxy.start(t, server.port)
  const closing = await openRedis(t, `redis://127.0.0.1:${proxy.port}`)
  const other = await openRedis(t, server.url)
  const orphans = new Set<string>()
  other.onOrphan(({ runId }) => orphans.add(runId))
  await other.putThread(thread('t1'))
  proxy.deafenOn('never heard of')
  const starting = t.rejects(closing.append('t1', [body('never heard of')], { start: start('unknown') }), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  await until('the run', async () => await other.getRun('unknown') !== undefined)
  proxy.cutDeaf()
  await starting
  await until('another connection', () => closing.availability.available)
  await closing.close()
  await until('the run that its process gave back to nobody', () => orphans.has('unknown'))
})

t.test('a process whose entry among the living is lost, and nothing else, enters itself again', async (t) => {
  const server = await RedisServer.start(t)
  const owner = await openRedis(t, server.url)
  const other = await openRedis(t, server.url)
  const orphans = new Set<string>()
  other.onOrphan(({ runId }) => orphans.add(runId))
  await owner.putThread(thread('t1'))
  await owner.append('t1', [body()], { start: start('r1') })
  const runners = 'agent_events:{runners}'
  await server.command('DEL', runners, `${runners}:${owner.node}`)
  await until('its entry', async () => await server.command('HEXISTS', runners, owner.node) === 1)
  t.strictSame(await server.command('SMEMBERS', `${runners}:${owner.node}`), ['t1'])
  t.strictSame([...orphans], [])
  await owner.close()
  await until('its run', () => orphans.has('r1'))
})

t.test('the answer to a call of a run was lost: made again it is one event, with the run it handed out', async (t) => {
  const server = await RedisServer.start(t)
  const proxy = await Proxy.start(t, server.port)
  const store = await openRedis(t, `redis://127.0.0.1:${proxy.port}`)
  const orphans: string[] = []
  store.onOrphan(({ runId }) => orphans.push(runId))
  await store.putThread(thread('t1'))
  await store.append('t1', [body()], { start: start('r1') })
  await store.append('t1', [body()], { start: start('r2', { started: false, mode: 'enqueue' }) })
  proxy.deafenOn('the end')
  const ending = persist(() => store.append('t1', [body('the end')], { run: step('r1', 2, { ends: 'success' }) }))
  await until('the event', async () => await server.command('XLEN', 'agent_events:log:{t1}') === 3)
  proxy.cutDeaf()
  const { repeated, next } = await ending
  t.equal(repeated, true)
  t.equal(next?.runId, 'r2')
  t.equal((await store.getThread('t1'))?.head, 3)
  await store.append('t1', [body()], { run: step('r2', 2, { fence: next!.fence, starts: true }) })
  t.strictSame(orphans, [])
})

t.test("a host's own client that sends again what was under way does no harm", async (t) => {
  const server = await RedisServer.start(t, { args: LASTING })
  const client = new Redis(server.port, '127.0.0.1', { retryStrategy: () => 50 })
  client.on('error', () => {})
  t.teardown(() => { client.disconnect() })
  const store = await openRedis(t, client)
  await store.putThread(thread('t1'))
  await store.append('t1', [body(1)], { start: start('r1') })
  const reader = await Reader.on(store, 't1')
  let n = 1
  for (let round = 1; round <= 3; round++) {
    const calls = (async () => {
      for (let i = 0; i < 200; i++) {
        await persist(() => store.append('t1', [body(n + 1)], { run: step('r1', n + 1) }))
        n++
      }
    })()
    const at = n
    await until('some calls', () => n > at + 20)
    if (round === 2) await server.command('CLIENT', 'KILL', 'TYPE', 'normal')
    else {
      await server.kill()
      await server.start()
    }
    await calls
  }
  t.strictSame((await readAll(store, 't1')).map(valueOf), Array.from({ length: n }, (_, i) => i + 1))
  await until('all of them', () => reader.seq === n)
  t.equal(reader.resets, 0)
  t.equal(reader.problem, undefined)
})

t.test('a replica is not written to', async (t) => {
  const master = await RedisServer.start(t)
  const replica = await RedisServer.start(t, { args: ['--replicaof', '127.0.0.1', String(master.port)] })
  const store = await openRedis(t, replica.url)
  t.equal(store.availability.available, false)
  await until('the reason', () => /replica/.test(store.availability.reason))
  await replica.command('REPLICAOF', 'NO', 'ONE')
  await until('the replica to be a master', () => store.availability.available)
  await store.putThread(thread('t1'))
  await replica.command('REPLICAOF', '127.0.0.1', String(master.port))
  await t.rejects(store.append('t1', [body()]), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  await until('the change to be noticed', () => !store.availability.available)
})

t.test("a host's own client whose server became a replica is left alone, and the store says so", async (t) => {
  const master = await RedisServer.start(t)
  const server = await RedisServer.start(t)
  const client = new Redis(server.port, '127.0.0.1')
  t.teardown(() => { client.disconnect() })
  const store = await openRedis(t, client)
  await store.putThread(thread('t1'))
  await server.command('REPLICAOF', '127.0.0.1', String(master.port))
  await t.rejects(store.append('t1', [body()]), { code: 'FAE_ERR_STORE_UNAVAILABLE', message: /READONLY|replica/ })
  t.match(store.availability, { available: false, reason: 'connected to a replica' })
  t.equal(client.status, 'ready')
  await server.command('REPLICAOF', 'NO', 'ONE')
  await until('the server to be a master again', () => store.availability.available)
})

t.test('a stall of this process is not taken for one of Redis', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  const changes: unknown[] = []
  store.onAvailability((availability) => changes.push(availability))
  await store.putThread(thread('t1'))
  const busyUntil = performance.now() + 2_500
  const appending = store.append('t1', [body()], { start: start('r1') })
  while (performance.now() < busyUntil);
  t.equal((await appending).first.seq, 1)
  const beat = await server.command('HGET', 'agent_events:{runners}', store.node)
  await until('a beat', async () => await server.command('HGET', 'agent_events:{runners}', store.node) !== beat)
  t.strictSame(changes, [])
})

t.test('nothing of all this was unhandled', async (t) => {
  t.strictSame(unhandled, [])
})
