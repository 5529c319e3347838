import t from 'tap'
import { mock } from 'node:test'
import { storeConformance } from '../../../plugins/store/conformance.js'
import { MemoryStore } from '../../../plugins/store/memory-store.js'
import type { Store } from '../../../plugins/store/store.js'
import { gc } from '../../support/gc.js'

for (const [name, maxAwake] of [['as it is', undefined], ['all but one thread asleep', 1]] as const) {
  storeConformance((promise, fn) => t.test(`${name}: ${promise}`, async (t) => { await fn(); t.pass() }), async ({ retention } = {}) => {
    const store = new MemoryStore(retention, maxAwake)
    await store.open()
    return { store, end: () => store.close() }
  })
}

const DAY = 24 * 3_600_000

t.test('a sweep looks at a bounded number of threads', async (t) => {
  const store = new MemoryStore()
  const count = 250
  for (let i = 0; i < count; i++) await store.putThread({ threadId: `t${i}`, userId: 'u1', createdAt: '' })
  const left = async (): Promise<number> => (await store.listThreads('u1', { limit: count })).length
  const later = Date.now() + 31 * DAY
  const sizes: number[] = []
  while (await left() > 0) {
    store.sweep(later)
    sizes.push(await left())
    if (sizes.length > 10) break
  }
  t.same(sizes, [150, 50, 0])
  store.sweep(later)
  t.equal(await left(), 0)
})

t.test('idle threads are forgotten after their time, those in use are not', async (t) => {
  const store = new MemoryStore({ positionMs: 10 * DAY, maxAgeMs: DAY })
  for (const threadId of ['idle', 'read', 'running', 'watched']) await store.putThread({ threadId, userId: 'u1', createdAt: '' })
  const inbox = await store.inbox('u2')
  await store.append('read', ['{"v":1}'])
  const info = { userId: 'u1', agent: 'triage', agentId: 'a', messageId: 'm', trigger: 'api', startedAt: 0 } as const
  await store.append('running', ['{"v":1}'], { start: { runId: 'r1', started: true, mode: 'now', maxRuns: 1, info } })
  const unwatch = await store.watch('watched', { events () {}, gap () {}, deleted () {} })
  const left = async (): Promise<string[]> => (await store.listThreads('u1', { limit: 10 })).map(({ record }) => record.threadId)

  store.sweep(Date.now() + 9 * DAY)
  t.same(await left(), ['idle', 'read', 'running', 'watched'])
  t.equal((await store.read('read', 0)).first, 2, 'its event is gone, its position is not')
  store.sweep(Date.now() + 11 * DAY)
  t.same(await left(), ['running', 'watched'])
  t.equal(await store.getThread('idle'), undefined)
  t.not((await store.inbox('u2')).record.threadId, inbox.record.threadId)
  unwatch()
  await store.append('running', ['{"v":1}'], { run: { runId: 'r1', fence: 1, n: 2, ends: 'success' } })
  store.sweep(Date.now() + 22 * DAY)
  t.same(await left(), [])
  t.equal(await store.getRun('r1'), undefined)
})

t.test('idle threads are kept as texts', async (t) => {
  const used = (): number => {
    gc()
    return process.memoryUsage().heapUsed
  }
  const fill = async (maxAwake: number): Promise<[store: MemoryStore, bytesEach: number]> => {
    const store = new MemoryStore({}, maxAwake)
    const before = used()
    for (let i = 0; i < 10_000; i++) {
      await store.putThread({ threadId: `t${i}`, userId: `u${i}`, createdAt: '2026-01-01T00:00:00.000Z' })
      await store.append(`t${i}`, ['{"type":"user_message"}'])
    }
    return [store, (used() - before) / 10_000]
  }
  const [awake, bytesAwake] = await fill(10_000)
  const [asleep, bytesAsleep] = await fill(1)
  t.ok(bytesAsleep < 600 && bytesAsleep * 2 < bytesAwake, `${bytesAsleep.toFixed(0)} and ${bytesAwake.toFixed(0)} bytes each`)
  for (const store of [awake, asleep]) t.equal((await store.read('t0', 0)).head, 1)
})

t.test('a forgotten thread is anybody\'s to register', async (t) => {
  const store = new MemoryStore({ positionMs: DAY })
  for (const threadId of ['a', 'b']) {
    await store.putThread({ threadId, userId: 'u1', createdAt: '' })
    await store.deleteThread(threadId)
  }
  store.sweep()
  t.equal((await store.putThread({ threadId: 'a', userId: 'u2', createdAt: '' })).created, false)
  store.sweep(Date.now() + 2 * DAY)
  t.equal((await store.putThread({ threadId: 'a', userId: 'u2', createdAt: '' })).created, true)
  const short = new MemoryStore({ positionMs: 0 })
  await short.putThread({ threadId: 'a', userId: 'u1', createdAt: '' })
  await short.deleteThread('a')
  t.equal((await short.putThread({ threadId: 'a', userId: 'u2', createdAt: '' })).created, true, 'also before the sweep')
})

t.test('a long log is trimmed without moving it for every event', async (t) => {
  const store = new MemoryStore({ maxEvents: 5 })
  await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
  for (let i = 1; i <= 5_000; i++) {
    await store.append('t1', [`{"v":${i}}`])
    const { entries, first, head } = await store.read('t1', 0)
    if (head !== i || first !== Math.max(1, i - 4) || entries.length !== Math.min(i, 5) || !entries.at(-1)!.json.endsWith(`"v":${i}}`)) t.fail(`after event ${i}: ${JSON.stringify(entries)}`)
  }
  t.pass()
})

t.test('nobody shares a memory', async (t) => {
  const store: Store = new MemoryStore()
  store.onAvailability(() => t.fail('it is always available'))
  store.onQuestion(async () => t.fail('nobody asks'))
  store.onOrphan(() => t.fail('its runs end with it'))
  t.same(await store.ask({ type: 'watched', threadId: 't1' }, { timeoutMs: 1, answers: 'all' }), [])
  t.match(store.availability, { available: true })
})

t.test('sweeps by itself while it is open', async (t) => {
  mock.timers.enable({ apis: ['setInterval', 'Date'], now: Date.now() })
  t.teardown(() => { mock.timers.reset() })
  const store = new MemoryStore({ positionMs: 1_000 })
  await store.open()
  await store.putThread({ threadId: 'a', userId: 'u1', createdAt: '' })
  mock.timers.tick(500)
  t.ok(await store.getThread('a'))
  mock.timers.tick(60_000)
  t.equal(await store.getThread('a'), undefined)
  await store.close()
  mock.timers.tick(60_000)
})
