import t, { type Test } from 'tap'
import { mock } from 'node:test'
import { MemoryStore } from '../../../plugins/store/memory-store.js'
import { MemoryThread } from '../../../plugins/store/memory-thread.js'
import { defaultRetention, type RunStart, type RunStep } from '../../../plugins/store/store.js'
import { randomFrom } from '../../../scripts/load-test/options.js'
import { collected } from '../../support/gc.js'

const DAY = 24 * 3_600_000
const info = { userId: 'u1', agent: 'triage', agentId: 'a', messageId: 'm', trigger: 'api', startedAt: 0 } as const

function startOf (runId: string, more: Partial<RunStart> = {}): RunStart {
  return { runId, started: true, mode: 'now', maxRuns: 1_000, info, ...more }
}

/** A store with some threads in which nothing happens: whoever reads them puts the others to sleep. */
async function newStore (retention = {}): Promise<{ store: MemoryStore, others: () => Promise<void> }> {
  const store = new MemoryStore(retention, 1)
  for (const threadId of ['other1', 'other2']) await store.putThread({ threadId, userId: 'other', createdAt: '' })
  const others = async (): Promise<void> => { for (const threadId of ['other1', 'other2']) await store.read(threadId, 0) }
  return { store, others }
}

/** The ids of the threads that go to sleep from now on. */
function sleepers (t: Pick<Test, 'intercept'>): () => string[] {
  const ids: string[] = []
  const { sleep } = MemoryThread.prototype
  t.intercept(MemoryThread.prototype, 'sleep', { value (this: MemoryThread) { ids.push(this.record.threadId); return sleep.call(this) } })
  return () => ids.splice(0)
}

for (const [size, long] of [['few', []], ['many', ['x'.repeat(9_000)]]] as const) {
  t.test(`what sleeps wakes with all it had, ${size} bytes of it`, async (t) => {
    const { store, others } = await newStore({ maxEvents: 9 })
    const slept = sleepers(t)
    const texts = ['plain', 'é', '漢字 🧵', '"quoted" \\ \n', '\ud800', ...long]
    await store.putThread({ threadId: 't1', userId: 'ü', createdAt: '2026-01-01T00:00:00.000Z', metadata: { tags: ['ü', 1, null] } })
    await store.append('t1', Array.from({ length: 9 }, (_, i) => JSON.stringify({ text: `trimmed ${i}` })))
    await store.append('t1', texts.map((text) => JSON.stringify({ text })), { start: startOf('r1') })
    const key = await store.append('t1', [JSON.stringify({ text: 'with a key' })], { key: 'k1' })
    await others()
    t.notOk(slept().includes('t1'), 'something runs in it')
    await store.append('t1', ['{"v":2}'], { run: { runId: 'r1', fence: 1, n: 2, ends: 'success' } })
    const all = async (): Promise<unknown[]> => {
      const { entries, ...page } = await store.read('t1', 0)
      return [await store.getThread('t1'), await store.getRun('r1'), page, entries.map(({ seq, json }) => [seq, json]), await store.listThreads('ü', { limit: 1 })]
    }
    const before = await all()
    slept()
    for (let i = 0; i < 3; i++) {
      await others()
      t.ok(slept().includes('t1'))
      t.match(await store.getThread('t1'), { head: 11 + texts.length, record: { userId: 'ü' } })
      await store.getRun('r1')
      await store.listThreads('ü', { limit: 1 })
      await store.putThread({ threadId: 't1', userId: 'ü', createdAt: '' })
      await store.inbox('u3')
      t.notOk(slept().includes('t1'), 'whoever asks about it does not wake it')
      t.strictSame(await all(), before)
    }
    await others()
    t.strictSame(await store.append('t1', ['{"v":3}'], { key: 'k1' }), { ...key, repeated: true }, 'also which calls were stored')
    await others()
    t.equal((await store.append('t1', ['{"v":3}'])).first.seq, 12 + texts.length)
    t.equal((await store.read('t1', 0)).entries.length, 9)
  })
}

t.test('what is watched or runs does not sleep, and does when that is over', async (t) => {
  const { store, others } = await newStore()
  const slept = sleepers(t)
  for (const threadId of ['watched', 'running', 'long']) await store.putThread({ threadId, userId: 'u1', createdAt: '' })
  const seqs: number[] = []
  const unwatch = await store.watch('watched', { events (entries) { seqs.push(...entries.map(({ seq }) => seq)) }, gap () {}, deleted () {} })
  await store.append('running', ['{"v":1}'], { start: startOf('r1') })
  await store.append('running', ['{"v":1}'], { start: startOf('child', { info: { ...info, parentRunId: 'r1' } }) })
  await store.append('long', [JSON.stringify({ text: 'x'.repeat(20_000) })])
  slept()
  for (let i = 0; i < 3; i++) {
    await others()
    await store.append('watched', ['{"v":1}'])
  }
  t.same(slept().filter((id) => !id.startsWith('other')), [])
  t.same(seqs, [1, 2, 3])
  await store.append('running', ['{"v":1}'], { run: { runId: 'r1', fence: 1, n: 2, ends: 'success' } })
  await others()
  t.notOk(slept().includes('running'), 'its child runs')
  await store.append('running', ['{"v":1}'], { run: { runId: 'child', fence: 1, n: 2, ends: 'success' } })
  unwatch()
  await others()
  t.same(slept().filter((id) => !id.startsWith('other')).sort(), ['running', 'watched'])
  t.equal((await store.read('watched', 0)).entries.length, 3)
  t.match(await store.getRun('r1'), { state: 'success' })
  store.sweep(Date.now() + 8 * DAY)
  await others()
  t.ok(slept().includes('long'), 'a long log that was trimmed is short')
})

t.test('a watcher that leaves late wakes no dead', async (t) => {
  const { store, others } = await newStore()
  await store.putThread({ threadId: 'deleted', userId: 'u1', createdAt: '' })
  const unwatch = await store.watch('deleted', { events () {}, gap () {}, deleted () {} })
  await store.deleteThread('deleted')
  unwatch()
  await others()
  t.equal(await store.getThread('deleted'), undefined)
})

t.test('what is too old is forgotten in its sleep, and what is not sleeps on', async (t) => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => { mock.timers.reset() })
  const { store, others } = await newStore({ maxAgeMs: DAY, positionMs: 10 * DAY })
  const slept = sleepers(t)
  await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
  await store.append('t1', ['{"v":1}', '{"v":2}'], { start: startOf('r1') })
  await store.append('t1', ['{"v":3}'], { run: { runId: 'r1', fence: 1, n: 2, ends: 'success' } })
  await others()
  t.ok(slept().includes('t1'))
  store.sweep()
  mock.timers.tick(DAY - 1)
  store.sweep()
  store.sweep()
  await others()
  t.notOk(slept().includes('t1'), 'not even looked at')
  t.match(await store.getRun('r1'), { state: 'success' })
  mock.timers.tick(2)
  for (let i = 0; i < 2; i++) store.sweep()
  t.equal(await store.getRun('r1'), undefined)
  await others()
  t.match(await store.getThread('t1'), { head: 3 })
  mock.timers.tick(10 * DAY)
  for (let i = 0; i < 2; i++) store.sweep()
  t.equal(await store.getThread('t1'), undefined)
})

t.test('V8 learns of what is deleted, and of what goes to sleep, when it is much', async (t) => {
  const { store, others } = await newStore()
  let threads = 0
  const newThread = async (bytes: number): Promise<string> => {
    const threadId = `t${++threads}`
    await store.putThread({ threadId, userId: 'u1', createdAt: '' })
    await store.append(threadId, [JSON.stringify({ text: 'x'.repeat(bytes) })])
    return threadId
  }
  /** Whether V8 counts the block that a new event is in. */
  const isCounted = async (): Promise<boolean> => {
    const { entries: [entry] } = await store.read(await newThread(20_000), 0)
    return !(entry!.framed!.buffer.buffer instanceof SharedArrayBuffer)
  }
  await collected()
  for (let i = 0; i < 50; i++) await store.deleteThread(await newThread(1_000_000))
  t.ok(await isCounted(), 'deleted')
  await collected()
  t.notOk(await isCounted())
  const slept = sleepers(t)
  for (let i = 0; i < 4_000; i++) await newThread(12_000)
  await others()
  t.equal(slept().filter((threadId) => threadId.startsWith('t')).length, 4_000)
  t.ok(await isCounted(), 'asleep')
  await collected()
  t.notOk(await isCounted())
})

t.test('metadata stays what it was, whatever is done with the object later', async (t) => {
  const { store, others } = await newStore()
  const metadata: Record<string, unknown> = { plan: 'free' }
  await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '', metadata })
  metadata['plan'] = metadata
  await others()
  t.strictSame((await store.getThread('t1'))?.record.metadata, { plan: 'free' })
})

t.test('a store whose threads sleep answers as one whose threads never do', async (t) => {
  mock.timers.enable({ apis: ['Date'], now: 1_700_000_000_000 })
  t.teardown(() => { mock.timers.reset() })
  const retentions = [{}, { maxEvents: 7 }, { maxBytes: 3_000 }, { maxAgeMs: 60_000, positionMs: 200_000 }]
  for (let seed = 1; seed <= 12; seed++) {
    const random = randomFrom(seed)
    const upTo = (n: number): number => Math.floor(random() * n)
    const oneOf = <T>(values: readonly T[]): T => values[upTo(values.length)]!
    const retention = { ...defaultRetention, ...retentions[seed % retentions.length] }
    const stores = [new MemoryStore(retention, 1 + seed % 3), new MemoryStore(retention, Infinity)] as const
    const heard: unknown[][] = [[], []]
    const unwatch: Array<Array<() => void>> = [[], []]
    const runs: Array<{ readonly runId: string, readonly threadId: string }> = []
    const ids = ['t0', 't1', 't2', 't3', 't4', 'ü🧵']
    for (let step = 0; step < 600; step++) {
      const [threadId, runId, userId, key] = [oneOf(ids), `r${seed}-${step}`, oneOf(['u1', 'u2']), `k${upTo(40)}`]
      const bodies = Array.from({ length: 1 + upTo(3) }, () => JSON.stringify({ text: oneOf(['a', 'é', '漢🧵', 'z'.repeat(upTo(300))]), step }))
      const run = oneOf(runs)
      const operations: ReadonlyArray<(store: MemoryStore, which: number) => unknown> = [
        (store) => store.putThread({ threadId, userId, createdAt: '', metadata: { step } }, oneOf([3])),
        (store) => store.append(threadId, bodies),
        (store) => store.append(threadId, bodies, { key }),
        (store) => store.append(threadId, bodies, { start: startOf(runId, { mode: 'enqueue', started: step % 2 === 0, info: { ...info, userId } }) }),
        (store) => store.append(threadId, bodies, { key, start: startOf(runId, { mode: 'now', info: { ...info, userId, ...(run !== undefined && { parentRunId: run.runId }) } }) }),
        (store) => run === undefined ? undefined : end(store, run.threadId, run.runId, bodies),
        (store) => run === undefined ? undefined : end(store, run.threadId, run.runId, bodies),
        async (store) => {
          const { entries, head, first } = await store.read(threadId, step % 12, 5)
          return { head, first, entries: entries.map(({ seq, json }) => [seq, json]) }
        },
        (store) => store.getThread(threadId),
        (store) => run === undefined ? undefined : store.getRun(run.runId),
        (store) => store.listThreads(userId, { limit: 10 }),
        (store) => store.claimNext(threadId),
        async (store, which) => {
          unwatch[which]!.push(await store.watch(threadId, {
            events (entries) { heard[which]!.push(...entries.map(({ seq, json }) => [seq, withoutEpoch(json)])) },
            gap () {},
            deleted () { heard[which]!.push('deleted') }
          }))
        },
        (_store, which) => { unwatch[which]!.shift()?.() },
        (store) => step % 7 === 0 ? store.deleteThread(threadId) : undefined,
        (store) => { store.sweep() }
      ]
      const operation = upTo(operations.length)
      if (operation === 3 || operation === 4) runs.push({ runId, threadId })
      if (step % 10 === 0) mock.timers.tick(upTo(20_000))
      const [sleeping, awake] = [await answerOf(operations[operation]!, 0), await answerOf(operations[operation]!, 1)]
      if (sleeping !== awake) t.equal(sleeping, awake, `seed ${seed}, step ${step}, operation ${operation}`)
    }
    t.strictSame(heard[0], heard[1], `seed ${seed}: ${heard[0]!.length} events heard`)

    async function answerOf (operation: (store: MemoryStore, which: number) => unknown, which: 0 | 1): Promise<string> {
      try {
        return withoutEpoch(JSON.stringify(await operation(stores[which], which)) ?? '')
      } catch (error) {
        return (error as { code?: string }).code ?? String(error)
      }
    }
  }
})

async function end (store: MemoryStore, threadId: string, runId: string, bodies: readonly string[]): Promise<unknown> {
  const run = await store.getRun(runId)
  if (run === undefined) return undefined
  const step: RunStep = { runId, fence: run.fence, n: run.n + 1, ends: 'success', ...(run.firstSeq === 0 && { starts: true }) }
  return [await store.append(threadId, bodies, { run: step }), await store.append(threadId, bodies, { run: step })]
}

/** It is at random. */
function withoutEpoch (text: string): string {
  return text.replaceAll(/"epoch":"[0-9a-z]{12}"/g, '').replaceAll(/[0-9a-z]{12}-(\d{10})/g, '$1')
}
