import { test, type Test } from 'tap'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LmdbStore } from '../../plugins/store/index.js'
import type { AgentEvent } from '../../schemas/index.js'
import { Receiver } from '../support/connect.js'
import { newFolder } from '../support/lmdb.js'
import { runServer, startServer, type RunningServer } from './fixtures/processes.js'
import { WebSocket } from 'ws'

const threads = (t: Test, folder: string, ...args: string[]) => runServer(t, ['threads', ...args, '--store', `lmdb:${folder}`])

async function ask (server: RunningServer, path: string, body?: unknown, userId = 'ada'): Promise<any> {
  const response = await fetch(server.url + path, { headers: { 'x-user-id': userId, ...(body !== undefined && { 'content-type': 'application/json' }) }, ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }) })
  return response.json()
}

async function connect (t: Test, server: RunningServer): Promise<Receiver> {
  const tab = new Receiver(new WebSocket(`${server.url.replace('http', 'ws')}/ws?userId=ada`, 'agent-events.v1'))
  t.teardown(() => { tab.socket.terminate() })
  await tab.frame('connected')
  return tab
}

const linesOf = (text: string): any[] => text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line))

test('what is exported is there again after an import, and goes on', async (t) => {
  const [from, to] = [await newFolder(t), await newFolder(t)]
  const first = await startServer(t, ['--store', `lmdb:${from}`])
  t.match(first.logs().find(({ store }) => store !== undefined), { msg: new RegExp(`events in lmdb in ${from}`) }, 'a visible line says where')
  t.equal((await threads(t, from, 'export')).code, 1, 'not while a server works on it')
  await ask(first, '/threads', { threadId: 'a thread / of ada', metadata: { colour: 'red' } })
  await ask(first, '/threads', { threadId: 'silent' })
  const tab = await connect(t, first)
  tab.send({ type: 'subscribe', threadId: 'a thread / of ada' })
  tab.send({ type: 'send', ref: 'm', threadId: 'a thread / of ada', content: 'How do I resume? 🦩' })
  const completed = await tab.frame('agent_completed')
  t.equal(await first.stop(), 0)

  const exported = await threads(t, from, 'export')
  t.equal(exported.code, 0, exported.stderr)
  const lines = linesOf(exported.stdout)
  const events = tab.events()
  t.strictSame(lines.filter((line) => 'seq' in line), events, 'the events are the same as on the wire')
  t.match(lines.find(({ thread }) => thread?.threadId === 'a thread / of ada'), { thread: { userId: 'ada', metadata: { colour: 'red' } }, head: completed.seq })
  t.match(exported.stderr, new RegExp(`^exported ${lines.length} lines from `))

  const file = join(await newFolder(t), 'threads.jsonl')
  t.equal((await threads(t, from, 'export', file)).code, 0)
  t.equal(await readFile(file, 'utf8'), exported.stdout, 'to a file it is the same')

  const imported = await threads(t, to, 'import', file)
  t.equal(imported.code, 0, imported.stderr)
  t.match(imported.stderr, `imported 3 threads with ${events.length} events`)
  const again = await threads(t, to, 'import', file)
  t.match(again, { code: 1, stderr: /^FAE_ERR_IMPORT_LINE: Line 1 .*in the store already/ })

  const second = await startServer(t, ['--store', `lmdb:${to}`])
  t.strictSame((await ask(second, '/threads')).threads.map(({ threadId }: { threadId: string }) => threadId), ['a thread / of ada', 'silent'])
  t.match(await ask(second, '/threads/silent', undefined, 'bob'), { statusCode: 404 })
  const back = await connect(t, second)
  back.send({ type: 'subscribe', threadId: 'a thread / of ada', cursor: completed.id })
  t.match(await back.frame('subscribed'), { recovered: true, head: completed.seq }, 'a cursor from before is still good')
  back.send({ type: 'send', ref: 'm', threadId: 'a thread / of ada', content: 'And after a restart?' })
  const next = await back.frame('user_message')
  t.equal(next.seq, completed.seq + 1)
  t.ok(next.id > completed.id, 'in a new epoch')
  await back.frame('agent_completed')
  const all = await ask(second, `/threads/${encodeURIComponent('a thread / of ada')}/events`) as AgentEvent[]
  t.strictSame(all.slice(0, events.length).map(({ seq, type, data, timestamp }) => ({ seq, type, data, timestamp })), events.map(({ seq, type, data, timestamp }) => ({ seq, type, data, timestamp })))
  t.equal(await second.stop(), 0)
})

test('a run that was live when its process died ends as lost where it was imported', async (t) => {
  const [from, to] = [await newFolder(t), await newFolder(t)]
  const store = new LmdbStore({ folder: from })
  await store.open()
  await store.putThread({ threadId: 't1', userId: 'ada', createdAt: new Date().toISOString() })
  const scope = { v: 1, threadId: 't1', runId: 'run_1', agentId: 'ada:triage:1', timestamp: '2026-01-01T12:00:00.000Z' }
  const started = { ...scope, type: 'agent_started', data: { agent: 'triage', messageId: 'm', trigger: 'api', attempt: 1 } }
  const executing = { ...scope, type: 'tool_executing', data: { agent: 'triage', toolCallId: 'c1', tool: 'search', phase: 'start', args: {}, attempt: 1 } }
  const info = { userId: 'ada', agent: 'triage', agentId: 'ada:triage:1', messageId: 'm', trigger: 'api' as const, startedAt: Date.now() }
  await store.append('t1', [JSON.stringify(started)], { start: { runId: 'run_1', info, started: true, maxRuns: 10, mode: 'now' } })
  await store.append('t1', [JSON.stringify(executing)], { run: { runId: 'run_1', fence: 1, n: 2, opens: [['tool:c1', JSON.stringify({ kind: 'tool', agent: 'triage', toolCallId: 'c1', tool: 'search', startedAt: Date.now() })]] } })
  await store.close()
  const file = join(await newFolder(t), 'threads.jsonl')
  t.equal((await threads(t, from, 'export', file)).code, 0)
  t.match(linesOf(await readFile(file, 'utf8')).at(-1), { run: { runId: 'run_1', state: 'running', n: 2 } })
  t.equal((await threads(t, to, 'import', file)).code, 0)
  const server = await startServer(t, ['--store', `lmdb:${to}`])
  const tab = await connect(t, server)
  tab.send({ type: 'subscribe', threadId: 't1' })
  t.match(await tab.frame('agent_completed'), { runId: 'run_1', data: { status: 'lost' } })
  t.strictSame(tab.events('t1').map(({ type, seq }) => [seq, type]), [[1, 'agent_started'], [2, 'tool_executing'], [3, 'tool_completed'], [4, 'agent_completed']])
  t.equal(await server.stop(), 0)
})

test('compact says how small it has become, and what cannot be meant is one line', async (t) => {
  const used = await newFolder(t)
  const store = new LmdbStore({ folder: used })
  await store.open()
  await store.close()
  t.match(await threads(t, used, 'compact'), { code: 0, stderr: /^compacted .*: \d+ bytes before, \d+ now\n$/ })
  const wrong = join(used, 'wrong.jsonl')
  await writeFile(wrong, '\n{"thread":1}\n')
  t.match(await threads(t, used, 'import', wrong), { code: 1, stderr: /^FAE_ERR_IMPORT_LINE: Line 1 of the import is refused/ })
  const folder = await newFolder(t)
  for (const [args, stderr] of [
    [['export'], /FAE_ERR_STORE_FOLDER.*data\.mdb/],
    [['compact'], /FAE_ERR_STORE_FOLDER.*data\.mdb/],
    [['import', join(folder, 'missing.jsonl')], /missing\.jsonl cannot be read: ENOENT/]
  ] as Array<[string[], RegExp]>) t.match(await threads(t, folder, ...args), { code: 1, stderr })
  t.match(await runServer(t, ['threads', 'export', '--store', 'redis://:secret@localhost']), { code: 1, stderr: /^'threads export' works on lmdb stores; STORE is redis at localhost\..*\n$/ })
})
