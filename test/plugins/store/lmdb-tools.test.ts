import { test } from 'tap'
import { createReadStream } from 'node:fs'
import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { LmdbStore, compactLmdb, exportLmdb, importLmdb } from '../../../plugins/store/index.js'
import { newFolder } from '../../support/lmdb.js'

const linesIn = (file: string): AsyncIterable<string> => createInterface({ input: createReadStream(file), crlfDelay: Infinity })

async function exported (folder: string): Promise<string[]> {
  const lines: string[] = []
  for await (const line of exportLmdb(folder)) lines.push(line)
  return lines
}

async function * each (lines: readonly string[]): AsyncGenerator<string> {
  yield * lines
}

const at = '2026-01-01T12:00:00.000Z'
const custom = (threadId: string, value: unknown): string => JSON.stringify({ v: 1, type: 'custom', threadId, timestamp: at, data: { name: 'x', value } })

test('an export of an import is the same export, but for the new epoch', async (t) => {
  const [from, to] = [await newFolder(t), await newFolder(t)]
  const store = new LmdbStore({ folder: from, retention: { maxEvents: 1_500 } })
  await store.open()
  await store.putThread({ threadId: 't/1 🦩', userId: 'ada', createdAt: at, agent: 'triage', metadata: { a: [1, 'zwei', null] } })
  await store.putThread({ threadId: 'empty', userId: 'bob', createdAt: at })
  for (let i = 0; i < 20; i++) await store.append('t/1 🦩', Array.from({ length: 100 }, (_, n) => custom('t/1 🦩', `${i * 100 + n} ümläut 🦩 ${'x'.repeat(200)}`)))
  const { record: { threadId: inbox } } = await store.inbox('ada')
  await store.append(inbox, [custom(inbox, 1)])
  const info = { userId: 'ada', user: '{"userId":"ada","role":"x"}', agent: 'triage', agentId: 'ada:triage:1', messageId: 'm', trigger: 'user_message' as const, startedAt: 5, input: '{"message":"hi"}' }
  for (const runId of ['run_1', 'run_2']) await store.append('empty', [custom('empty', runId)], { start: { runId, info, started: false, maxRuns: 10, mode: 'enqueue' } })
  await store.close()
  const before = await exported(from)
  t.ok(before.length > 1_500)
  t.strictSame(await importLmdb(to, () => each(before)), { threads: 3, events: before.filter((line) => line.startsWith('{"id"')).length })
  const parsed = (lines: string[]) => lines.map((line) => {
    const value = JSON.parse(line)
    // Counted anew in each folder.
    if (value.run !== undefined) delete value.run.order
    return value
  })
  t.strictSame(parsed(await exported(to)), parsed(before), 'nothing has looked at a thread yet')
  const again = new LmdbStore({ folder: to })
  await again.open()
  const page = await again.read('t/1 🦩', 0)
  t.match(page, { head: 2_000, epochs: { length: 2 } })
  t.ok(page.first > 400 && page.first <= 501, `trimmed before, first is ${page.first}`)
  t.match(page.entries[0]!.json, `"value":"${page.first - 1} ümläut 🦩`)
  t.equal((await again.inbox('ada')).record.threadId, inbox)
  t.strictSame((await again.listThreads('ada', { limit: 10 })).map(({ record }) => record), [{ threadId: 't/1 🦩', userId: 'ada', createdAt: at, agent: 'triage', metadata: { a: [1, 'zwei', null] } }])
  t.match(await again.getRun('run_1'), { state: 'running', firstSeq: 0, info })
  t.match(await again.getRun('run_2'), { state: 'queued', info })
  await again.append('empty', [custom('empty', 'goes on')])
  await again.close()
  t.ok((await exported(to)).length > before.length)
  await t.rejects(importLmdb(to, () => each(before)), { code: 'FAE_ERR_IMPORT_LINE', message: /Line 1 .*in the store already/ })
  const head = JSON.parse(before.find((line) => line.includes('"inbox":true'))!)
  await t.rejects(importLmdb(to, () => each([JSON.stringify({ ...head, head: 0, thread: { ...head.thread, threadId: 'inbox_other' } })])), { message: /has an inbox already/ })
  const run = before.find((line) => line.includes('"runId":"run_2"') && line.startsWith('{"run"'))!
  await t.rejects(importLmdb(to, () => each([JSON.stringify({ thread: { threadId: 'new', userId: 'ada', createdAt: at }, head: 0, epochs: [{ epoch: 'abcdefghijkl', from: 1 }] }), run.replace('"threadId":"empty"', '"threadId":"new"')])), { message: /Line 2 .*'run_2' is in the store already/ })
})

test('an import that does not validate says which line, and imports nothing', async (t) => {
  const thread = { thread: { threadId: 't1', userId: 'ada', createdAt: '2026-01-01T12:00:00.000Z' }, head: 2, epochs: [{ epoch: 'abcdefghijkl', from: 1 }] }
  const event = (seq: number, more: Record<string, unknown> = {}) => ({ id: `abcdefghijkl-${String(seq).padStart(10, '0')}`, seq, v: 1, type: 'user_message', threadId: 't1', timestamp: '2026-01-01T12:00:00.000Z', data: { messageId: `m${seq}`, content: 'hi' }, ...more })
  const run = { run: { runId: 'r', threadId: 't1', state: 'running', fence: 1, n: 1, firstSeq: 1, lastSeq: 1, callFirst: 1, epoch: 'abcdefghijkl', order: 0, open: {}, info: { userId: 'ada', agent: 'a', agentId: 'ada:a:1', messageId: 'm', trigger: 'api', startedAt: 1 } } }
  const folder = await newFolder(t)
  const file = join(await newFolder(t), 'threads.jsonl')
  for (const [lines, stderr] of [
    [['hello'], /Line 1 .*not a JSON object/],
    [['[]'], /Line 1 .*not a JSON object/],
    [[event(1)], /Line 1 .*must say which thread/],
    [[{ ...thread, heads: 1 }], /Line 1 .*'heads'/],
    [[{ ...thread, thread: { ...thread.thread, threadId: '' } }], /Line 1 .*'thread.threadId'/],
    [[{ ...thread, thread: { ...thread.thread, userId: 'a\u0000' } }], /Line 1 .*malformed/],
    [[thread, event(1), thread], /Line 3 .*ended at seq 1.*says 2/],
    [[thread, event(1), event(2), thread], /Line 4 .*comes twice/],
    [[thread, event(1), event(2, { data: { messageId: 'm', content: 7 } })], /Line 3 .*'data\.content'/],
    [[thread, event(1), event(2, { data: { messageId: 'm', content: 'x', secret: 1 } })], /Line 3 .*'data\.secret'/],
    [[thread, event(1), event(2, { type: 'rumour' })], /Line 3 .*'type'/],
    [[thread, event(1), event(2, { threadId: 't2' })], /Line 3 .*of thread 't2'/],
    [[thread, event(1), event(2, { id: 'abcdefghijkl-0000000003' })], /Line 3 .*does not belong/],
    [[{ ...thread, head: 3 }, event(1), event(3)], /Line 3 .*expected seq 2/],
    [[{ ...thread, head: 1 }, event(1), event(2)], /Line 3 .*over the thread's head/],
    [[thread, event(1)], /Line 2 .*ended at seq 1/],
    [[thread, event(1), event(2), { run: { ...run.run, threadId: 't2' } }], /Line 4 .*of thread 't2'/],
    [[thread, event(1), event(2), { run: { ...run.run, state: 'success' } }], /Line 4 .*run\.state/]
  ] as Array<[unknown[], RegExp]>) {
    await writeFile(file, lines.map((line) => typeof line === 'string' ? line : JSON.stringify(line)).join('\n'))
    await t.rejects(importLmdb(folder, () => linesIn(file)), { code: 'FAE_ERR_IMPORT_LINE', message: stderr }, String(stderr))
  }
  t.strictSame(await exported(folder), [], 'nothing of all that is there')
  await writeFile(file, [{ ...thread, head: 7 }, event(6), event(7), { ...thread, thread: { ...thread.thread, threadId: 'empty' }, head: 5 }].map((line) => JSON.stringify(line)).join('\r\n') + '\r\n')
  t.strictSame(await importLmdb(folder, () => linesIn(file)), { threads: 2, events: 2 }, 'of a trimmed log and of an empty one')
  const store = new LmdbStore({ folder })
  await store.open()
  t.match(await store.read('t1', 0), { first: 6, head: 7 })
  t.match(await store.read('empty', 0), { first: 6, head: 5, entries: [] })
  const { first } = await store.append('empty', [JSON.stringify({ v: 1, type: 'custom', threadId: 'empty', timestamp: '2026-01-01T12:00:00.000Z', data: { name: 'x' } })])
  t.equal(first.seq, 6)
  await store.close()
})

test('compact makes the file small and takes nothing away', async (t) => {
  const folder = await newFolder(t)
  let store = new LmdbStore({ folder, retention: { maxEvents: 100 } })
  await store.open()
  await store.putThread({ threadId: 't1', userId: 'ada', createdAt: new Date().toISOString() })
  const body = JSON.stringify({ v: 1, type: 'custom', threadId: 't1', timestamp: '2026-01-01T12:00:00.000Z', data: { name: 'x', value: 'y'.repeat(2_000) } })
  for (let i = 0; i < 60; i++) await store.append('t1', Array(100).fill(body))
  const before = await store.read('t1', 0)
  await store.close()
  const path = join(folder, 'data.mdb')
  const size = (await stat(path)).size
  const sizes = await compactLmdb(folder)
  const compacted = (await stat(path)).size
  t.strictSame(sizes, { before: size, after: compacted })
  t.ok(compacted < size / 2, `${size} bytes before, ${compacted} now`)
  store = new LmdbStore({ folder, retention: { maxEvents: 100 } })
  await store.open()
  t.strictSame(await store.read('t1', 0), before, 'the same events in the same epoch')
  await store.append('t1', [body])
  await store.close()
  store = new LmdbStore({ folder })
  await store.open()
  t.strictSame((await store.read('t1', 0)).epochs, before.epochs)
  await store.close()
})

test('a folder that is missing, empty or in use is left alone', async (t) => {
  const folder = await newFolder(t)
  for (const tool of [exported, compactLmdb] as Array<(folder: string) => Promise<unknown>>) await t.rejects(tool(join(folder, 'missing')), { code: 'FAE_ERR_STORE_FOLDER' })
  t.strictSame(await readdir(folder), [])
  const store = new LmdbStore({ folder })
  await store.open()
  for (const tool of [exported, compactLmdb, (path: string) => importLmdb(path, () => each([]))] as Array<(folder: string) => Promise<unknown>>) await t.rejects(tool(folder), { code: 'FAE_ERR_STORE_LOCKED' })
  await store.close()
  t.strictSame(await importLmdb(folder, () => each([])), { threads: 0, events: 0 })
  await compactLmdb(folder)
  t.strictSame((await readdir(folder)).sort(), ['data.mdb', 'lock.mdb', 'marker'])
  await writeFile(join(folder, 'data.mdb'), 'no data file of lmdb at all, but of some length')
  await t.rejects(compactLmdb(folder), { code: 'FAE_ERR_STORE_FOLDER', message: /not a data file of lmdb/ })
})
