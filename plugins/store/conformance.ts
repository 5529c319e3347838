import assert from 'node:assert/strict'
import { formatCursor } from '../../schemas/index.js'
import {
  MAX_WAITING_RUNS, PAGE_BYTES, PAGE_EVENTS,
  type Appended, type Entry, type Page, type Question, type Retention, type RunInfo, type RunRecord, type RunStart, type RunStep, type Store, type ThreadRecord, type Watcher
} from './store.js'

/** What one case works with: a store of its own. */
export interface ConformanceSetup {
  /** Open and empty. */
  readonly store: Store
  /** Called once after the case, also when it failed: closes every store of the setup and removes its data. */
  end (): Promise<void>
  /** One more open store over the same data, as another process or node has it. Absent where nobody can share the data. */
  second? (): Promise<Store>
  /** Closes `store` and opens another one over the same data, as a process does that starts again. Absent where nothing lasts. */
  reopen? (): Promise<Store>
  /** How long a case waits for what must happen, in milliseconds. @default 15_000 */
  readonly patienceMs?: number
}

export interface ConformanceOptions {
  /** Over the store's defaults. */
  readonly retention?: Partial<Retention>
}

/** Declares one case with the test runner in use. A case that rejects has failed; the error is node's AssertionError. */
export type DeclareCase = (name: string, fn: () => Promise<void>) => unknown

interface Context extends ConformanceSetup {
  /** Another node's store where there can be one, else the same store. */
  readonly other: Store
  /** Waits for what must happen; fails when it does not. */
  until (what: string, holds: () => boolean | Promise<boolean>): Promise<void>
  /** Watches a thread from its head on. */
  follow (store: Store, threadId: string): Promise<Follower>
}

type Is = (name: string, fn: (context: Context) => Promise<void>, retention?: Partial<Retention>) => void

/**
 * The contract of a store as cases for any test runner. Every case gets a store of its own.
 *
 * ```ts
 * storeConformance((name, fn) => test(name, fn), async ({ retention } = {}) => {
 *   const store = new MyStore({ retention })
 *   await store.open()
 *   return { store, end: () => store.close() }
 * })
 * ```
 * @param test declares a case: node:test's and vitest's `test` fit as they are
 * @param create a fresh, open store
 */
export function storeConformance (test: DeclareCase, create: (options?: ConformanceOptions) => Promise<ConformanceSetup>): void {
  const is: Is = (name, fn, retention) => test(`store: ${name}`, async () => {
    const setup = await create(retention === undefined ? {} : { retention })
    try {
      const other = await setup.second?.() ?? setup.store
      const until: Context['until'] = (what, holds) => waitUntil(what, holds, setup.patienceMs ?? 15_000)
      await fn({ ...setup, other, until, follow: Follower.on })
    } finally {
      await setup.end()
    }
  })
  threads(is)
  appends(is)
  keys(is)
  reads(is)
  watches(is)
  queues(is)
  steps(is)
  retention(is)
  lifetimes(is)
}

function threads (is: Is): void {
  is('a new thread is stored as it was given', async ({ store, other }) => {
    const record = { threadId: 't1', userId: 'u1', createdAt: '2026-01-01T12:00:00.000Z', agent: 'triage', metadata: { title: 'Grüße 👋', deep: { list: [1, null, 'x'] } } }
    const state = await store.putThread(record)
    assert.equal(state.created, true)
    assert.equal(state.head, 0)
    assert.match(state.epoch, /^[0-9a-z]{12}$/)
    assert.deepEqual(state.record, record)
    assert.deepEqual(await other.getThread('t1'), { record, epoch: state.epoch, head: 0 })
    assert.equal(await store.getThread('t2'), undefined)
  })

  is('a known thread is answered as it is', async ({ store, other }) => {
    const first = await store.putThread(thread('t1', 'u1', { agent: 'triage' }))
    await store.append('t1', [body()])
    const again = await other.putThread(thread('t1', 'u1', { agent: 'another' }))
    assert.equal(again.created, false)
    assert.equal(again.epoch, first.epoch)
    assert.equal(again.head, 1)
    assert.equal(again.record.agent, 'triage')
    const foreign = await other.putThread(thread('t1', 'u2'))
    assert.equal(foreign.created, false)
    assert.equal(foreign.record.userId, 'u1')
    assert.equal((await store.getThread('t1'))?.record.userId, 'u1')
    assert.deepEqual(await store.listThreads('u2', { limit: 10 }), [])
  })

  is('one of many who register a thread at once gets it', async ({ store, other }) => {
    for (let round = 0; round < 10; round++) {
      const states = await Promise.all(times(10, (i) => (i % 2 === 0 ? store : other).putThread(thread(`t${round}`, `u${i}`))))
      const winners = states.filter(({ created }) => created)
      assert.equal(winners.length, 1)
      const { record: { userId }, epoch } = winners[0]!
      for (const state of states) assert.deepEqual([state.record.userId, state.epoch], [userId, epoch])
      assert.deepEqual(ids(await store.listThreads(userId, { limit: 100 })).includes(`t${round}`), true)
    }
    const listed = await Promise.all(times(10, (i) => store.listThreads(`u${i}`, { limit: 100 })))
    assert.equal(listed.flat().length, 10)
  })

  is("a user's threads are listed in order and paged, without the inbox", async ({ store, other }) => {
    const expected = times(25, (i) => `t${String(i).padStart(2, '0')}`)
    for (const threadId of [...expected].reverse()) await store.putThread(thread(threadId, 'u1'))
    await store.putThread(thread('t03a', 'u2'))
    await store.inbox('u1')
    await store.append('t07', [body(), body()])
    assert.deepEqual(ids(await other.listThreads('u1', { limit: 100 })), expected)
    assert.equal((await store.listThreads('u1', { limit: 100 }))[7]!.head, 2)
    const paged: string[] = []
    for (let after: string | undefined; ;) {
      const page = ids(await store.listThreads('u1', { limit: 10, ...(after !== undefined && { after }) }))
      if (page.length === 0) break
      assert.ok(page.length <= 10)
      paged.push(...page)
      after = page.at(-1)!
    }
    assert.deepEqual(paged, expected)
    assert.deepEqual(ids(await store.listThreads('u1', { after: 't03a', limit: 1 })), ['t04'], 'after an id that is not in the list')
    assert.deepEqual(await store.listThreads('u3', { limit: 10 }), [])
  })

  is('a user has one inbox, also when it is asked for by many at once', async ({ store, other }) => {
    const inboxes = await Promise.all(times(20, (i) => (i % 2 === 0 ? store : other).inbox('u1')))
    const { record, epoch } = inboxes[0]!
    assert.equal(record.inbox, true)
    assert.equal(record.userId, 'u1')
    for (const inbox of inboxes) assert.deepEqual([inbox.record.threadId, inbox.epoch], [record.threadId, epoch])
    assert.notEqual((await store.inbox('u2')).record.threadId, record.threadId)
    await store.append(record.threadId, [body()])
    assert.equal((await other.inbox('u1')).head, 1)
    assert.equal((await other.getThread(record.threadId))?.record.inbox, true)
    assert.deepEqual(await store.listThreads('u1', { limit: 10 }), [])
  })

  is('the limit of threads counts what a user has now, without the inbox', async ({ store }) => {
    await store.inbox('u1')
    await store.putThread(thread('t1', 'u1'), 2)
    await store.putThread(thread('t2', 'u1'), 2)
    await refused(store.putThread(thread('t3', 'u1'), 2), 'FAE_ERR_THREAD_LIMIT')
    assert.equal(await store.getThread('t3'), undefined)
    assert.equal((await store.putThread(thread('t2', 'u1'), 2)).created, false, 'what is there is no new one')
    assert.equal((await store.putThread(thread('t3', 'u2'), 2)).created, true)
    await store.deleteThread('t1')
    assert.equal((await store.putThread(thread('t4', 'u1'), 2)).created, true)
  })

  is('a deleted thread is gone with its log and its runs', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await store.append('t1', [body()], { key: 'k' })
    assert.equal(await other.deleteThread('t1'), true)
    assert.equal(await other.deleteThread('t1'), false)
    assert.equal(await store.getThread('t1'), undefined)
    assert.equal(await store.getRun('r1'), undefined)
    assert.deepEqual(await store.listThreads('u1', { limit: 10 }), [])
    await refused(store.append('t1', [body()]), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.append('t1', [body()], { key: 'k' }), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.append('t1', [body()], { run: step('r1', 2) }), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.append('t1', [body()], { start: start('r2') }), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.read('t1', 0), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.watch('t1', new Follower()), 'FAE_ERR_THREAD_NOT_FOUND')
    assert.equal(await store.deleteThread('t2'), false)
  })

  is('a deleted thread is its late owner\'s to register again, with a new history', async ({ store, other }) => {
    const before = await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body(), body()], { key: 'k' })
    await store.append('t1', [body()], { start: start('r1') })
    await store.deleteThread('t1')
    const foreign = await other.putThread(thread('t1', 'u2'))
    assert.equal(foreign.created, false)
    assert.equal(foreign.record.userId, 'u1')
    assert.equal(await store.getThread('t1'), undefined, 'a refused attempt revives nothing')
    const own = await other.putThread(thread('t1', 'u1', { agent: 'new' }))
    assert.equal(own.created, true)
    assert.equal(own.record.agent, 'new')
    assert.ok(own.epoch > before.epoch, `${own.epoch} sorts behind ${before.epoch}`)
    const page = await store.read('t1', 0)
    assert.deepEqual(page.entries, [])
    assert.ok(page.epochs.every(({ epoch }) => epoch !== before.epoch), 'old cursors are foreign')
    assert.equal(page.epochs.at(-1)!.epoch, own.epoch)
    assert.equal((await store.append('t1', [body()], { key: 'k' })).repeated, undefined, 'keys went with the log')
    await refused(store.append('t1', [body()], { run: step('r1', 2) }), 'FAE_ERR_RUN_NOT_FOUND')
    assert.deepEqual(ids(await store.listThreads('u1', { limit: 10 })), ['t1'])
  })

  is('a thread deleted many times over never goes back in its epochs', async ({ store }) => {
    let last = ''
    for (let round = 0; round < 5; round++) {
      const { epoch, created } = await store.putThread(thread('t1', 'u1'))
      assert.equal(created, true)
      assert.ok(epoch > last)
      last = epoch
      await store.deleteThread('t1')
    }
  })
}

/** Ids that break keys, globs, paths, templates, parsers and look-ups by prefix. */
const oddIds = [
  'thread_13679e4dcc38403a', 'thread_13679e4dcc38403a_run_1756919162904_9adf1f09', '_run_', 'a_run_b_run_c',
  'a', 'a:b', 'a/b', '/a/../b//', '\\a\\', '{a}', '{}', '}{', '{a}{b}', '{{a', '[a-z]*', 'a*', '?', 'a%b', '%7Ba%7D', '%', '%00', '%E0%A4%A', '100%25',
  'A', 'caf\u00e9', 'cafe\u0301', '日本語のスレッド', '👩‍👩‍👧‍👦', '\u202ertl', 'ｆｕｌｌ', ' ', ' a', 'a ', "'", '"', '`$(a)`', '${a}', 'a\u0085b', 'a,b;c=d&e#f', // eslint-disable-line no-template-curly-in-string
  '0', '-1', '1e3', 'true', 'null', 'undefined', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'user@example.org', 'a|b', '<a>', '~', '.', '..',
  'x'.repeat(100), '€'.repeat(100), '👋'.repeat(50), '%'.repeat(100), '{'.repeat(100)
]

function appends (is: Is): void {
  is('events are numbered from 1 without gaps', async ({ store, other }) => {
    const { epoch } = await store.putThread(thread('t1', 'u1'))
    for (let seq = 1; seq <= 5; seq++) {
      assert.deepEqual(await (seq % 2 === 0 ? store : other).append('t1', [body()]), { first: { epoch, seq }, last: { epoch, seq } })
    }
    assert.deepEqual(await store.append('t1', [body(), body(), body()]), { first: { epoch, seq: 6 }, last: { epoch, seq: 8 } })
    assert.equal((await other.getThread('t1'))?.head, 8)
    assert.deepEqual(seqs(await readAll(store, 't1')), times(8, (i) => i + 1))
  })

  is('an event on the wire is its body with id and seq in front', async ({ store, other, until, follow }) => {
    const { epoch } = await store.putThread(thread('t1', 'u1'))
    const follower = await follow(store, 't1')
    const bodies = [
      body(), body('"seq":1,"id":"x"'), body({ id: 'mine', seq: -1, nested: [[[{}]]] }), body('\u0000\u2028\ud800 👋 "\\" </script>'), body('ü'.repeat(100_000)), body(null)
    ]
    for (const text of bodies) await store.append('t1', [text])
    const expected = bodies.map((text, i) => `{"id":"${formatCursor(epoch, i + 1)}","seq":${i + 1},${text.slice(1)}`)
    assert.deepEqual((await readAll(other, 't1')).map(({ json }) => json), expected)
    await until('live events', () => follower.seq === bodies.length)
    assert.deepEqual(follower.entries.map(({ json }) => json), expected, 'the same bytes live and replayed')
  })

  is('1,000 appends at once are 1 to 1000, and are watched in the order they are stored', async ({ store, other, until, follow }) => {
    await store.putThread(thread('t1', 'u1'))
    const followers = [await follow(store, 't1'), await follow(other, 't1')]
    const appended = await Promise.all(times(1_000, (i) => (i % 2 === 0 ? store : other).append('t1', [body(i)])))
    assert.deepEqual(appended.map(({ first }) => first.seq).sort((a, b) => a - b), times(1_000, (i) => i + 1))
    const stored = await readAll(store, 't1')
    assert.deepEqual(seqs(stored), times(1_000, (i) => i + 1))
    for (const [i, { first }] of appended.entries()) assert.equal(valueOf(stored[first.seq - 1]!), i, 'each under the position it was told')
    for (const follower of followers) {
      await until('all live events', () => follower.seq === 1_000)
      follower.check()
      assert.deepEqual(follower.entries, stored)
    }
  })

  is('many bodies of one call stand together', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    const appended = await Promise.all(times(20, (call) => (call % 2 === 0 ? store : other).append('t1', times(50, (i) => body([call, i])))))
    const stored = await readAll(store, 't1')
    assert.equal(stored.length, 1_000)
    for (const [call, { first, last }] of appended.entries()) {
      assert.equal(last.seq - first.seq, 49)
      assert.deepEqual(stored.slice(first.seq - 1, last.seq).map(valueOf), times(50, (i) => [call, i]))
    }
  })

  is('a refused call leaves nothing behind', async ({ store, until, follow }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    const follower = await follow(store, 't1')
    await refused(store.append('t1', [body(), body()], { run: step('r1', 3) }), 'FAE_ERR_RUN_HOLE')
    await refused(store.append('t1', [body(), body()], { run: step('r2', 2) }), 'FAE_ERR_RUN_NOT_FOUND')
    await refused(store.append('t1', [body()], { key: 'k', start: start('r2', { mode: 'reject' }) }), 'FAE_ERR_THREAD_BUSY')
    await refused(store.append('t1', [body()], { key: 'l', start: start('r1') }), 'FAE_ERR_RUN_EXISTS')
    assert.equal((await store.getThread('t1'))?.head, 1)
    assert.equal(await store.getRun('r2'), undefined)
    assert.equal((await store.append('t1', [body()], { key: 'k' })).last.seq, 2, 'its key is free')
    assert.equal((await store.append('t1', [body()], { key: 'l' })).last.seq, 3)
    await until('live events', () => follower.seq === 3)
    follower.check()
    assert.deepEqual(seqs(await readAll(store, 't1')), [1, 2, 3])
  })

  is('an unknown thread is refused', async ({ store }) => {
    await refused(store.append('t1', [body()]), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.append('t1', [body()], { start: start('r1') }), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.read('t1', 0), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.watch('t1', new Follower()), 'FAE_ERR_THREAD_NOT_FOUND')
    await refused(store.claimNext('t1'), 'FAE_ERR_THREAD_NOT_FOUND')
    assert.equal(await store.getThread('t1'), undefined)
    assert.equal(await store.getRun('r1'), undefined)
  })

  is('ids of any format name what they name and nothing else', async ({ store, other, until, follow }) => {
    assert.equal(new Set(oddIds).size, oddIds.length)
    const owner = (id: string): string => [...id].reverse().join('').slice(0, 100)
    const followers: Follower[] = []
    for (const id of oddIds) {
      assert.equal((await store.putThread(thread(id, owner(id)))).created, true, id)
      followers.push(await follow(other, id))
    }
    for (const [i, id] of oddIds.entries()) {
      await store.append(id, [body(i)], { key: id, start: start(`run ${id}`, { userId: owner(id) }) })
      assert.equal((await other.append(id, [body(i)], { key: id })).repeated, true, id)
      await store.append(id, [body(1_000 + i)], { run: step(`run ${id}`, 2, { opens: [[`tool:${id}`, id]] }) })
    }
    for (const [i, id] of oddIds.entries()) {
      assert.equal((await other.getThread(id))?.record.threadId, id)
      const stored = await readAll(other, id)
      assert.deepEqual(stored.map(valueOf), [i, 1_000 + i], id)
      const run = await other.getRun(`run ${id}`)
      assert.deepEqual([run?.threadId, run?.runId, run?.n], [id, `run ${id}`, 2], id)
      assert.deepEqual(Object.entries(run!.open), [[`tool:${id}`, id]])
      assert.ok(ids(await store.listThreads(owner(id), { limit: 100 })).includes(id), id)
      await until(`live events of ${id}`, () => followers[i]!.seq === 2)
      assert.deepEqual(followers[i]!.entries, stored)
    }
    for (const id of oddIds) assert.equal(await store.deleteThread(id), true, id)
    for (const id of oddIds) assert.equal(await other.getRun(`run ${id}`), undefined, id)
  })
}

function keys (is: Is): void {
  is('the same key twice is one event', async ({ store, other }) => {
    const { epoch } = await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()])
    const first = await store.append('t1', [body('one')], { key: 'k' })
    await store.append('t1', [body()])
    assert.deepEqual(await other.append('t1', [body('two')], { key: 'k' }), { first: { epoch, seq: 2 }, last: { epoch, seq: 2 }, repeated: true })
    assert.equal(first.repeated, undefined)
    assert.equal((await store.append('t1', [body()], { key: 'K' })).repeated, undefined)
    assert.equal((await store.getThread('t1'))?.head, 4)
    assert.equal(valueOf((await readAll(store, 't1'))[1]!), 'one')
    await store.putThread(thread('t2', 'u1'))
    assert.equal((await store.append('t2', [body()], { key: 'k' })).repeated, undefined, "a key is its thread's")
  })

  is('the same key many times at once is one event', async ({ store, other, until, follow }) => {
    await store.putThread(thread('t1', 'u1'))
    const follower = await follow(store, 't1')
    const appended = await Promise.all(times(50, (i) => (i % 2 === 0 ? store : other).append('t1', [body(i)], { key: 'k' })))
    assert.equal(appended.filter(({ repeated }) => repeated !== true).length, 1)
    assert.deepEqual(new Set(appended.map(({ first }) => first.seq)), new Set([1]))
    await store.append('t1', [body('after')])
    await until('the event after it', () => follower.seq === 2)
    follower.check()
    assert.equal((await store.getThread('t1'))?.head, 2)
  })

  is('the same key with a start is one run', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    const appended = await Promise.all(times(20, (i) => (i % 2 === 0 ? store : other).append('t1', [body(i)], { key: 'k', start: start(`r${i}`, { started: false, mode: 'enqueue' }) })))
    const created = appended.filter(({ repeated }) => repeated !== true)
    assert.equal(created.length, 1)
    const { runId } = created[0]!.run!
    for (const { run } of appended) assert.equal(run?.runId, runId, 'everybody is told the run that there is')
    for (let i = 0; i < 20; i++) assert.equal((await store.getRun(`r${i}`)) !== undefined, `r${i}` === runId)
    await store.append('t1', [body()], { run: step(runId, 2, { ends: 'success' }) })
    const late = await other.append('t1', [body()], { key: 'k', start: start('late') })
    assert.deepEqual([late.repeated, late.run?.runId, late.run?.state], [true, runId, 'success'])
  })

  is('a key of many bodies answers with all of them', async ({ store, other }) => {
    const { epoch } = await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body(), body(), body()], { key: 'k' })
    assert.deepEqual(await other.append('t1', [body()], { key: 'k' }), { first: { epoch, seq: 1 }, last: { epoch, seq: 3 }, repeated: true })
  })

  is('a key lives as long as its event', async ({ store, until }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { key: 'k' })
    await append(store, 't1', 2)
    assert.equal((await store.append('t1', [body()], { key: 'k' })).repeated, true)
    await append(store, 't1', 1)
    await until('the event to be trimmed', async () => (await store.read('t1', 0)).first > 1)
    const again = await store.append('t1', [body()], { key: 'k' })
    assert.deepEqual([again.repeated, again.last.seq], [undefined, 5])
    await append(store, 't1', 1)
    assert.equal((await store.append('t1', [body()], { key: 'k' })).last.seq, 5, 'and as long as its second one')
  }, { maxEvents: 3 })
}

function reads (is: Is): void {
  is('a page begins after the position asked for', async ({ store, other }) => {
    const { epoch } = await store.putThread(thread('t1', 'u1'))
    assert.deepEqual(await store.read('t1', 0), { entries: [], head: 0, first: 1, epochs: [{ epoch, from: 1 }] }, 'nothing yet')
    await append(store, 't1', 10)
    const page = await other.read('t1', 4, 3)
    assert.deepEqual(seqs(page.entries), [5, 6, 7])
    assert.deepEqual([page.head, page.first], [10, 1])
    assert.deepEqual(page.epochs, [{ epoch, from: 1 }])
    assert.deepEqual(seqs((await store.read('t1', 9)).entries), [10])
    for (const afterSeq of [10, 11, 9_999_999_999]) {
      assert.deepEqual(await store.read('t1', afterSeq), { entries: [], head: 10, first: 1, epochs: [{ epoch, from: 1 }] }, `after ${afterSeq}`)
    }
  })

  is('a page is bounded by events', async ({ store }) => {
    await store.putThread(thread('t1', 'u1'))
    const count = 2 * PAGE_EVENTS + 10
    for (let i = 0; i < count; i += 402) await store.append('t1', times(402, () => body()))
    assert.equal((await store.getThread('t1'))?.head, count)
    assert.equal((await store.read('t1', 0)).entries.length, PAGE_EVENTS)
    assert.equal((await store.read('t1', 0, 10 * PAGE_EVENTS)).entries.length, PAGE_EVENTS)
    assert.deepEqual(seqs(await readAll(store, 't1')), times(count, (i) => i + 1))
  })

  is('a page is bounded by bytes, and holds one event at least', async ({ store }) => {
    await store.putThread(thread('t1', 'u1'))
    for (let i = 0; i < 100; i++) await store.append('t1', [body('x'.repeat(10_000))])
    await store.append('t1', [body('é'.repeat(PAGE_BYTES))])
    await append(store, 't1', 1)
    for (let after = 0; after < 102;) {
      const { entries } = await store.read('t1', after)
      assert.ok(entries.length >= 1)
      const withoutLast = entries.slice(0, -1).reduce((bytes, { json }) => bytes + Buffer.byteLength(json), 0)
      assert.ok(withoutLast <= 1.25 * PAGE_BYTES, `${withoutLast} bytes and one event more`)
      assert.equal(entries[0]!.seq, after + 1)
      after = entries.at(-1)!.seq
    }
  })

  is('a page says where the log begins', async ({ store, other, until }) => {
    await store.putThread(thread('t1', 'u1'))
    await append(store, 't1', 25)
    await until('the log to be trimmed', async () => (await store.read('t1', 0)).first === 16)
    for (const afterSeq of [0, 5, 14, 15]) {
      const page = await other.read('t1', afterSeq)
      assert.deepEqual([seqs(page.entries), page.first, page.head], [times(10, (i) => 16 + i), 16, 25], `after ${afterSeq}`)
    }
    assert.deepEqual(seqs((await store.read('t1', 3, 2)).entries), [16, 17])
    assert.deepEqual(seqs((await store.read('t1', 20)).entries), [21, 22, 23, 24, 25])
  }, { maxEvents: 10 })
}

function watches (is: Is): void {
  is('nothing that is appended after watch resolved is missed', async ({ store, other, until }) => {
    await store.putThread(thread('t1', 'u1'))
    const writing = { on: true }
    const writes = async (): Promise<void> => {
      while (writing.on) {
        await append(store, 't1', 3)
        await pause(1)
      }
    }
    const writer = writes()
    const followers: Follower[] = []
    try {
      for (let i = 0; i < 20; i++) {
        const follower = new Follower(undefined, other, 't1')
        await other.watch('t1', follower)
        const { head } = await other.read('t1', 0, 1)
        await until('later events', () => follower.seq > head)
        assert.ok(follower.entries[0]!.seq <= head + 1, `heard from ${follower.entries[0]!.seq} on, though watching at ${head}`)
        followers.push(follower)
      }
    } finally {
      writing.on = false
      await writer
    }
    const stored = await readAll(store, 't1')
    for (const follower of followers) {
      await until('the last event', () => follower.seq === stored.length)
      follower.check()
      assert.deepEqual(follower.entries, stored.slice(follower.entries[0]!.seq - 1))
    }
  })

  is('every watcher of a thread hears it, and only it', async ({ store, other, until, follow }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.putThread(thread('t2', 'u1'))
    const followers = await Promise.all([follow(store, 't1'), follow(store, 't1'), follow(other, 't1')])
    const elsewhere = await follow(other, 't2')
    for (let i = 0; i < 10; i++) await Promise.all([store.append('t1', [body(i)]), other.append('t2', [body(-i)])])
    const stored = await readAll(store, 't1')
    for (const follower of [...followers, elsewhere]) {
      await until('all events', () => follower.seq === 10)
      follower.check()
    }
    for (const follower of followers) assert.deepEqual(follower.entries, stored)
    assert.deepEqual(elsewhere.entries, await readAll(store, 't2'))
  })

  is('a watcher that left hears no more, the others go on', async ({ store, other, until, follow }) => {
    await store.putThread(thread('t1', 'u1'))
    const leaving = new Follower(0, other, 't1')
    const unwatch = await other.watch('t1', leaving)
    const staying = await follow(other, 't1')
    await append(store, 't1', 3)
    await until('three events', () => leaving.seq === 3 && staying.seq === 3)
    unwatch()
    unwatch()
    await append(store, 't1', 3)
    await until('three more', () => staying.seq === 6)
    assert.equal(leaving.seq, 3)
    const back = await follow(other, 't1')
    await append(store, 't1', 1)
    await until('the last one', () => staying.seq === 7 && back.seq === 7)
    assert.deepEqual(seqs(back.entries), [7])
    staying.check()
    back.check()
  })

  is('a deleted thread tells its watchers, once', async ({ store, other, until, follow }) => {
    await store.putThread(thread('t1', 'u1'))
    const followers = [await follow(store, 't1'), await follow(other, 't1')]
    await append(store, 't1', 2)
    for (const follower of followers) await until('two events', () => follower.seq === 2)
    await store.deleteThread('t1')
    for (const follower of followers) await until('deleted', () => follower.deletions > 0)
    await store.putThread(thread('t1', 'u1'))
    const next = await follow(other, 't1')
    await append(store, 't1', 1)
    await until('the first event of the new history', () => next.seq === 1)
    for (const follower of followers) {
      assert.equal(follower.deletions, 1)
      assert.equal(follower.seq, 2, 'nothing follows')
    }
  })
}

function queues (is: Is): void {
  is('a run that starts now runs at once', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    await append(store, 't1', 2)
    const given = start('r1', { input: '{"message":"Grüße 👋"}' })
    const { first, last, run, before, next } = await store.append('t1', [body(), body()], { start: given })
    assert.deepEqual([first.seq, last.seq, before, next], [3, 4, [], undefined])
    const expected: RunRecord = { runId: 'r1', threadId: 't1', state: 'running', fence: 1, n: 1, firstSeq: 3, lastSeq: 4, open: {}, info: given.info }
    assert.deepEqual(view(run!), expected)
    assert.deepEqual(view((await other.getRun('r1'))!), expected)
    assert.equal(await other.getRun('r2'), undefined)
    const second = await other.append('t1', [body()], { start: start('r2') })
    assert.deepEqual([second.run?.state, second.before], ['running', ['r1']], 'also beside another one')
    await refused(other.append('t1', [body()], { start: start('r1') }), 'FAE_ERR_RUN_EXISTS')
  })

  is('a run in the queue waits for its turn, and is handed out once', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    const first = await store.append('t1', [body()], { start: start('r1', { started: false, mode: 'enqueue' }) })
    assert.deepEqual([first.run?.state, first.run?.firstSeq, first.run?.lastSeq], ['running', 0, 1], 'nothing was before it')
    for (const runId of ['r2', 'r3']) {
      const { run } = await other.append('t1', [body()], { start: start(runId, { started: false, mode: 'enqueue' }) })
      assert.deepEqual([run?.state, run?.fence, run?.n], ['queued', 1, 1])
    }
    assert.deepEqual((await store.append('t1', [body()], { start: start('r4', { started: false, mode: 'enqueue' }) })).before, ['r1', 'r2', 'r3'])
    assert.equal(await other.claimNext('t1'), undefined, 'one is running')
    const ended = await store.append('t1', [body()], { run: step('r1', 2, { ends: 'success' }) })
    assert.deepEqual([ended.next?.runId, ended.next?.state, ended.next?.fence, ended.next?.n], ['r2', 'running', 2, 1])
    assert.deepEqual(view((await other.getRun('r2'))!), view(ended.next!))
    assert.equal((await other.getRun('r3'))?.state, 'queued')
    assert.equal(await other.claimNext('t1'), undefined)
    await refused(other.append('t1', [body()], { run: step('r2', 2) }), 'FAE_ERR_RUN_STALE')
    const began = await store.append('t1', [body()], { run: step('r2', 2, { fence: 2, starts: true }) })
    assert.equal((await store.getRun('r2'))?.firstSeq, began.first.seq)
    assert.equal((await store.append('t1', [body()], { run: step('r2', 3, { fence: 2, ends: 'error' }) })).next?.runId, 'r3')
    assert.equal((await store.append('t1', [body()], { run: step('r3', 2, { fence: 2, ends: 'timeout' }) })).next?.runId, 'r4')
    assert.equal((await store.append('t1', [body()], { run: step('r4', 2, { fence: 2, ends: 'cancelled' }) })).next, undefined)
    assert.equal((await store.append('t1', [body()], { start: start('r5', { mode: 'enqueue' }) })).run?.state, 'running')
  })

  is('of many that start at once one runs, the others wait in the order of the log', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    const appended = await Promise.all(times(30, (i) => (i % 2 === 0 ? store : other).append('t1', [body()], { start: start(`r${i}`, { started: false, mode: 'enqueue' }) })))
    const inOrder = appended.sort((a, b) => a.first.seq - b.first.seq).map(({ run }) => run!)
    assert.deepEqual(inOrder.map(({ state }) => state), ['running', ...times(29, () => 'queued')])
    let { runId, fence } = inOrder[0]!
    const order = [runId]
    for (;;) {
      const { next } = await (order.length % 2 === 0 ? store : other).append('t1', [body()], { run: step(runId, 2, { fence, ends: 'success' }) })
      if (next === undefined) break
      ;({ runId, fence } = next)
      order.push(runId)
    }
    assert.deepEqual(order, inOrder.map((run) => run.runId))
  })

  is('a run that would not wait is refused while another one is live', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    assert.equal((await store.append('t1', [body()], { start: start('r1', { mode: 'reject' }) })).run?.state, 'running')
    await refused(other.append('t1', [body()], { start: start('r2', { mode: 'reject' }) }), 'FAE_ERR_THREAD_BUSY')
    await store.append('t1', [body()], { run: step('r1', 2, { ends: 'success' }) })
    const raced = await Promise.allSettled(times(10, (i) => (i % 2 === 0 ? store : other).append('t1', [body()], { start: start(`s${i}`, { mode: 'reject' }) })))
    assert.equal(raced.filter(({ status }) => status === 'fulfilled').length, 1)
    assert.equal((await store.getThread('t1'))?.head, 3)
  })

  is('the queue of a thread is bounded', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    const waits = (runId: string): Promise<Appended> => store.append('t1', [body()], { start: start(runId, { started: false, mode: 'enqueue' }) })
    await waits('running')
    await store.append('t1', [body()], { start: start('beside') })
    for (let i = 0; i < MAX_WAITING_RUNS; i++) assert.equal((await waits(`r${i}`)).run?.state, 'queued')
    await refused(waits('over'), 'FAE_ERR_RUN_QUEUE_FULL')
    assert.equal(await other.getRun('over'), undefined)
    assert.equal((await other.getThread('t1'))?.head, MAX_WAITING_RUNS + 2)
    assert.equal((await store.append('t1', [body()], { start: start('now') })).run?.state, 'running', 'who does not wait is not counted')
    await store.append('t1', [body()], { run: step('r0', 2, { starts: true, ends: 'cancelled' }) })
    assert.equal((await waits('over')).run?.state, 'queued')
  })

  is("the limit of a user's live runs counts those that wait, in all threads", async ({ store }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.putThread(thread('t2', 'u1'))
    await store.append('t1', [body()], { start: start('r1', { maxRuns: 2 }) })
    await store.append('t1', [body()], { start: start('r2', { maxRuns: 2, mode: 'enqueue' }) })
    await refused(store.append('t2', [body()], { start: start('r3', { maxRuns: 2 }), key: 'k' }), 'FAE_ERR_RUN_LIMIT')
    assert.equal((await store.getThread('t2'))?.head, 0)
    await store.append('t2', [body()], { start: start('r4', { maxRuns: 2, userId: 'u2' }) })
    await store.append('t1', [body()], { run: step('r2', 2, { starts: true, ends: 'cancelled' }) })
    assert.equal((await store.append('t2', [body()], { start: start('r3', { maxRuns: 2 }), key: 'k' })).run?.state, 'running')
    await store.deleteThread('t2')
    assert.equal((await store.append('t1', [body()], { start: start('r5', { maxRuns: 2 }) })).run?.state, 'running', 'deleted ones do not count')
  })

  is('child runs never wait and nobody waits for them', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('root') })
    await store.append('t1', [body()], { start: start('queued', { started: false, mode: 'enqueue' }) })
    for (const mode of ['now', 'enqueue', 'reject'] as const) {
      assert.equal((await other.append('t1', [body()], { start: start(mode, { mode, parentRunId: 'root' }) })).run?.state, 'running', mode)
    }
    assert.deepEqual((await store.append('t1', [body()], { start: start('beside') })).before, ['root', 'queued'])
    assert.equal((await other.append('t1', [body()], { run: step('now', 2, { ends: 'success' }) })).next, undefined)
    await store.append('t1', [body()], { run: step('beside', 2, { ends: 'success' }) })
    assert.equal((await store.append('t1', [body()], { run: step('root', 2, { ends: 'success' }) })).next?.runId, 'queued', 'though children are live')
    await other.append('t1', [body()], { run: step('enqueue', 2, { ends: 'success' }) })
    await store.append('t1', [body()], { run: step('queued', 2, { fence: 2, ends: 'success' }) })
    assert.equal((await store.append('t1', [body()], { start: start('free', { mode: 'reject' }) })).run?.state, 'running', 'a child does not make the thread busy')
  })

  is('the last of several running runs hands out the next one', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await store.append('t1', [body()], { start: start('r2') })
    await store.append('t1', [body()], { start: start('r3', { started: false, mode: 'enqueue' }) })
    const ended = await Promise.all([store.append('t1', [body()], { run: step('r1', 2, { ends: 'success' }) }), other.append('t1', [body()], { run: step('r2', 2, { ends: 'success' }) })])
    assert.deepEqual(ended.map(({ next }) => next?.runId).filter((runId) => runId !== undefined), ['r3'])
  })

  is('a waiting run can be cancelled by a step, and is handed out no more', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    for (const runId of ['r2', 'r3']) await store.append('t1', [body()], { start: start(runId, { started: false, mode: 'enqueue' }) })
    const cancelled = await other.append('t1', [body(), body()], { run: step('r2', 2, { starts: true, ends: 'cancelled' }) })
    assert.equal(cancelled.next, undefined, 'one is running')
    const run = await store.getRun('r2')
    assert.deepEqual([run?.state, run?.firstSeq, run?.lastSeq], ['cancelled', 4, 5])
    assert.equal((await store.append('t1', [body()], { run: step('r1', 2, { ends: 'success' }) })).next?.runId, 'r3')
    await refused(other.append('t1', [body(), body()], { run: step('r3', 2, { starts: true, ends: 'cancelled' }) }), 'FAE_ERR_RUN_STALE')
    assert.equal((await store.getRun('r3'))?.state, 'running', 'too late: its turn had come')
  })

  is('of a cancel and the turn of a waiting run one comes first', async ({ store, other }) => {
    for (let round = 0; round < 10; round++) {
      const threadId = `t${round}`
      await store.putThread(thread(threadId, 'u1'))
      await store.append(threadId, [body()], { start: start(`${threadId} first`) })
      await store.append(threadId, [body()], { start: start(`${threadId} second`, { started: false, mode: 'enqueue' }) })
      const [ended, cancelled] = await Promise.allSettled([
        store.append(threadId, [body()], { run: step(`${threadId} first`, 2, { ends: 'success' }) }),
        other.append(threadId, [body()], { run: step(`${threadId} second`, 2, { starts: true, ends: 'cancelled' }) })
      ])
      assert.equal(ended.status, 'fulfilled')
      const isHandedOut = ended.value.next !== undefined
      assert.equal(cancelled.status, isHandedOut ? 'rejected' : 'fulfilled')
      assert.equal((await store.getRun(`${threadId} second`))?.state, isHandedOut ? 'running' : 'cancelled')
    }
  })
}

function steps (is: Is): void {
  is("a run's calls are counted, and what is open is kept", async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await store.append('t1', [body()], { run: step('r1', 2, { opens: [['tool:1', '{"kind":"tool"}'], ['text:ü/{}', 'opaque']] }) })
    await store.append('t1', [body()])
    await store.append('t1', [body(), body()], { run: step('r1', 3, { opens: [['tool:2', 'b']], closes: ['tool:1', 'tool:unknown'] }) })
    const run = (await other.getRun('r1'))!
    assert.deepEqual([run.n, run.fence, run.state, run.firstSeq, run.lastSeq], [3, 1, 'running', 1, 5])
    assert.deepEqual({ ...run.open }, { 'text:ü/{}': 'opaque', 'tool:2': 'b' })
    await store.append('t1', [body()], { run: step('r1', 4, { opens: [['tool:3', 'c']], closes: ['tool:3'] }) })
    assert.deepEqual({ ...(await other.getRun('r1'))!.open }, { 'text:ü/{}': 'opaque', 'tool:2': 'b' }, 'opened and closed in one call')
    await store.append('t1', [body()], { run: step('r1', 5, { ends: 'error' }) })
    const ended = (await other.getRun('r1'))!
    assert.deepEqual([ended.n, ended.state, { ...ended.open }, ended.lastSeq], [5, 'error', {}, 7])
  })

  is('a run ends in each of its ways', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    for (const status of ['success', 'error', 'cancelled', 'timeout', 'lost'] as const) {
      await store.append('t1', [body()], { start: start(status) })
      await store.append('t1', [body()], { run: step(status, 2, { ends: status }) })
      assert.equal((await other.getRun(status))?.state, status)
      await refused(store.append('t1', [body()], { run: step(status, 3) }), 'FAE_ERR_RUN_ENDED')
      await refused(store.append('t1', [body()], { run: step(status, 3, { ends: 'error' }) }), 'FAE_ERR_RUN_ENDED')
      await refused(store.append('t1', [body()], { run: step(status, 3, { fence: 2, takesOver: true }) }), 'FAE_ERR_RUN_ENDED')
      assert.equal((await other.getRun(status))?.state, status)
    }
  })

  is('the last call made again gets its position and stores nothing', async ({ store, until, follow }) => {
    const { epoch } = await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    const follower = await follow(store, 't1')
    const call = (): Promise<Appended> => store.append('t1', [body(), body()], { run: step('r1', 2, { opens: [['tool:1', 'a']] }) })
    await call()
    await store.append('t1', [body()])
    for (let i = 0; i < 2; i++) assert.deepEqual(await call(), { first: { epoch, seq: 2 }, last: { epoch, seq: 3 }, repeated: true })
    const together = await Promise.all(times(10, () => store.append('t1', [body()], { run: step('r1', 3, { closes: ['tool:1'] }) })))
    assert.equal(together.filter(({ repeated }) => repeated !== true).length, 1)
    assert.deepEqual(new Set(together.map(({ last }) => last.seq)), new Set([5]))
    const ends = (): Promise<Appended> => store.append('t1', [body()], { run: step('r1', 4, { ends: 'success' }) })
    await ends()
    assert.deepEqual(await ends(), { first: { epoch, seq: 6 }, last: { epoch, seq: 6 }, repeated: true }, 'also after the end')
    assert.equal((await store.getThread('t1'))?.head, 6)
    await until('live events', () => follower.seq === 6)
    follower.check()
  })

  is('an end made again hands out the same run, until that has begun', async ({ store }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    for (const runId of ['r2', 'r3']) await store.append('t1', [body()], { start: start(runId, { started: false, mode: 'enqueue' }) })
    const ends = (): Promise<Appended> => store.append('t1', [body()], { run: step('r1', 2, { ends: 'success' }) })
    const { next } = await ends()
    const again = await ends()
    assert.equal(again.repeated, true)
    assert.equal(again.next?.runId, 'r2', 'the lost reply may have been the only one that knew')
    assert.deepEqual(view(again.next), view(next!))
    assert.equal((await store.getRun('r3'))?.state, 'queued')
    await store.append('t1', [body()], { run: step('r2', 2, { fence: 2, starts: true }) })
    assert.equal((await ends()).next, undefined)
  })

  is('a hole in the calls is refused', async ({ store }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    for (const n of [2, 3]) await store.append('t1', [body()], { run: step('r1', n) })
    for (const n of [5, 100, 2, 1]) await refused(store.append('t1', [body()], { run: step('r1', n) }), 'FAE_ERR_RUN_HOLE')
    assert.equal((await store.append('t1', [body()], { run: step('r1', 4) })).last.seq, 4)
  })

  is("a run is its thread's", async ({ store }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.putThread(thread('t2', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await refused(store.append('t2', [body()], { run: step('r1', 2) }), 'FAE_ERR_RUN_NOT_FOUND')
    await refused(store.append('t1', [body()], { run: step('r2', 2) }), 'FAE_ERR_RUN_NOT_FOUND')
    assert.equal((await store.getRun('r1'))?.threadId, 't1')
  })

  is('who takes a run over shuts its old owner out', async ({ store, other, until, follow }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await store.append('t1', [body()], { run: step('r1', 2, { opens: [['tool:1', 'a']] }) })
    const follower = await follow(store, 't1')
    await other.append('t1', [body()], { run: step('r1', 3, { fence: 2, takesOver: true }) })
    const run = (await store.getRun('r1'))!
    assert.deepEqual([run.fence, run.n, run.state, { ...run.open }], [2, 3, 'running', { 'tool:1': 'a' }], 'and knows what is open')
    for (const n of [2, 3, 4]) await refused(store.append('t1', [body()], { run: step('r1', n) }), 'FAE_ERR_RUN_STALE')
    await refused(store.append('t1', [body()], { run: step('r1', 4, { ends: 'success' }) }), 'FAE_ERR_RUN_STALE')
    await other.append('t1', [body()], { run: step('r1', 4, { fence: 2, closes: ['tool:1'] }) })
    const lost = await other.append('t1', [body()], { run: step('r1', 5, { fence: 2, ends: 'lost' }) })
    await refused(store.append('t1', [body()], { run: step('r1', 4) }), 'FAE_ERR_RUN_STALE', 'FAE_ERR_RUN_ENDED')
    assert.equal((await store.getThread('t1'))?.head, lost.last.seq)
    await until('the last event', () => follower.seq === lost.last.seq)
    follower.check()
  })

  is('a run can be taken over and ended in one step', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await store.append('t1', [body()], { start: start('r2', { started: false, mode: 'enqueue' }) })
    const { next } = await other.append('t1', [body()], { run: step('r1', 2, { fence: 2, takesOver: true, ends: 'lost' }) })
    assert.equal(next?.runId, 'r2')
    assert.equal((await store.getRun('r1'))?.state, 'lost')
    await refused(store.append('t1', [body()], { run: step('r1', 2) }), 'FAE_ERR_RUN_STALE', 'FAE_ERR_RUN_ENDED')
  })

  is('a takeover of a run that moved is refused', async ({ store, other }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await store.append('t1', [body()], { run: step('r1', 2) })
    const takes = (fence: number, n: number): Promise<Appended> => other.append('t1', [body()], { run: step('r1', n, { fence, takesOver: true }) })
    await refused(takes(2, 2), 'FAE_ERR_RUN_STALE')
    await refused(takes(2, 4), 'FAE_ERR_RUN_STALE')
    await refused(takes(3, 3), 'FAE_ERR_RUN_STALE')
    await refused(other.append('t1', [body()], { run: step('r1', 3, { fence: 2 }) }), 'FAE_ERR_RUN_STALE')
    assert.equal((await store.append('t1', [body()], { run: step('r1', 3) })).last.seq, 3, 'the owner goes on')
    await takes(2, 4)
    assert.equal((await store.getRun('r1'))?.fence, 2)
  })

  is('of several processes that take a run over one succeeds', async ({ store, other, second }) => {
    await store.putThread(thread('t1', 'u1'))
    for (let round = 0; round < 10; round++) {
      const runId = `r${round}`
      await store.append('t1', [body()], { start: start(runId) })
      const takers = second === undefined ? [store] : [store, other]
      const taken = await Promise.allSettled(takers.map((taker) => taker.append('t1', [body()], { run: step(runId, 2, { fence: 2, takesOver: true }) })))
      assert.equal(taken.filter(({ status }) => status === 'fulfilled').length, 1, 'fence and n are the same: only the process tells them apart')
      for (const outcome of taken) if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'FAE_ERR_RUN_STALE')
      const winner = takers[taken.findIndex(({ status }) => status === 'fulfilled')]!
      const again = await winner.append('t1', [body()], { run: step(runId, 2, { fence: 2, takesOver: true }) })
      assert.equal(again.repeated, true, 'the winner may ask again')
    }
    assert.equal((await store.getThread('t1'))?.head, 20)
  })
}

function retention (is: Is): void {
  is('the log is bounded by bytes', async ({ store, until }) => {
    await store.putThread(thread('t1', 'u1'))
    const text = body('x'.repeat(900))
    for (let i = 0; i < 50; i++) await store.append('t1', [text])
    const most = Math.floor(10_000 / text.length)
    await until('the log to be trimmed', async () => (await store.read('t1', 0)).entries.length <= most)
    const page = await store.read('t1', 0)
    assert.ok(page.entries.length >= Math.floor(10_000 / (text.length + 200)), `no more is trimmed than must be: ${page.entries.length} are left`)
    assert.deepEqual([page.head, page.entries.at(-1)!.seq], [50, 50])
    assertContiguous(page)
  }, { maxBytes: 10_000 })

  is('one call with more than may stay is trimmed too', async ({ store, until, follow }) => {
    await store.putThread(thread('t1', 'u1'))
    const follower = await follow(store, 't1')
    await store.append('t1', times(100, (i) => body(i)))
    await until('all events, live', () => follower.seq === 100)
    follower.check()
    let head = 100
    await until('the log to be trimmed', async () => {
      const { first } = await store.read('t1', 0)
      if (first === head - 9) return true
      head = (await store.append('t1', [body()])).last.seq
      return false
    })
    const page = await store.read('t1', 0)
    assert.equal(page.entries.length, 10)
    assertContiguous(page)
  }, { maxEvents: 10 })

  is('old events go, also where nothing is appended; the position stays', async ({ store, other, until }) => {
    const { epoch } = await store.putThread(thread('t1', 'u1'))
    await append(store, 't1', 3)
    await store.append('t1', [body()], { key: 'k' })
    await until('an empty log', async () => (await store.read('t1', 0)).entries.length === 0)
    const page = await other.read('t1', 4)
    assert.deepEqual([page.head, page.first], [4, 5])
    assert.deepEqual(page.epochs, [{ epoch, from: 1 }], 'who was at the head has missed nothing')
    assert.equal((await other.getThread('t1'))?.head, 4)
    assert.deepEqual(await store.append('t1', [body()], { key: 'k' }), { first: { epoch, seq: 5 }, last: { epoch, seq: 5 } })
  }, { maxAgeMs: 50 })

  is('ended runs are forgotten with their last event, live ones never', async ({ store, other, until }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('live') })
    await store.append('t1', [body()], { start: start('waiting', { started: false, mode: 'enqueue' }) })
    await store.append('t1', [body()], { start: start('child', { parentRunId: 'live' }) })
    for (const runId of ['ended', 'later']) await store.append('t1', [body()], { start: start(runId) })
    await append(store, 't1', 5)
    await store.append('t1', [body()], { run: step('ended', 2, { ends: 'success' }) })
    await append(store, 't1', 2)
    await store.append('t1', [body()], { run: step('later', 2, { ends: 'success' }) })
    assert.equal((await store.getRun('ended'))?.state, 'success', 'its last event is there')
    await append(store, 't1', 3)
    await until('the run to be forgotten', async () => await other.getRun('ended') === undefined)
    assert.equal((await store.getRun('later'))?.state, 'success')
    await append(store, 't1', 20)
    await until('the other run to be forgotten', async () => await other.getRun('later') === undefined)
    await refused(store.append('t1', [body()], { run: step('later', 3) }), 'FAE_ERR_RUN_NOT_FOUND')
    for (const [runId, state] of [['live', 'running'], ['waiting', 'queued'], ['child', 'running']] as const) {
      assert.equal((await other.getRun(runId))?.state, state, runId)
    }
    await store.append('t1', [body()], { run: step('child', 2, { ends: 'success' }) })
    assert.equal((await store.append('t1', [body()], { run: step('live', 2, { ends: 'success' }) })).next?.runId, 'waiting')
  }, { maxEvents: 5 })
}

function lifetimes (is: Is): void {
  is('a ticket is good once, for its time, at any process', async ({ store, other, until }) => {
    await store.putTicket('a', 'one', 60_000)
    await store.putTicket('b', 'two', 60_000)
    assert.deepEqual(await Promise.all([other.takeTicket('a'), store.takeTicket('b')]), ['one', 'two'])
    assert.equal(await store.takeTicket('a'), undefined)
    assert.equal(await other.takeTicket('never put'), undefined)
    await store.putTicket('c', 'three', 1)
    await until('a ticket to be too old', async () => await store.takeTicket('c') === undefined)
  })

  is('a closed store says so', async ({ store }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await store.close()
    await store.close()
    const calls: Array<() => Promise<unknown>> = [
      () => store.putThread(thread('t1', 'u1')), () => store.getThread('t1'), () => store.inbox('u1'), () => store.listThreads('u1', { limit: 1 }), () => store.deleteThread('t1'),
      () => store.append('t1', [body()]), () => store.append('t1', [body()], { run: step('r1', 2) }), () => store.read('t1', 0), () => store.watch('t1', new Follower()),
      () => store.getRun('r1'), () => store.claimNext('t1')
    ]
    for (const call of calls) await refused(call(), 'FAE_ERR_STORE_CLOSED')
  })

  is('a store has a name, and each process one of its own', async ({ store, other, second }) => {
    assert.ok(store.name.length > 0)
    assert.ok(store.node.length > 0)
    assert.equal(store.node === other.node, second === undefined)
    assert.equal(store.availability.available, true)
  })

  is('a question is answered by every other process, and by nobody where there is none', async ({ store, other, second }) => {
    const asked: string[] = []
    const answers = (node: string) => async ({ type }: Question): Promise<unknown> => {
      asked.push(`${node} ${type}`)
      return type === 'watched' ? true : undefined
    }
    store.onQuestion(answers('store'))
    if (second !== undefined) other.onQuestion(answers('other'))
    const options = { timeoutMs: 2_000, answers: 'first' } as const
    assert.deepEqual(await store.ask({ type: 'watched', threadId: 't{1}/ü' }, options), second === undefined ? [] : [true])
    assert.deepEqual(await store.ask({ type: 'cancel', runId: 'r1', reason: 'x' }, { timeoutMs: 100, answers: 'all' }), [], 'silence is no answer')
    assert.deepEqual(asked, second === undefined ? [] : ['other watched', 'other cancel'])
  })

  is('every process is known to all, and one that has closed is not', async ({ store, other, second, until }) => {
    const nodes = async (at: Store): Promise<string[]> => (await at.nodes()).map(({ node }) => node).sort()
    const both = [...new Set([store.node, other.node])].sort()
    for (const at of [store, other]) {
      await until('both processes', async () => (await nodes(at)).length >= both.length)
      assert.deepEqual(await nodes(at), both)
      for (const { seenMs } of await at.nodes()) assert.ok(seenMs >= 0 && seenMs < 60_000)
    }
    if (second === undefined) return
    await other.close()
    assert.deepEqual(await nodes(store), [store.node])
  })

  is("a living process's runs are nobody else's", async ({ store, other, second }) => {
    const orphans: string[] = []
    for (const node of second === undefined ? [store] : [store, other]) node.onOrphan(({ runId }) => orphans.push(runId))
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await other.append('t1', [body()], { start: start('r2', { started: false, mode: 'enqueue' }) })
    const { next } = await store.append('t1', [body()], { run: step('r1', 2, { ends: 'success' }) })
    await store.append('t1', [body()], { run: step('r2', 2, { fence: next!.fence, starts: true }) })
    await store.append('t1', [body()], { run: step('r2', 3, { fence: next!.fence, ends: 'success' }) })
    assert.deepEqual(orphans, [])
  })

  is('what is stored lasts as long as the store promises', async (context) => {
    const { store } = context
    const before = await store.putThread(thread('t1', 'u1', { metadata: { title: 'x' } }))
    const inbox = await store.inbox('u1')
    await store.append('t1', [body(1)], { key: 'k', start: start('r1') })
    await store.append('t1', [body(2)], { run: step('r1', 2, { ends: 'success' }) })
    await store.append('t1', [body(3)], { start: start('r2') })
    await store.append('t1', [body(4)], { run: step('r2', 2, { opens: [['tool:1', 'a']] }) })
    await store.append('t1', [body(5)], { start: start('r3', { started: false, mode: 'enqueue' }) })
    await store.putThread(thread('t2', 'u1'))
    await store.deleteThread('t2')
    const stored = await readAll(store, 't1')

    if (context.reopen === undefined) {
      // Nothing lasts: then its end is the end, and nothing of it is in the next one.
      await store.close()
      await refused(store.read('t1', 0), 'FAE_ERR_STORE_CLOSED')
      return
    }
    const again = await context.reopen()
    assert.deepEqual(await readAll(again, 't1'), stored, 'the same bytes under the same ids')
    assert.deepEqual((await again.getThread('t1'))?.record, before.record)
    assert.deepEqual(ids(await again.listThreads('u1', { limit: 10 })), ['t1'])
    assert.equal((await again.inbox('u1')).record.threadId, inbox.record.threadId)
    assert.equal((await again.putThread(thread('t2', 'u2'))).created, false, 'tombstones too')
    const { epochs } = await again.read('t1', 0)
    assert.ok(epochs.some(({ epoch }) => epoch === before.epoch), 'nobody loses his place')
    assert.equal((await again.append('t1', [body()], { key: 'k' })).repeated, true)
    const run = (await again.getRun('r2'))!
    assert.deepEqual([run.state, run.n, { ...run.open }], ['running', 2, { 'tool:1': 'a' }])
    assert.equal((await again.getRun('r1'))?.state, 'success')
    const { last } = await again.append('t1', [body(6)])
    assert.equal(last.seq, 6, 'seq goes on')
    assert.ok(last.epoch >= before.epoch)
  })

  is('runs whose process is gone are given to those that are left', async ({ store, until, reopen }) => {
    await store.putThread(thread('t1', 'u1'))
    await store.append('t1', [body()], { start: start('r1') })
    await store.append('t1', [body()], { start: start('r2', { started: false, mode: 'enqueue' }) })
    await store.append('t1', [body()], { start: start('r3', { parentRunId: 'r1' }) })
    await store.putThread(thread('t2', 'u1'))
    await store.append('t2', [body()], { start: start('r4', { started: false }) })
    await store.append('t2', [body()], { start: start('r5') })
    await store.append('t2', [body()], { run: step('r5', 2, { ends: 'success' }) })
    const orphans = new Map<string, RunRecord>()
    if (reopen === undefined) {
      store.onOrphan((run) => orphans.set(run.runId, run))
      assert.equal(orphans.size, 0, 'as long as it lives they are its own; after that nobody is left')
      return
    }
    const again = await reopen()
    again.onOrphan((run) => orphans.set(run.runId, run))
    await until('the runs nobody owns', () => ['r1', 'r3', 'r4'].every((runId) => orphans.has(runId)))
    assert.equal(orphans.has('r5'), false)
    assert.equal(orphans.get('r4')!.firstSeq, 0, 'also one that never began')
    for (const runId of ['r3', 'r1']) {
      const { threadId, fence, n } = orphans.get(runId)!
      const { next } = await again.append(threadId, [body()], { run: step(runId, n + 1, { fence: fence + 1, takesOver: true, ends: 'lost' }) })
      assert.equal(next?.runId, runId === 'r1' ? 'r2' : undefined)
      assert.equal((await again.getRun(runId))?.state, 'lost')
    }
    assert.equal((await again.getRun('r2'))?.state, 'running')
  })
}

/** A watcher that keeps what it heard, and reads what it was told it may have missed. */
class Follower implements Watcher {
  readonly entries: Entry[] = []
  deletions = 0
  readonly #store: Store | undefined
  readonly #threadId: string
  readonly #problems: string[] = []
  #seq: number | undefined
  #reading = false
  #isDirty = false

  /** @param seq the last event that it needs not hear; without it the first one heard is the first */
  constructor (seq?: number, store?: Store, threadId = '') {
    this.#seq = seq
    this.#store = store
    this.#threadId = threadId
  }

  static async on (store: Store, threadId: string): Promise<Follower> {
    const { head } = (await store.getThread(threadId))!
    const follower = new Follower(head, store, threadId)
    await store.watch(threadId, follower)
    return follower
  }

  /** seq of the last event heard. */
  get seq (): number { return this.#seq ?? 0 }

  events (entries: readonly Entry[]): void {
    if (this.deletions > 0) this.#problems.push('events after deleted')
    if (this.#reading) this.#isDirty = true
    else for (const entry of entries) this.#hear(entry)
  }

  gap (): void {
    this.#isDirty = true
    if (this.#reading) return
    this.#reading = true
    this.#read().catch((error: unknown) => { this.#problems.push(String(error)) }).finally(() => { this.#reading = false })
  }

  deleted (): void {
    this.deletions++
  }

  /** Fails unless everything was heard once and in order. */
  check (): void {
    assert.deepEqual(this.#problems, [])
  }

  #hear (entry: Entry): void {
    const expected = (this.#seq ?? entry.seq - 1) + 1
    if (entry.seq !== expected) this.#problems.push(`heard ${entry.seq}, expected ${expected}`)
    if (entry.seq < expected) return
    this.#seq = entry.seq
    this.entries.push(said(entry))
  }

  async #read (): Promise<void> {
    while (this.#isDirty) {
      this.#isDirty = false
      for (let page: Page | undefined; page === undefined || page.entries.length > 0;) {
        page = await this.#store!.read(this.#threadId, this.seq)
        // What was trimmed meanwhile cannot be read by anybody.
        this.#seq = Math.max(this.seq, page.first - 1)
        for (const entry of page.entries) this.#hear(entry)
      }
    }
  }
}

async function waitUntil (what: string, holds: () => boolean | Promise<boolean>, patienceMs: number): Promise<void> {
  const deadline = Date.now() + patienceMs
  while (!await holds()) {
    assert.ok(Date.now() < deadline, `waited ${patienceMs} ms for ${what}`)
    await pause(5)
  }
}

function pause (ms: number): Promise<void> {
  return new Promise((resolve) => { setTimeout(resolve, ms) })
}

async function refused (call: Promise<unknown>, ...codes: readonly string[]): Promise<void> {
  await assert.rejects(call, (error: Error & { code?: string }) => {
    assert.ok(codes.includes(String(error.code)), `expected ${codes.join(' or ')}, found ${error.code}: ${error.message}`)
    return true
  })
}

async function append (store: Store, threadId: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++) await store.append(threadId, [body()])
}

async function readAll (store: Store, threadId: string): Promise<Entry[]> {
  const all: Entry[] = []
  for (;;) {
    const page = await store.read(threadId, all.at(-1)?.seq ?? 0)
    if (page.entries.length === 0) return all
    all.push(...page.entries.map(said))
  }
}

function assertContiguous ({ entries, first, head }: Page): void {
  assert.deepEqual(seqs(entries), times(entries.length, (i) => first + i))
  assert.equal(entries.at(-1)?.seq, head)
}

function thread (threadId: string, userId: string, more: Partial<ThreadRecord> = {}): ThreadRecord {
  return { threadId, userId, createdAt: '2026-01-01T12:00:00.000Z', ...more }
}

/** An event as the encoder makes it, as far as a store may look. */
function body (value: unknown = 'x'): string {
  return JSON.stringify({ v: 1, type: 'custom', timestamp: '2026-01-01T12:00:00.000Z', data: { name: 'conformance', value } })
}

function valueOf ({ json }: Entry): unknown {
  return (JSON.parse(json) as { data: { value: unknown } }).data.value
}

function start (runId: string, { userId = 'u1', input, parentRunId, ...more }: Partial<Omit<RunStart, 'info'>> & Partial<RunInfo> = {}): RunStart {
  const info: RunInfo = {
    userId,
    agent: 'triage',
    agentId: `${userId}:triage:0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11`,
    messageId: `msg of ${runId}`,
    trigger: parentRunId === undefined ? 'user_message' : 'agent',
    ...(parentRunId !== undefined && { parentRunId }),
    ...(input !== undefined && { input }),
    startedAt: 1_767_268_800_000
  }
  return { runId, started: true, mode: 'now', maxRuns: 1_000, ...more, info }
}

function step (runId: string, n: number, more: Partial<RunStep> = {}): RunStep {
  return { runId, n, fence: 1, ...more }
}

/** A run's record without what a store keeps beside it. */
function view ({ runId, threadId, state, fence, n, firstSeq, lastSeq, open, info }: RunRecord): RunRecord {
  return { runId, threadId, state, fence, n, firstSeq, lastSeq, open: { ...open }, info }
}

function ids (threads: ReadonlyArray<{ record: ThreadRecord }>): string[] {
  return threads.map(({ record }) => record.threadId)
}

/** What every store says of an event, without how it keeps it. */
function said ({ seq, json }: Entry): Entry {
  return { seq, json }
}

function seqs (entries: readonly Entry[]): number[] {
  return entries.map(({ seq }) => seq)
}

function times<T> (count: number, make: (i: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => make(i))
}
