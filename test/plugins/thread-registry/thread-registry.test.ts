import t from 'tap'
import Fastify from 'fastify'
import { MemoryStore } from '../../../plugins/store/memory-store.js'
import type { Availability, Question, Store } from '../../../plugins/store/store.js'
import { ThreadRegistry } from '../../../plugins/thread-registry/thread-registry.js'

const { log } = Fastify()

function open (t: { teardown (fn: () => unknown): void }, limits = { maxIdLength: 100, maxThreadsPerUser: 100 }) {
  const store = new MemoryStore()
  t.teardown(() => store.close())
  return { store, threads: new ThreadRegistry(store, limits, log) }
}

async function startRun (store: MemoryStore, threadId: string, runId: string): Promise<void> {
  const info = { userId: 'u1', agent: 'triage', agentId: 'a', messageId: 'm', trigger: 'api', startedAt: 0 } as const
  await store.append(threadId, ['{"v":1}'], { start: { runId, started: true, mode: 'now', maxRuns: 100, info } })
}

const NOT_FOUND = { code: 'FAE_ERR_THREAD_NOT_FOUND', statusCode: 404 }

t.test('registers, answers the same user again, and nobody else (C1)', async (t) => {
  const { threads } = open(t)
  const thread = await threads.register({ userId: 'u1', threadId: 't1', agent: 'triage', metadata: { title: 'x' } })
  t.match(thread, { threadId: 't1', head: 0, created: true, agent: 'triage', metadata: { title: 'x' } })
  t.ok(Date.parse(thread.createdAt) > 0)
  const { created, ...known } = thread
  t.same(await threads.get('t1'), known)
  t.same(await threads.register({ userId: 'u1', threadId: 't1' }), { ...known, created: false })
  await t.rejects(threads.register({ userId: 'u2', threadId: 't1' }), NOT_FOUND)
  t.equal(await threads.get('t2'), undefined)
  t.notOk('userId' in thread, 'the owner is nobody else\'s business')
  const made = await threads.register({ userId: 'u1' })
  t.match(made, { threadId: /^thread_[0-9a-f-]{36}$/, created: true })
  t.strictSame(Object.keys(made).sort(), ['created', 'createdAt', 'epoch', 'head', 'threadId'])
})

const ids = [
  'thread_13679e4dcc38403a', 'thread_13679e4dcc38403a_run_1756919162904_9adf1f09', '550e8400-e29b-41d4-a716-446655440000', '42', '0', 'a/b/c', '../..', '%2F', '{}', '{a}:b',
  'user@example.org', 'Straße 1', '日本語', '👩‍👩‍👧‍👦', ' ', '__proto__', 'constructor', '_run_', 'a_run_b', 'null', 'x'.repeat(100), '👋'.repeat(50)
]

t.test('ids have no format', async (t) => {
  const { store, threads } = open(t)
  for (const threadId of ids) t.equal((await threads.register({ userId: 'u1', threadId })).threadId, threadId)
  for (const [i, threadId] of ids.entries()) await startRun(store, threadId, `run ${i}`)
  for (const [i, threadId] of ids.entries()) {
    t.equal((await threads.get(threadId))?.head, 1)
    t.equal(await threads.resolveRun(`run ${i}`), threadId)
  }
  for (const [i, userId] of ids.entries()) t.ok(await threads.register({ userId, threadId: `of user ${i}` }))
})

t.test('what is no id is refused before anything is asked of the store', async (t) => {
  const { store, threads } = open(t, { maxIdLength: 10, maxThreadsPerUser: 10 })
  await store.close()
  for (const id of ['', 'x'.repeat(11), 'a\u0000b', 'a\nb', '\u007f', '\ud800', 5, null, {}, ['a'], true] as string[]) {
    await t.rejects(threads.register({ userId: 'u1', threadId: id }), { code: 'FAE_ERR_THREAD_ID_INVALID', message: /1 to 10 characters/ })
    await t.rejects(threads.register({ userId: id, threadId: 't1' }), { code: 'FAE_ERR_USER_ID_INVALID', message: /1 to 10 characters/ })
    await t.rejects(threads.inbox(id), { code: 'FAE_ERR_USER_ID_INVALID' })
    t.equal(await threads.get(id), undefined)
    t.equal(await threads.find(id), undefined)
    t.equal(await threads.delete(id), false)
    await t.rejects(threads.access({ userId: 'u1' }, 'read', id), NOT_FOUND)
  }
  t.equal(await threads.findRun('x'.repeat(21)), undefined)
  await t.rejects(threads.get('t1'), { code: 'FAE_ERR_STORE_CLOSED' })
})

t.test('a run resolves to its thread by look-up, never by its looks', async (t) => {
  const { store, threads } = open(t)
  const threadId = 'thread_13679e4dcc38403a'
  // The id that once was taken for a thread id, and nobody got the message.
  const runId = 'thread_13679e4dcc38403a_run_1756919162904_9adf1f09'
  await t.rejects(threads.resolveRun(runId), { code: 'FAE_ERR_RUN_NOT_FOUND', statusCode: 404 })
  await threads.register({ userId: 'u1', threadId })
  t.equal(await threads.resolveRun(runId), threadId, 'minted elsewhere: by its prefix, which is registered')
  await t.rejects(threads.resolveRun('thread_13679e4dcc38403b_run_1756919162904_9adf1f09'), { code: 'FAE_ERR_RUN_NOT_FOUND' })

  await threads.register({ userId: 'u2', threadId: 'other' })
  await startRun(store, 'other', runId)
  t.equal(await threads.resolveRun(runId), 'other', 'the record beats the prefix')
  t.match(await threads.findRun(runId), { runId, threadId: 'other' })

  await threads.register({ userId: 'u1', threadId: runId })
  t.equal(await threads.resolveRun(runId), 'other', 'also when a thread has the name of a run')
  t.equal(await threads.resolveRun(`${runId}_run_2`), runId, 'the longest registered prefix')
  t.equal(await threads.resolveRun(`${threadId}_run_a_run_b`), threadId)
  for (const unknown of ['', '_run_', '_run_1', 'run_1', threadId, `${threadId}_run`, `${threadId}run_1`, 'x'.repeat(500), `${'x'.repeat(100)}_run_1`]) {
    await t.rejects(threads.resolveRun(unknown), { code: 'FAE_ERR_RUN_NOT_FOUND' }, unknown)
  }
  await threads.delete('other')
  t.equal(await threads.resolveRun(runId), threadId)
})

t.test('lists by user, paged, at most 1,000', async (t) => {
  const { threads } = open(t, { maxIdLength: 100, maxThreadsPerUser: 5_000 })
  const name = (i: number): string => `t${String(i).padStart(4, '0')}`
  for (let i = 0; i < 1_100; i++) await threads.register({ userId: 'u1', threadId: name(i) })
  await threads.register({ userId: 'u2', threadId: 'hers' })
  await threads.inbox('u1')
  t.equal((await threads.list({ userId: 'u1' })).length, 100)
  t.equal((await threads.list({ userId: 'u1', limit: 5_000 })).length, 1_000)
  t.same((await threads.list({ userId: 'u1', after: name(1_097), limit: 10 })).map(({ threadId }) => threadId), [name(1_098), name(1_099)])
  t.same((await threads.list({ userId: 'u2' })).map(({ threadId }) => threadId), ['hers'])
  t.same(await threads.list({ userId: 'u3' }), [])
})

t.test('a user may have so many threads', async (t) => {
  const { threads } = open(t, { maxIdLength: 100, maxThreadsPerUser: 2 })
  for (const threadId of ['a', 'b', 'a']) await threads.register({ userId: 'u1', threadId })
  await t.rejects(threads.register({ userId: 'u1', threadId: 'c' }), { code: 'FAE_ERR_THREAD_LIMIT', statusCode: 429 })
  t.ok(await threads.register({ userId: 'u2', threadId: 'c' }))
})

t.test('the inbox is the user\'s, and nobody registers or deletes it by its id', async (t) => {
  const { threads } = open(t)
  const { record: { threadId } } = await threads.inbox('u1')
  t.equal((await threads.inbox('u1')).record.threadId, threadId)
  t.not((await threads.inbox('u2')).record.threadId, threadId)
  await t.rejects(threads.register({ userId: 'u1', threadId }), NOT_FOUND)
  await t.rejects(threads.register({ userId: 'u2', threadId }), NOT_FOUND)
  t.equal(await threads.delete(threadId), false)
  t.match(await threads.access({ userId: 'u1' }, 'read', threadId), { record: { threadId, userId: 'u1', inbox: true } })
})

t.test('foreign and unknown threads have the same answer (C4)', async (t) => {
  const { threads } = open(t)
  await threads.register({ userId: 'u1', threadId: 't1' })
  t.match(await threads.access({ userId: 'u1' }, 'read', 't1'), { record: { userId: 'u1' } })
  const foreign: Error = await threads.access({ userId: 'u2' }, 'read', 't1').catch((error) => error)
  await threads.delete('t1')
  const unknown: Error = await threads.access({ userId: 'u2' }, 'read', 't1').catch((error) => error)
  t.match(foreign, NOT_FOUND)
  t.equal(foreign.message, unknown.message)
})

t.test('before a thread is deleted everybody may end what is live in it', async (t) => {
  const { store, threads } = open(t)
  await threads.register({ userId: 'u1', threadId: 't1' })
  const told: string[] = []
  for (const name of ['first', 'second']) {
    threads.onDelete(async (threadId) => {
      await new Promise((resolve) => { setImmediate(resolve) })
      told.push(`${name} ${threadId} ${(await store.getThread(threadId))?.head}`)
      await store.append(threadId, ['{"v":1}'])
    })
  }
  t.equal(await threads.delete('t1'), true)
  t.same(told, ['first t1 0', 'second t1 1'])
  t.equal(await threads.get('t1'), undefined)
  t.equal(await threads.delete('t1'), false)
  t.equal(told.length, 2)
})

t.test('of several at once one registers, and one deletes', async (t) => {
  const { threads } = open(t)
  const registered = await Promise.all(Array.from({ length: 5 }, () => threads.register({ userId: 'u1', threadId: 't2' })))
  t.equal(registered.filter(({ created }) => created).length, 1)
  const deleted = await Promise.all(Array.from({ length: 5 }, () => threads.delete('t2')))
  t.equal(deleted.filter((isDeleted) => isDeleted).length, 1)
})

t.test('passes on whether the store is there, and what other processes ask', async (t) => {
  let change: (availability: Availability) => void = () => t.fail('nobody listens')
  let ask: (question: Question) => Promise<unknown> = async () => t.fail('nobody answers')
  // A memory that others share and that can go away.
  const store: Store = Object.assign(new MemoryStore(), {
    onAvailability (listener: typeof change) { change = listener },
    onQuestion (handler: typeof ask) { ask = handler }
  })
  const threads = new ThreadRegistry(store, { maxIdLength: 100, maxThreadsPerUser: 100 }, log)
  const heard: Array<readonly [string, Availability]> = []
  for (const name of ['first', 'second']) threads.onAvailability((availability) => heard.push([name, availability]))
  const gone = { available: false, reason: 'connection refused' }
  const back = { available: true, reason: '' }
  change(gone)
  change(back)
  t.same(heard, [['first', gone], ['second', gone], ['first', back], ['second', back]])

  threads.answer('watched', async ({ threadId }) => threadId === 't1' ? true : undefined)
  t.equal(await ask({ type: 'watched', threadId: 't1' }), true)
  t.equal(await ask({ type: 'watched', threadId: 't2' }), undefined)
  t.equal(await ask({ type: 'cancel', runId: 'r1', reason: '' }), undefined, 'what nobody answers is silence')
})
