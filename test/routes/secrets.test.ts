import { Writable } from 'node:stream'
import t from 'tap'
import type { User } from '../../index.js'
import { triage } from '../support/agents.js'
import { Receiver } from '../support/connect.js'
import { EventStream } from '../support/event-stream.js'
import { startApp } from '../support/start-app.js'
import { upgrade } from '../support/upgrade.js'

const DEADLINE_MS = 30_000

t.test('the log of a full run, every door used, at the finest level: no token and no ticket', async (t) => {
  let log = ''
  const stream = new Writable({ write (chunk, _encoding, done) { log += String(chunk); done() } })
  const secrets = Object.fromEntries(['bearer', 'cookie', 'query', 'wrong', 'fresh', 'stale', 'misplaced'].map((what) => [what, `secret-${what}-${Math.random().toString(36).slice(2)}`])) as Record<string, string>
  const { url } = await startApp(t, {
    agents: [triage],
    debug: true,
    operations: true,
    metrics: true,
    longPollMs: 20,
    authenticate: ({ headers: { authorization } }): User | null => {
      if (authorization === undefined) return null
      return authorization === `Bearer ${secrets['bearer']}` ? { userId: 'ada' } : null
    },
    refresh: (token) => token === secrets['fresh'] ? { userId: 'ada' } : null
  }, { logger: { level: 'trace', stream } })
  const ask = async (method: string, path: string, body?: unknown, token = secrets['bearer']!) => {
    const withToken = `${path}${path.includes('?') ? '&' : '?'}access_token=${secrets['query']}`
    const response = await fetch(url + withToken, {
      method,
      headers: { authorization: `Bearer ${token}`, cookie: `session=${secrets['cookie']}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) })
    })
    return { status: response.status, text: await response.text() }
  }

  // Every way in, as somebody and as nobody, and what is refused.
  t.equal((await ask('POST', '/threads', { threadId: 't1' })).status, 201)
  t.equal((await ask('POST', '/threads/t1/messages', { content: 'ping' })).status, 202)
  for (const path of ['/threads', '/threads/t1', '/threads/t1/events', '/threads/t1/events?offset=-1&live=long-poll', '/runs', '/agents', '/tools', '/health', '/ready', '/metrics', '/openapi.json', '/asyncapi.json',
    '/debug/websocket/connections', '/debug/websocket/threads', '/debug/websocket/mappings', '/debug/registry']) t.equal((await ask('GET', path)).status, 200, path)
  t.equal((await ask('HEAD', '/threads/t1/events')).status, 200)
  for (const path of ['/threads', '/threads/t1', '/threads/t1/events', '/runs', '/agents']) t.equal((await ask('GET', path, undefined, secrets['wrong'])).status, 401, path)
  t.equal((await ask('GET', '/threads/t1/events?offset=rubbish')).status, 400)
  t.equal((await ask('POST', '/threads', '{ "threadId":')).status, 400)
  t.equal((await ask('POST', '/threads', { token: secrets['misplaced'] })).status, 400)
  t.equal((await ask('GET', `/threads?limit=${secrets['misplaced']}`)).status, 400)
  t.equal((await ask('POST', '/runs/none/cancel', {})).status, 404)
  const events = new EventStream(t, `${url}/threads/t1/events?live=sse&offset=-1&access_token=${secrets['query']}`, { headers: { authorization: `Bearer ${secrets['bearer']}` } })
  await events.until(({ events }) => events.some(({ type }) => type === 'agent_completed'), 'the end of the run')

  // The socket, by header and by ticket, and what it hears.
  const tickets: string[] = []
  const newTicket = async () => {
    const { ticket } = JSON.parse((await ask('POST', '/tickets')).text) as { ticket: string }
    tickets.push(ticket)
    return ticket
  }
  const byTicket = await upgrade(t, url, `ticket=${await newTicket()}`)
  const byHeader = await upgrade(t, url, `access_token=${secrets['query']}`, { headers: { authorization: `Bearer ${secrets['bearer']}` } })
  if (!(byTicket instanceof Receiver) || !(byHeader instanceof Receiver)) throw new Error('refused')
  t.match(await upgrade(t, url, `ticket=${tickets[0]}`), { status: 401 }, 'used')
  t.match(await upgrade(t, url, `ticket=${secrets['wrong']}`), { status: 401 }, 'wrong')
  t.match(await upgrade(t, url, `ticket=${await newTicket()}`, { headers: { origin: 'https://evil.example' } }), { status: 403 }, 'from another site')
  for (const tab of [byTicket, byHeader]) {
    tab.send({ type: 'subscribe', threadId: 't1' })
    tab.send({ type: 'refresh', ref: 'fresh', token: secrets['fresh'] })
    tab.send({ type: 'refresh', ref: 'stale', token: secrets['stale'] })
    tab.send({ type: 'refresh', ref: 'bad', token: [secrets['misplaced']], more: secrets['misplaced'] })
    tab.send({ type: secrets['misplaced'], ref: 'odd' })
    tab.socket.send(`{ "type": "refresh", "token": "${secrets['misplaced']}`)
    tab.send({ type: 'send', ref: 'said', threadId: 't1', content: 'pong' })
    for (const ref of ['stale', 'bad', 'odd']) await tab.frame('error', (frame) => frame.ref === ref, DEADLINE_MS)
    const { runId } = await tab.frame('accepted', undefined, DEADLINE_MS)
    await tab.frame('agent_completed', (event) => event.runId === runId, DEADLINE_MS)
    tab.close()
    await tab.closed(DEADLINE_MS)
  }
  t.equal((await ask('DELETE', '/threads/t1')).status, 204)
  await events.ended()

  for (const step of ['incoming request', 'request completed', 'message routed', 'frame received', 'run ended', 'connection closed', 'thread deleted']) t.match(log, `"msg":"${step}"`, 'it was a full run')
  for (const [what, secret] of [...Object.entries(secrets), ...tickets.map((ticket) => ['ticket', ticket] as const)]) t.notOk(log.includes(secret), `${what} is not in it`)
})
