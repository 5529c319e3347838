import t from 'tap'
import { startSentinels } from '../../support/redis-sentinel.js'
import { openRedis } from '../../support/redis-store.js'
import { Reader, body, persist, readAll, start, step, thread, until, valueOf } from '../../support/store-steps.js'

t.test('a replica is promoted under load: the run goes on, nothing is doubled, and what was lost is told', async (t) => {
  const { master, replica, options } = await startSentinels(t)
  const store = await openRedis(t, options, { leaseMs: 1_000 })
  const other = await openRedis(t, options, { leaseMs: 1_000 })
  t.equal(store.availability.available, true)
  const orphans: string[] = []
  for (const node of [store, other]) node.onOrphan(({ runId }) => orphans.push(runId))
  await store.putThread(thread('t1'))
  await store.append('t1', [body(0)], { start: start('r1') })
  const readers = [await Reader.on(store, 't1'), await Reader.on(other, 't1')]
  const writing = { on: true, n: 1 }
  const writer = (async () => {
    while (writing.on) {
      const n = writing.n + 1
      await persist(() => store.append('t1', [body(n - 1)], { run: step('r1', n) }), 40_000)
      writing.n = n
      await new Promise((resolve) => { setTimeout(resolve, 1) })
    }
  })()
  await until('events', () => writing.n > 100)
  await master.kill()
  const at = writing.n
  await until('events on the new master', () => writing.n > at + 100, 40_000)
  writing.on = false
  await writer
  t.match(String(await replica.command('INFO', 'replication')), /role:master/)
  const stored = await readAll(store, 't1')
  const values = stored.map(valueOf) as number[]
  t.strictSame([...new Set(values)], values, 'nothing is there twice')
  t.strictSame([...values].sort((a, b) => a - b), values, 'and everything in order')
  t.equal(values.at(-1), writing.n - 1)
  t.equal((await store.read('t1', 0)).epochs.length, 2)
  for (const reader of readers) {
    await until('the whole log', () => reader.entries.at(-1)?.json === stored.at(-1)!.json)
    t.strictSame(reader.entries, stored, 'a reader has the log of the current history')
    t.equal(reader.problem, undefined)
    if (values.length === writing.n) t.equal(reader.resets, 0, 'nobody is reset where nothing was lost')
  }
  t.strictSame(orphans, [])
})
