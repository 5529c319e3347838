import { test } from 'tap'
import { execFile, spawn } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openFiles } from '../../../plugins/store/lmdb-files.js'
import { LmdbStore } from '../../../plugins/store/lmdb-store.js'
import type { Retention } from '../../../plugins/store/store.js'
import { newFolder } from '../../support/lmdb.js'
import { childEnv } from '../../support/child-env.js'

const DAY = 24 * 3_600_000
const info = { userId: 'u1', agent: 'triage', agentId: 'a', messageId: 'm', trigger: 'api', startedAt: 0 } as const

async function opened (folder: string, retention: Partial<Retention> = {}): Promise<LmdbStore> {
  const store = new LmdbStore({ folder, retention })
  await store.open()
  return store
}

async function until (holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 15_000
  while (!await holds()) {
    if (Date.now() > deadline) throw new Error(`waited for ${what}`)
    await new Promise((resolve) => { setTimeout(resolve, 20) })
  }
}

/** How many rows each of the databases in a folder has. */
async function rows (folder: string): Promise<Record<string, number>> {
  const files = await openFiles(folder)
  const { threads, positions, log, keys, runs, infos, live, users, inboxes, tombstones, expiry, garbage } = files
  const counts = Object.entries({ threads, positions, log, keys, runs, infos, live, users, inboxes, tombstones, expiry, garbage }).map(([name, db]) => [name, db.getKeysCount()] as const)
  await files.root.close()
  return Object.fromEntries(counts.filter(([, count]) => count > 0))
}

test('nobody is told of more than the disk has', async (t) => {
  const store = await opened(await newFolder(t))
  t.teardown(() => store.close())
  const made = store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
  let isMade = false
  made.then(() => { isMade = true }, () => {})
  await store.getThread('t1')
  t.equal(isMade, true, 'who asks for a thread that is being made waits for it')
  const delivered: number[] = []
  await store.watch('t1', { events: (entries) => { delivered.push(...entries.map(({ seq }) => seq)) }, gap () {}, deleted () {} })
  for (let round = 1; round <= 50; round++) {
    const told: number[] = []
    const appended = store.append('t1', ['{"v":1}'], { key: `k${round}` }).then(({ last }) => { told.push(last.seq) })
    do {
      const page = await store.read('t1', 0)
      const { head } = (await store.getThread('t1'))!
      // Watchers hear of it in the turn in which it is stored, and before whoever stored it.
      const stored = delivered.length
      if (page.head > stored || page.entries.length > stored || head > stored || told.length > stored - round + 1) t.fail(`round ${round}: heard ${stored}, read ${page.entries.length} of ${page.head}, told ${told.length}`)
      await new Promise((resolve) => { setImmediate(resolve) })
    } while (told.length === 0)
    await appended
    t.same([told, delivered.length], [[round], round])
  }
})

test('a full disk is said, refuses writes, lets read, and nothing of what it refused was ever there', async (t) => {
  const folder = await newFolder(t)
  const script = fileURLToPath(new URL('../../support/full-disk-child.ts', import.meta.url))
  const child = spawn('sh', ['-c', 'ulimit -S -f 2048; exec "$0" "$@"', process.execPath, '--import', 'tsx', script, folder], { stdio: ['pipe', 'pipe', 'pipe'], env: childEnv })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = new Promise((resolve) => { child.once('close', resolve) })
  const lines: Array<Record<string, any>> = []
  let output = ''
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => { errors += String(chunk) })
  child.stdout.on('data', (chunk: Buffer) => {
    output += String(chunk)
    const all = output.split('\n')
    output = all.pop()!
    lines.push(...all.map((line) => JSON.parse(line) as Record<string, any>))
  })
  const line = async (type: string): Promise<Record<string, any>> => {
    await until(() => lines.some((each) => each['type'] === type), `'${type}' after ${JSON.stringify(lines)} ${errors}`)
    return lines.find((each) => each['type'] === type)!
  }
  t.match(await line('availability'), { available: false, reason: /the disk refuses writes/ })
  t.match(await line('failed'), { refused: 4, code: 'FAE_ERR_STORE_UNAVAILABLE' })
  const full = await line('full')
  t.match(full, { head: full['delivered'], last: [full['head']], gapless: true, n: full['calls'], isNew: false, threads: full['calls'] })
  t.ok(full['head'] > 10, `${full['head']} events fitted`)
  t.same((await line('refused'))['codes'], Array(4).fill('FAE_ERR_STORE_UNAVAILABLE'))

  // Room again: it notices by itself, and the same calls are stored once.
  await promisify(execFile)('prlimit', ['--pid', String(child.pid), '--fsize=unlimited'])
  const again = await line('again')
  t.match(again, { repeated: [undefined, undefined], seqs: [full['head'] + 1, full['head'] + 2], created: true, head: full['head'] + 2, delivered: full['head'] + 2, gapless: true })
  await ended
  const store = await opened(folder)
  t.equal((await store.read('t1', full['head'])).entries.length, 2)
  t.equal((await store.getRun('r1'))?.n, full['calls'] + 1)
  await store.close()
})

test('the file does not grow for ever', async (t) => {
  const folder = await newFolder(t)
  const store = await opened(folder, { maxEvents: 200 })
  for (let i = 0; i < 5; i++) await store.putThread({ threadId: `t${i}`, userId: 'u1', createdAt: '' })
  const size = async (): Promise<number> => (await stat(join(folder, 'data.mdb'))).size
  const write = async (calls: number): Promise<void> => {
    for (let i = 0; i < calls; i += 8) {
      await Promise.all(Array.from({ length: 40 }, (_, j) => store.append(`t${j % 5}`, [`{"v":1,"fill":"${'x'.repeat(1_000)}"}`], { key: `k${i + Math.floor(j / 5)}` })))
    }
  }
  await write(600)
  const before = await size()
  await write(3_000)
  const after = await size()
  t.ok(after < 1.5 * before, `${before} bytes after 3,000 events, ${after} after 18,000`)
  t.equal((await store.read('t0', 0)).first, 3_600 - 199)
  await store.close()
  const { log = 0, keys = 0 } = await rows(folder)
  t.ok(log <= 5 * 205, `${log} chunks for 5 times 200 events`)
  t.ok(keys <= 5 * 210, `${keys} keys`)
})

test('one thread that grows by much at once is trimmed in slices', async (t) => {
  const store = await opened(await newFolder(t), { maxEvents: 10 })
  t.teardown(() => store.close())
  await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
  await store.append('t1', Array.from({ length: 3_000 }, () => `{"v":1,"fill":"${'x'.repeat(2_000)}"}`))
  await until(async () => (await store.read('t1', 2_999)).first === 2_991, 'the log to be trimmed')
  t.equal((await store.read('t1', 0)).entries.length, 10)
})

test('deleted threads leave nothing but a tombstone, and that not for ever', async (t) => {
  const folder = await newFolder(t)
  let store = await opened(folder)
  await Promise.all(Array.from({ length: 40 }, async (_, i) => {
    const threadId = `t${i}`
    await store.putThread({ threadId, userId: 'u1', createdAt: '' })
    for (let j = 0; j < 60; j++) await store.append(threadId, ['{"v":1}'], { key: `k${j}` })
    await store.append(threadId, ['{"v":1}'], { start: { runId: `live ${i}`, started: true, mode: 'now', maxRuns: 100, info } })
    await store.append(threadId, ['{"v":1}'], { start: { runId: `ended ${i}`, started: true, mode: 'now', maxRuns: 100, info } })
    await store.append(threadId, ['{"v":1}'], { run: { runId: `ended ${i}`, fence: 1, n: 2, ends: 'success' } })
  }))
  t.same(new Set(await Promise.all(Array.from({ length: 40 }, (_, i) => store.deleteThread(`t${i}`)))), new Set([true]))
  t.equal(await store.getRun('ended 1'), undefined)
  t.equal(await store.getRun('live 1'), undefined)
  await store.close()
  const left = await rows(folder)
  t.match(left, { tombstones: 40, expiry: 40 })
  // Some slices of ten threads, four a second, may have come between.
  t.ok(left['garbage']! >= 10, 'the rest goes in slices, also after a restart')

  store = await opened(folder)
  t.equal((await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })).created, true, 'the id is free while its old log is still there')
  t.equal((await store.read('t1', 0)).head, 0)
  for (let i = 0; i < 20; i++) {
    store.sweep()
    await store.getThread('t1')
    await new Promise((resolve) => { setTimeout(resolve, 10) })
  }
  await store.close()
  t.same(await rows(folder), { threads: 1, positions: 1, users: 1, tombstones: 39, expiry: 39 })

  store = await opened(folder)
  store.sweep(Date.now() + 31 * DAY)
  await store.close()
  t.same(await rows(folder), { garbage: 1 }, 'and the thread that nobody used since')
})

test('idle threads are forgotten after their time, those in use are not', async (t) => {
  const folder = await newFolder(t)
  const store = await opened(folder, { positionMs: 10 * DAY, maxAgeMs: DAY })
  for (const threadId of ['idle', 'read', 'running', 'watched']) await store.putThread({ threadId, userId: 'u1', createdAt: '' })
  const inbox = await store.inbox('u2')
  await store.append('read', ['{"v":1}'], { key: 'k' })
  await store.append('running', ['{"v":1}'], { start: { runId: 'r1', started: true, mode: 'now', maxRuns: 1, info } })
  const unwatch = await store.watch('watched', { events () {}, gap () {}, deleted () {} })
  const left = async (): Promise<string[]> => (await store.listThreads('u1', { limit: 10 })).map(({ record }) => record.threadId)
  const sweep = async (days: number): Promise<void> => {
    store.sweep(Date.now() + days * DAY)
    // Whatever is asked for now is answered after what the sweep wrote.
    await store.putThread({ threadId: `after ${days}`, userId: 'u3', createdAt: '' })
  }
  await sweep(9)
  t.same(await left(), ['idle', 'read', 'running', 'watched'])
  t.equal((await store.read('read', 0)).first, 2, 'its event is gone, its position is not')
  await sweep(11)
  await sweep(11.5)
  t.same(await left(), ['running', 'watched'])
  t.equal(await store.getThread('idle'), undefined)
  t.not((await store.inbox('u2')).record.threadId, inbox.record.threadId)
  unwatch()
  await store.append('running', ['{"v":1}'], { run: { runId: 'r1', fence: 1, n: 2, ends: 'success' } })
  await sweep(22)
  await sweep(23)
  t.same(await left(), [])
  t.equal(await store.getRun('r1'), undefined)
  await store.close()
})

test('threads that nobody uses leave memory and come back as they were', async (t) => {
  const store = await opened(await newFolder(t))
  t.teardown(() => store.close())
  const count = 3_000
  await Promise.all(Array.from({ length: count }, (_, i) => store.putThread({ threadId: `t${i}`, userId: 'u1', createdAt: '' })))
  await Promise.all(Array.from({ length: count }, (_, i) => store.append(`t${i}`, [`{"v":${i}}`], { key: 'k' })))
  const heard: number[] = []
  await store.watch('t7', { events: (entries) => { heard.push(...entries.map(({ seq }) => seq)) }, gap () {}, deleted () {} })
  t.equal(store.threadsInMemory, count)
  for (let i = 0; i < 4; i++) store.sweep(Date.now() + 61_000)
  t.equal(store.threadsInMemory, 1, 'but for the one that is watched')
  await store.append('t7', ['{"v":1}'])
  t.same(heard, [2])
  for (const i of [0, 7, 2_999]) {
    t.equal((await store.append(`t${i}`, ['{"v":1}'], { key: 'k' })).repeated, true)
    t.match((await store.read(`t${i}`, 0)).entries[0]!.json, `"v":${i}}`)
  }
  t.equal(store.threadsInMemory, 3)
})

test('start-up tells of the runs that were live, children first, and of none that has ended', async (t) => {
  const folder = await newFolder(t)
  let store = await opened(folder)
  await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
  const start = (runId: string, more: { parentRunId?: string, started?: boolean, mode?: 'now' | 'enqueue' } = {}) => store.append('t1', ['{"v":1}'], {
    start: { runId, started: more.started ?? true, mode: more.mode ?? 'now', maxRuns: 100, info: { ...info, ...(more.parentRunId !== undefined && { parentRunId: more.parentRunId }), input: '"hello"' } }
  })
  await start('root')
  await start('child', { parentRunId: 'root' })
  await start('grandchild', { parentRunId: 'child' })
  await start('waits', { started: false, mode: 'enqueue' })
  await store.close()

  store = await opened(folder)
  let told: string[] = []
  store.onOrphan(({ runId }) => { told.push(runId) })
  await until(() => told.length >= 3, 'the runs')
  t.same(told, ['grandchild', 'child', 'root'], 'the one that waits is handed out at the end of the one before it')
  for (const runId of told) {
    const { next } = await store.append('t1', ['{"v":1}'], { run: { runId, fence: 2, n: 2, takesOver: true, ends: 'lost' } })
    t.equal(next?.runId, runId === 'root' ? 'waits' : undefined)
    t.equal(next?.info.input, runId === 'root' ? '"hello"' : undefined)
  }
  await store.close()

  store = await opened(folder)
  told = []
  store.onOrphan(({ runId, state, firstSeq, fence, n }) => { told.push(`${runId} ${state} ${firstSeq} ${fence} ${n}`) })
  await until(() => told.length > 0, 'the run')
  t.same(told, ['waits running 0 2 1'], 'handed out and never begun')
  await store.append('t1', ['{"v":1}'], { run: { runId: 'waits', fence: 3, n: 2, takesOver: true, starts: true } })
  await store.append('t1', ['{"v":1}'], { run: { runId: 'waits', fence: 3, n: 3, ends: 'success' } })
  await store.close()
  store = await opened(folder)
  store.onOrphan(({ runId }) => { t.fail(`${runId} has ended`) })
  await new Promise((resolve) => { setTimeout(resolve, 50) })
  await store.close()
})
