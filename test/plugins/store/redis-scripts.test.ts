import { execFile, fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { Redis } from 'ioredis'
import { openStore } from '../../../plugins/store/index.js'
import { RedisServer } from '../../support/redis-server.js'
import { openRedis } from '../../support/redis-store.js'
import { Reader, body, readAll, start, step, thread, until, valueOf } from '../../support/store-steps.js'
import { childEnv } from '../../support/child-env.js'

t.test('four processes append 250 events each at once: 1 to 1000, stored as told, watched as stored', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  await store.putThread(thread('t1'))
  const reader = await Reader.on(store, 't1')
  const children = Array.from({ length: 4 }, () => fork(fileURLToPath(new URL('fixtures/redis-appender.ts', import.meta.url)), ['append', server.url, 't1', '250'], { execArgv: ['--import', 'tsx'], env: childEnv }))
  t.teardown(() => { for (const child of children) child.kill('SIGKILL') })
  await Promise.all(children.map(said))
  const told = Promise.all(children.map(said)) as Promise<Array<Array<[number, string]>>>
  for (const child of children) child.send('go')
  const positions = (await told).flat()
  t.strictSame(positions.map(([seq]) => seq).sort((a, b) => a - b), Array.from({ length: 1_000 }, (_, i) => i + 1))
  const stored = await readAll(store, 't1')
  for (const [seq, value] of positions) if (valueOf(stored[seq - 1]!) !== value) t.fail(`${value} is not at ${seq}`)
  await until('all live', () => reader.seq === 1_000)
  t.strictSame(reader.entries, stored)
  t.equal(reader.problem, undefined)
})

t.test('C2: the registry of threads is the hash thread_registry, and threads that expire leave it', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  await store.putThread(thread('t1', 'u1', { agent: 'triage' }))
  await store.putThread(thread('t2', 'u2'))
  await store.putThread(thread('t3', 'u2'))
  await store.putThread(thread('t1', 'somebody else'))
  const hgetall = async (): Promise<Record<string, unknown>> => {
    const entries = Object.entries(toObject(await server.command('HGETALL', 'thread_registry')))
    return Object.fromEntries(entries.map(([id, json]) => [id, JSON.parse(json)]))
  }
  t.strictSame(await hgetall(), { t1: thread('t1', 'u1', { agent: 'triage' }), t2: thread('t2', 'u2'), t3: thread('t3', 'u2') })
  await store.deleteThread('t2')
  t.strictSame(Object.keys(await hgetall()).sort(), ['t1', 't3'])
  await server.command('PEXPIRE', 'agent_events:thread:{t3}', 1)
  await until('the entry to be swept', async () => (await hgetall())['t3'] === undefined, 45_000)
  t.strictSame(await store.listThreads('u2', { limit: 10 }), [])
  t.equal(await server.command('EXISTS', 'agent_events:user_threads:u2'), 0)
})

t.test('the prefix is before every key and channel, and keeps two apps apart', async (t) => {
  const server = await RedisServer.start(t)
  const one = await openRedis(t, server.url, { prefix: 'one:' })
  const two = await openRedis(t, server.url, { prefix: 'two:' })
  await one.putThread(thread('t1', 'u1'))
  t.equal((await two.putThread(thread('t1', 'u2'))).created, true)
  await one.inbox('u1')
  const readers = [await Reader.on(one, 't1'), await Reader.on(two, 't1')]
  await one.append('t1', [body('of one')], { key: 'k', start: start('r1') })
  await two.append('t1', [body('of two')])
  await until('events', () => readers.every(({ seq }) => seq === 1))
  t.strictSame(readers.map(({ entries }) => valueOf(entries[0]!)), ['of one', 'of two'])
  two.onQuestion(async () => true)
  t.strictSame(await one.ask({ type: 'watched', threadId: 't1' }, { timeoutMs: 200, answers: 'all' }), [])
  const keys = await server.command('KEYS', '*') as string[]
  t.ok(keys.length > 8)
  t.strictSame(keys.filter((key) => !/^(one|two):/.test(key)), [])
  const channels = await server.command('PUBSUB', 'CHANNELS', '*') as string[]
  t.ok(channels.length > 4)
  t.strictSame(channels.filter((channel) => !/^(one|two):/.test(channel)), [])
  t.equal(await server.command('EXISTS', 'one:thread_registry'), 1)
})

t.test("a host's own client works with its key prefix, and stays open", async (t) => {
  const server = await RedisServer.start(t)
  const client = new Redis(server.port, '127.0.0.1', { keyPrefix: 'host:' })
  t.teardown(() => client.disconnect())
  const { store, created } = await openStore({ redis: client, prefix: 'ours:' })
  t.equal(created, true)
  await store.putThread(thread('t1'))
  const reader = await Reader.on(store, 't1')
  await store.append('t1', [body()], { key: 'k' })
  t.equal((await store.append('t1', [body()], { key: 'k' })).repeated, true)
  await until('the event', () => reader.seq === 1)
  const before = (await store.read('t1', 0)).epochs
  await store.close()
  t.equal(await client.ping(), 'PONG')
  t.strictSame((await server.command('KEYS', '*') as string[]).filter((key) => !key.startsWith('host:ours:')), [])
  const again = await openRedis(t, client, { prefix: 'ours:' })
  t.strictSame((await again.read('t1', 0)).epochs, before, 'the scripts ask the same server and find it the same')
})

t.test('after a flush of the scripts a run goes on in order', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  await store.putThread(thread('t1'))
  await store.append('t1', [body(1)], { start: start('r1') })
  for (let n = 2; n <= 100; n++) {
    if (n % 10 === 0) await server.command('SCRIPT', 'FLUSH')
    await store.append('t1', [body(n)], { run: step('r1', n) })
  }
  t.strictSame((await readAll(store, 't1')).map(valueOf), Array.from({ length: 100 }, (_, i) => i + 1))
})

t.test('the usual calls of a run take one short script, which leaves the log as the long one does', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url, { leaseMs: 60_000, retention: { maxEvents: 40, maxBytes: 20_000 } })
  const other = await openRedis(t, server.url, { leaseMs: 60_000 })
  await store.putThread(thread('t1'))
  const reader = await Reader.on(other, 't1')
  await store.append('t1', [body(1)], { start: start('r1') })
  await store.append('t1', [body(2)], { run: step('r1', 2) })
  await server.command('CONFIG', 'RESETSTAT')
  for (let n = 3; n <= 30; n++) await store.append('t1', [body(n)], { run: step('r1', n) })
  const statistics = String(await server.command('INFO', 'commandstats'))
  const calls = Number(/cmdstat_evalsha:calls=(\d+)/.exec(statistics)![1])
  t.ok(calls >= 28 && calls < 40, `${calls} calls of scripts for 28 of the run`)
  t.notMatch(statistics, /cmdstat_hget:/, 'none of them the long one')
  const meta = async (...fields: string[]): Promise<unknown> => server.command('HMGET', 'agent_events:thread:{t1}', ...fields)
  const kept = async (): Promise<[number, number]> => {
    const { entries, first } = await store.read('t1', 0)
    const entriesInLog = await server.command('XRANGE', 'agent_events:log:{t1}', '-', '+') as Array<[string, string[]]>
    t.strictSame(await meta('seq', 'first', 'bytes'), [entries.at(-1)!.seq, first, entriesInLog.reduce((sum, [, fields]) => sum + fields[1]!.length, 0)].map(String))
    return [first, entries.length]
  }
  t.strictSame(await kept(), [1, 30])
  for (let n = 31; n <= 200; n++) await store.append('t1', [body(n)], { run: step('r1', n) })
  t.ok(Number(await server.command('XLEN', 'agent_events:log:{t1}')) <= 40 + 32, 'a little more than is retained')
  t.strictSame(await kept(), [161, 40], 'and nobody sees it')
  await store.append('t1', [body('x'.repeat(5_000)), body('x'.repeat(5_000)), body('x'.repeat(5_000))], { run: step('r1', 201) })
  await store.append('t1', [body('x'.repeat(5_000))], { run: step('r1', 202) })
  t.strictSame(await kept(), [202, 3], 'by bytes too')

  await server.command('HSET', 'agent_events:thread:{t1}', 'server', 'another')
  const { first } = await store.append('t1', [body('of a new history')], { run: step('r1', 203) })
  t.equal((await other.getThread('t1'))?.epoch, first.epoch)
  t.equal((await store.append('t1', [body(204)], { run: step('r1', 204) })).first.seq, 206)
  t.equal((await store.append('t1', [body(204)], { run: step('r1', 204) })).repeated, true)
  await server.command('DEL', 'agent_events:log:{t1}')
  t.equal((await store.append('t1', [body(205)], { run: step('r1', 205) })).first.seq, 207, 'a log that is gone was trimmed')
  t.strictSame(await kept(), [207, 1])
  const { n, fence } = (await other.getRun('r1'))!
  await other.append('t1', [body()], { run: step('r1', n + 1, { fence: fence + 1, takesOver: true }) })
  await t.rejects(store.append('t1', [body()], { run: step('r1', 206) }), { code: 'FAE_ERR_RUN_STALE' })
  await other.append('t1', [body()], { run: step('r1', 207, { fence: fence + 1 }) })
  await until('all of them', () => reader.seq === 209)
  t.equal(reader.problem, undefined)
})

t.test('what the server refuses counts nothing', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  await store.putThread(thread('t1'))
  await store.append('t1', [body()], { start: start('r1') })
  await server.command('CONFIG', 'SET', 'maxmemory', '1')
  for (let i = 0; i < 3; i++) await t.rejects(store.append('t1', [body(), body()], { run: step('r1', 2) }), { code: 'FAE_ERR_STORE_UNAVAILABLE', message: /OOM/ })
  await server.command('CONFIG', 'SET', 'maxmemory', '0')
  const { first, last, repeated } = await store.append('t1', [body(), body()], { run: step('r1', 2) })
  t.strictSame([first.seq, last.seq, repeated], [2, 3, undefined])
})

t.test('an event that could not be published is stored once, and its watchers read it', async (t) => {
  const server = await RedisServer.start(t)
  await server.command('ACL', 'SETUSER', 'mute', 'on', '>secret', '~*', '+@all', 'resetchannels')
  const listening = await openRedis(t, server.url, { checkMs: 100 })
  const mute = await openRedis(t, { port: server.port, username: 'mute', password: 'secret', connectTimeout: 500 })
  await listening.putThread(thread('t1'))
  const reader = await Reader.on(listening, 't1')
  for (let i = 0; i < 3; i++) t.equal((await mute.append('t1', [body()], { key: 'k' })).first.seq, 1)
  await until('the check of the position', () => reader.seq === 1)
  t.ok(reader.gaps >= 1)
  await listening.append('t1', [body()])
  await until('a live event', () => reader.seq === 2)
  t.equal(reader.problem, undefined)
})

t.test('what expires does so together, and live runs keep their thread', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url, { retention: { maxAgeMs: 60_000, positionMs: 600_000 } })
  await store.putThread(thread('t1'))
  await store.append('t1', [body()], { key: 'k', start: start('r1') })
  await store.append('t1', [body()], { start: start('r2') })
  await store.append('t1', [body()], { run: step('r2', 2, { ends: 'success' }) })
  for (const name of ['thread', 'log', 'keys', 'runs', 'live', 'ended']) {
    const ttl = Number(await server.command('PTTL', `agent_events:${name}:{t1}`))
    const most = name === 'log' || name === 'keys' ? 63_000 : 600_000
    t.ok(ttl > most * 0.9 && ttl <= most, `${name} ${ttl}`)
  }
  // The log goes first: the position, the live run and who is at the head stay; ended runs and keys go with it.
  await server.command('DEL', 'agent_events:log:{t1}', 'agent_events:keys:{t1}')
  const page = await store.read('t1', 3)
  t.strictSame([page.head, page.first, page.entries], [3, 4, []])
  t.equal(await store.getRun('r2'), undefined)
  t.equal((await store.getRun('r1'))?.state, 'running')
  t.equal((await store.append('t1', [body()], { key: 'k' })).first.seq, 4)
  t.equal((await store.append('t1', [body()], { run: step('r1', 2) })).first.seq, 5)
})

t.test('the input of a run is kept until it begins, also through an emptied Redis, and no longer', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  const other = await openRedis(t, server.url)
  const kept = async (): Promise<string> => JSON.stringify(toObject(await server.command('HGETALL', 'agent_events:runs:{t1}')))
  await store.putThread(thread('t1'))
  for (const runId of ['r1', 'r2', 'r3']) {
    await store.append('t1', [body()], { start: start(runId, { started: false, mode: 'enqueue', info: { input: `{"message":"secret ${runId}"}` } }) })
  }
  t.equal((await other.getRun('r2'))?.info.input, '{"message":"secret r2"}')
  for (const runId of ['r1', 'r2', 'r3']) t.match(await kept(), `secret ${runId}`)
  await store.append('t1', [body()], { run: step('r1', 2, { starts: true }) })
  t.notMatch(await kept(), /secret r1/)
  t.equal((await other.getRun('r1'))?.info.input, undefined)
  const { next } = await store.append('t1', [body()], { run: step('r1', 3, { ends: 'success' }) })
  t.equal(next?.info.input, '{"message":"secret r2"}', 'who is to begin it gets it')
  await server.command('DEL', ...['thread', 'log', 'keys', 'runs', 'live', 'ended'].map((name) => `agent_events:${name}:{t1}`))
  t.equal((await store.getRun('r2'))?.info.input, '{"message":"secret r2"}', 'put back with the run that has not begun')
  await other.append('t1', [body()], { run: step('r2', next!.n + 1, { fence: next!.fence + 1, takesOver: true, starts: true }) })
  t.notMatch(await kept(), /secret r2/)
  await other.append('t1', [body()], { run: step('r2', next!.n + 2, { fence: next!.fence + 1, ends: 'success' }) })
  await store.append('t1', [body()], { start: start('r4', { started: false, info: { input: '{"message":"secret r4"}' } }) })
  t.match(await kept(), /secret r4/)
  await store.append('t1', [body()], { run: step('r4', 2, { ends: 'cancelled' }) })
  t.notMatch(await kept(), /secret r4/, 'nor when it never begins')
})

t.test('a position without a log and a log without a position', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  const { epoch } = await store.putThread(thread('t1'))
  await store.append('t1', [body(), body()])
  await server.command('HDEL', 'agent_events:thread:{t1}', 'epoch', 'epochs', 'seq', 'first')
  const { first } = await store.append('t1', [body('new')])
  t.equal(first.seq, 1)
  t.not(first.epoch, epoch)
  const page = await store.read('t1', 0)
  t.strictSame(page.entries.map(valueOf), ['new'])
  t.strictSame(page.epochs, [{ epoch: first.epoch, from: 1 }])
})

t.test('the last 16 histories are kept, and an epoch never sorts before the one it replaces', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  const { epoch } = await store.putThread(thread('t1'))
  const future = `zz${epoch.slice(2)}`
  await server.command('HSET', 'agent_events:thread:{t1}', 'epoch', future, 'epochs', `${future}:1`, 'server', 'another')
  const epochs = [future]
  for (let i = 0; i < 20; i++) {
    epochs.push((await store.append('t1', [body()])).first.epoch)
    await server.command('HSET', 'agent_events:thread:{t1}', 'server', 'another')
  }
  for (let i = 1; i < epochs.length; i++) t.ok(epochs[i]! > epochs[i - 1]!)
  const page = await store.read('t1', 0)
  t.equal(page.epochs.length, 16)
  t.equal(page.epochs.at(-1)!.from, 21, 'who reads begins one too')
  for (const { seq, json } of page.entries) {
    const known = page.epochs.findLast(({ from }) => from <= seq) ?? page.epochs[0]!
    t.equal((JSON.parse(json) as { id: string }).id.slice(0, 12), known.epoch)
  }
})

t.test('ids of open items may hold what is no text', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  await store.putThread(thread('t1'))
  await store.append('t1', [body()], { start: start('r1') })
  const item = JSON.stringify({ kind: 'tool', toolCallId: '\ud800/"\\' })
  await store.append('t1', [body()], { run: step('r1', 2, { opens: [['tool:\ud800/"\\', item], ['1', item], ['', item]] }) })
  t.strictSame(Object.keys((await store.getRun('r1'))!.open).length, 3)
  await store.append('t1', [body()], { run: step('r1', 3, { closes: ['tool:\ud800/"\\', ''] }) })
  t.strictSame((await store.getRun('r1'))!.open, { 1: item })
})

t.test('ids that are no text are refused', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  await t.rejects(store.putThread(thread('\ud800')), { code: 'FAE_ERR_THREAD_ID_INVALID' })
  await t.rejects(store.putThread(thread('')), { code: 'FAE_ERR_THREAD_ID_INVALID' })
})

t.test('a limit reached by runs that are gone is none', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url)
  await store.putThread(thread('t1'))
  await server.command('SADD', 'agent_events:user_runs:u1', 'gone 1', 'gone 2')
  t.equal((await store.append('t1', [body()], { start: start('r1', { maxRuns: 2 }) })).run?.state, 'running')
  await store.append('t1', [body()], { start: start('r2', { maxRuns: 2 }) })
  await t.rejects(store.append('t1', [body()], { start: start('r3', { maxRuns: 2 }) }), { code: 'FAE_ERR_RUN_LIMIT' })
})

t.test('options are checked', async (t) => {
  for (const options of [{ redis: 'localhost' }, { redis: '' }, { redis: undefined as never }, { redis: 'redis://x', prefix: '{a}' }, { redis: 'redis://x', leaseMs: 1 }, { redis: 'redis://x', checkMs: 1.5 }]) {
    await t.rejects(openStore(options), { code: 'FAE_ERR_OPTION_INVALID' })
  }
})

t.test('without the package the error says how to get it', async (t) => {
  const hooks = `export async function resolve (name, context, next) {
    if (name !== 'ioredis') return next(name, context)
    throw Object.assign(new Error('no ioredis here'), { code: 'ERR_MODULE_NOT_FOUND' })
  }`
  const code = `
    import { register } from 'node:module'
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)})
    const { RedisStore } = await import(${JSON.stringify(new URL('../../../plugins/store/redis-store.ts', import.meta.url).href)})
    await new RedisStore({ redis: 'redis://127.0.0.1:1' }).open().catch((error) => { console.log(error.code, error.message) })
  `
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], { env: childEnv })
  t.match(stdout, /^FAE_ERR_PACKAGE_MISSING .*npm i ioredis\n$/)
})

t.test('a run of a process that was killed is an orphan after the lease, and not before', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url, { leaseMs: 1_000 })
  const orphans: string[] = []
  store.onOrphan(({ runId }) => orphans.push(runId))
  await store.putThread(thread('t1'))
  const child = fork(fileURLToPath(new URL('fixtures/redis-appender.ts', import.meta.url)), ['run', server.url, 't1', 'r1'], { execArgv: ['--import', 'tsx'], env: childEnv })
  t.teardown(() => child.kill('SIGKILL'))
  await said(child)
  await store.append('t1', [body()], { start: start('mine') })
  const counter = async (): Promise<string> => JSON.stringify(toObject(await server.command('HGETALL', 'agent_events:{runners}')))
  const seen = new Set<string>()
  await until('both counters to move', async () => seen.add(await counter()).size > 10)
  t.strictSame(orphans, [], 'while it lives')
  child.kill('SIGKILL')
  await once(child, 'exit')
  await until('the orphan', () => orphans.length > 0)
  t.strictSame([...new Set(orphans)], ['r1'])
  const run = (await store.getRun('r1'))!
  await store.append('t1', [body()], { run: step('r1', run.n + 1, { fence: run.fence + 1, takesOver: true, ends: 'lost' }) })
  await until('the dead process to be forgotten', async () => Object.keys(toObject(await server.command('HGETALL', 'agent_events:{runners}'))).length === 1)
  t.strictSame([...new Set(orphans)], ['r1'])
})

t.test('runs that wait where none is at work are told to all, also to this process', async (t) => {
  const server = await RedisServer.start(t)
  const store = await openRedis(t, server.url, { leaseMs: 200 })
  const other = await openRedis(t, server.url, { leaseMs: 200 })
  const told: string[] = []
  for (const [name, node] of [['store', store], ['other', other]] as const) {
    node.onQuestion(async (question) => {
      if (question.type === 'queued') told.push(`${name} ${question.threadId}`)
      return undefined
    })
  }
  await store.putThread(thread('t1'))
  await store.append('t1', [body()], { start: start('r1') })
  await store.append('t1', [body()], { start: start('r2', { started: false, mode: 'enqueue' }) })
  // A root run that ended without handing the next one out: only Redis' loss of a tail makes one.
  await server.command('ZREM', 'agent_events:live:{t1}', 'rr1')
  await until('both to be told', () => told.includes('store t1') && told.includes('other t1'))
  const claimed = await Promise.all([store.claimNext('t1'), other.claimNext('t1')])
  t.strictSame(claimed.filter((run) => run !== undefined).map(({ runId }) => runId), ['r2'])
})

function toObject (reply: unknown): Record<string, string> {
  if (reply instanceof Map) return Object.fromEntries(reply) as Record<string, string>
  if (!Array.isArray(reply)) return reply as Record<string, string>
  const entries: Record<string, string> = {}
  for (let i = 0; i < reply.length; i += 2) entries[reply[i] as string] = reply[i + 1] as string
  return entries
}

async function said (child: ChildProcess): Promise<unknown> {
  const [message] = await once(child, 'message')
  return message
}
