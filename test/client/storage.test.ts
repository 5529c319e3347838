import t from 'tap'
import type { CursorStorage, Thread } from '../../client/index.js'
import { setup, seqsOf, until, upTo } from './helpers.js'
import { Log, Network } from './network.js'

class MemoryStorage implements CursorStorage {
  readonly entries = new Map<string, string>()
  writes = 0
  getItem (key: string) { return this.entries.get(key) ?? null }
  setItem (key: string, value: string) { this.writes++; this.entries.set(key, value) }
  removeItem (key: string) { this.entries.delete(key) }
}

t.test('a page that is loaded again goes on where the last one was (B4: at least once)', async (t) => {
  const network = await Network.start(t)
  const threadId = await network.thread()
  const storage = new MemoryStorage()
  const all: string[] = []
  const page = async (message: string) => {
    const { client } = network.client(t, { storage })
    const log = new Log(client.thread(threadId))
    await (await log.thread.send(message, { agent: 'triage' })).result()
    await client.close()
    t.equal(log.resets, 0)
    all.push(...log.ids)
  }
  await page('one')
  await page('two')
  await page('three')
  t.same(all, (await network.server.app.notifier.history(threadId, { limit: 100 })).map(({ id }) => id))
  t.equal(storage.entries.size, 1)
  t.ok([...storage.entries.keys()][0]!.includes(threadId))
  t.notOk([...storage.entries.keys()][0]!.includes('userId'), 'what is in the query may be a secret')
})

for (const transport of ['auto', 'polling'] as const) {
  t.test(`sent again by the next page, after the run has ended (${transport}): nobody waits for what lies behind`, async (t) => {
    const network = await Network.start(t)
    const threadId = await network.thread()
    const page = (storage?: CursorStorage) => network.client(t, { transport, storage })
    const storage = new MemoryStorage()
    const send = async (thread: Thread) => thread.send('ping', { agent: 'triage', clientMessageId: 'mine' })

    const first = page(storage)
    const log = new Log(first.client.thread(threadId))
    const { runId, completed } = await send(log.thread)
    const { id } = await completed
    await until(() => log.thread.cursor === id)
    t.equal((await (await send(log.thread)).completed).id, id, 'the page that has seen it knows it')
    await first.client.close()

    const second = page(storage)
    const thread = second.client.thread(threadId)
    const again = await send(thread)
    t.equal(again.runId, runId)
    for (const promise of [again.completed, again.result()]) await t.rejects(promise, { name: 'AgentEventsError', code: 'FAE_ERR_RUN_ENDED', threadId, message: /replay/ })
    await again.cancel()
    thread.replay()
    t.same(await (await send(thread)).result(), { answer: 'PING' }, 'as it says')

    const third = page()
    t.same(await (await send(third.client.thread(threadId))).result(), { answer: 'PING' }, 'who begins at the start meets it')
    for (const { errors } of [first, second, third]) t.same(errors, [])
  })
}

t.test('a page that goes away without a word: what was not written comes again, nothing is missing', async (t) => {
  const { server, client } = await setup(t, { storage: new MemoryStorage() })
  const storage = new MemoryStorage()
  const first = await setup(t, { storage, url: server.url })
  const seqs = seqsOf(first.client.thread('t'))
  server.count('t', 5)
  await until(() => storage.writes > 0 && seqs.length === 5)
  server.count('t', 500)
  await until(() => seqs.length === 505)
  t.ok(storage.writes <= 50, `${storage.writes} writes for 505 events`)
  const left = new MemoryStorage()
  for (const [key, value] of storage.entries) left.setItem(key, value)
  const second = await setup(t, { storage: left, url: server.url })
  const rest = seqsOf(second.client.thread('t'))
  await until(() => rest.at(-1) === 505 || second.client.thread('t').status === 'live')
  const all = new Set([...upTo(5), ...rest])
  t.ok(rest.length === 0 || rest[0]! > 5)
  t.ok(rest.length === 0 || all.size === rest.length + 5)
  client.thread('t').close()
})

t.test('useThread and the like get everything all the same: replay()', async (t) => {
  const storage = new MemoryStorage()
  const { server, client } = await setup(t, { storage })
  server.count('t', 3)
  const before = seqsOf(client.thread('t'))
  await until(() => before.length === 3)
  client.thread('t').close()
  const thread = client.thread('t')
  t.equal(thread.cursor, storage.getItem([...storage.entries.keys()][0]!))
  const got: Array<number | 'reset'> = []
  thread.onReset(() => { got.push('reset') })
  thread.onAny(({ seq }) => { got.push(seq) })
  thread.replay()
  server.count('t')
  await until(() => got.length === 5)
  t.same(got, ['reset', 1, 2, 3, 4])
})

t.test('a kept place that is no longer there: a reset, and everything retained', async (t) => {
  const storage = new MemoryStorage()
  const { server, client } = await setup(t, { storage })
  server.count('t', 3)
  const before = seqsOf(client.thread('t'))
  await until(() => before.length === 3)
  client.thread('t').close()
  server.restart('t', 'k3xw9q00zzzz', 2)
  const log = new Log(client.thread('t'))
  await until(() => log.ids.length === 2)
  t.equal(log.resets, 1)
})

t.test('what is kept is removed with its thread, and ignored if it is no cursor', async (t) => {
  const storage = new MemoryStorage()
  const { server, client } = await setup(t, { storage })
  server.count('t', 3)
  const thread = client.thread('t')
  thread.onError(() => {})
  const seqs = seqsOf(thread)
  await until(() => seqs.length === 3 && storage.entries.size === 1)
  const [key] = storage.entries.keys() as unknown as [string]
  server.peers[0]!.say({ type: 'unsubscribed', threadId: 't', reason: 'deleted' })
  await until(() => storage.entries.size === 0)
  thread.close()
  storage.setItem(key, 'nonsense-12')
  const again = client.thread('t')
  t.equal(again.cursor, undefined)
  const seqsAgain = seqsOf(again)
  await until(() => seqsAgain.length === 3)
})

t.test('a storage that fails is told once, and the client goes on without', async (t) => {
  const failing = { getItem: () => null, setItem () { throw new Error('quota') }, removeItem () {} }
  const { server, client, errors } = await setup(t, { storage: failing })
  const seqs = seqsOf(client.thread('t'))
  server.count('t', 3)
  await until(() => seqs.length === 3 && errors.length === 1)
  client.thread('t').close()
  await client.close()
  t.match(errors, [{ message: 'quota' }])
})
