import t from 'tap'
import { Writable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { connect, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { triage, TRIAGE_EVENTS } from '../support/agents.js'

type Line = Record<string, unknown> & { msg: string, level: number }

const INFO = 30
const DEBUG = 20

/** What pino wrote, as it would go to a file. */
function capture () {
  const lines: Line[] = []
  const stream = new Writable({
    write (chunk: Buffer, _encoding, done) {
      for (const line of chunk.toString().split('\n')) if (line !== '') lines.push(JSON.parse(line) as Line)
      done()
    }
  })
  return { lines, stream, of: (msg: string) => lines.filter((line) => line.msg === msg) }
}

/** A connection, a thread, a run over it, and the end of both. */
async function conversation (t: { teardown (fn: () => unknown): void }, level: string) {
  const log = capture()
  const { app, url } = await startApp(t, { agents: [triage] }, { logger: { level, stream: log.stream } })
  await post(url, '/threads', 'u', { threadId: 't1' })
  const tab = await connect(t, url, 'u')
  const { connectionId } = await tab.frame('connected')
  await app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'nobody is watching' } }, { key: 'k' })
  tab.send({ type: 'subscribe', threadId: 't1' })
  await tab.frame('user_message')
  await app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'again' } }, { key: 'k' })
  const { body: { runId } } = await post(url, '/threads/t1/messages', 'u', { content: 'the secret word' })
  const { agentId } = await tab.frame('agent_completed')
  tab.close()
  await tab.closed()
  const deadline = Date.now() + 10_000
  while (log.of('connection closed').length === 0 && Date.now() < deadline) await new Promise((resolve) => { setImmediate(resolve) })
  return { ...log, app, url, connectionId, runId, agentId }
}

/** How often the readers of a thread are looked up while events are stored: once for each line. */
async function readersAsked (app: FastifyInstance): Promise<number> {
  let asked = 0
  const { feeds } = app.notifier.hub
  const { get } = feeds
  feeds.get = (threadId) => { asked++; return get.call(feeds, threadId) }
  await app.agents.run(triage, { userId: 'u', threadId: 't1', input: { message: 'x' } })
  await app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'x' } })
  return asked
}

t.test('D3: every step is logged with its ids', async (t) => {
  const { of, lines, app, connectionId, runId, agentId } = await conversation(t, 'debug')
  t.match(of('thread registered'), [{ level: INFO, threadId: 't1', userId: 'u' }])
  t.match(of('connection established'), [{ level: INFO, connectionId, userId: 'u' }])
  t.match(of('subscribed'), [{ level: INFO, threadId: 't1', connectionId, userId: 'u', recovered: true }])
  t.match(of('run started'), [{ level: INFO, threadId: 't1', runId, agentId, userId: 'u', agent: 'triage', trigger: 'user_message' }])
  t.match(of('run ended'), [{ level: INFO, threadId: 't1', runId, agentId, userId: 'u', agent: 'triage', status: 'success' }])
  t.match(of('connection closed'), [{ level: INFO, connectionId, userId: 'u', code: 1005, delivered: 8 }])
  t.equal(of('run started').length, 1)

  const routed = of('message routed')
  t.ok(routed.every(({ level, threadId, from, to, delivery, reason }) => level === DEBUG && threadId === 't1' && typeof from === 'string' && Array.isArray(to) && typeof delivery === 'string' && typeof reason === 'string'))
  t.same(routed.map(({ type, delivery }) => `${type as string} ${delivery as string}`), [
    'user_message waiting', 'user_message repeated', 'user_message live', ...TRIAGE_EVENTS.map((type) => `${type} live`)
  ])
  t.same(routed.map(({ seq }) => seq), [1, 1, 2, 3, 4, 5, 6, 7, 8], 'each event once')
  t.same(routed.map(({ to }) => to), [[], ...Array(8).fill([connectionId])])
  t.ok(routed.slice(2).every((line) => line.runId === runId))
  t.ok(routed.slice(3).every((line) => line.from === agentId))
  t.notMatch(JSON.stringify(lines), /secret word|SECRET WORD/, 'nothing of what was said')
  t.equal(await readersAsked(app), 7)
})

t.test('D3: nothing is built for debug lines when the level is off', async (t) => {
  const { of, lines, app } = await conversation(t, 'info')
  t.same(of('message routed'), [])
  for (const msg of ['thread registered', 'connection established', 'subscribed', 'run started', 'run ended', 'connection closed']) t.equal(of(msg).length, 1, msg)
  t.ok(lines.every(({ level }) => level >= INFO))
  t.equal(await readersAsked(app), 0)
})

t.test('D3: what goes wrong says why', async (t) => {
  const { stream, of } = capture()
  const { app, url } = await startApp(t, { agents: [triage], authenticate: () => { throw new Error('token expired') } }, { logger: { level: 'info', stream } })
  t.equal((await fetch(`${url}/threads`)).status, 401)
  t.match(of('authenticate failed'), [{ err: { message: 'token expired' }, reqId: String }])
  const { threadId } = await app.threads.register({ userId: 'u' })
  await app.threads.delete(threadId)
  t.match(of('thread deleted'), [{ threadId, userId: 'u' }])
})

t.test('a host without a logger is fine', async (t) => {
  const { app } = await startApp(t, { agents: [triage] }, { logger: false })
  t.same(await app.agents.run(triage, { userId: 'u', input: { message: 'x' } }), { answer: 'X' })
})
