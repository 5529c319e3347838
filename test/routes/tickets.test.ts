import t, { type Test } from 'tap'
import type { AgentEventsOptions, User } from '../../index.js'
import { post, Receiver } from '../support/connect.js'
import { newFolder } from '../support/lmdb.js'
import { RedisServer } from '../support/redis-server.js'
import { startApp, type StartedApp } from '../support/start-app.js'
import { upgrade } from '../support/upgrade.js'

const REFUSED = { status: 401, code: 'FAE_ERR_UNAUTHENTICATED' }
/** How long a ticket is good for. */
const TTL_MS = 30_000

/** Only the header says who it is, so that what comes without it was known by its ticket. */
function start (t: Test, options: Partial<AgentEventsOptions> = {}): Promise<StartedApp> {
  return startApp(t, {
    authenticate: ({ headers: { 'x-user-id': userId, 'x-until': until } }): User | null => typeof userId === 'string' ? { userId, ...(until !== undefined && { expiresAt: Number(until) }) } : null,
    ...options
  })
}

async function ticketOf (url: string, userId: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(`${url}/tickets`, { method: 'POST', headers: { 'x-user-id': userId, ...headers } })
  if (response.status !== 201) throw new Error(`no ticket: ${response.status}`)
  return (await response.json() as { ticket: string }).ticket
}

/** Who the server says one is, or its refusal. */
async function whoIs (t: Test, url: string, ticket: string, query = '', headers: Record<string, string> = {}): Promise<string | { status: number, code: string }> {
  const answer = await upgrade(t, url, `ticket=${ticket}${query}`, { headers })
  if (!(answer instanceof Receiver)) return { status: answer.status, code: answer.code }
  return (await answer.frame('connected', undefined, 30_000)).userId
}

t.test('POST /tickets: what it says, and that nobody keeps it', async (t) => {
  const { url, app } = await start(t)
  const before = Date.now()
  const response = await fetch(`${url}/tickets`, { method: 'POST', headers: { 'x-user-id': 'ada' } })
  const ticket = await response.json() as { ticket: string, expiresAt: string, userId: string, inbox: string }
  t.equal(response.status, 201)
  t.equal(response.headers.get('cache-control'), 'no-store')
  t.match(ticket.ticket, /^[\w-]{43}$/)
  t.equal(ticket.userId, 'ada')
  t.equal(ticket.inbox, (await app.threads.inbox('ada')).record.threadId)
  const expiresAt = Date.parse(ticket.expiresAt)
  t.ok(expiresAt >= before + TTL_MS && expiresAt <= Date.now() + TTL_MS)
  t.not((await post(url, '/tickets', 'ada')).body.ticket, ticket.ticket)
})

t.test('a ticket is its user\'s, whatever else the request says', async (t) => {
  const { url } = await start(t)
  t.equal(await whoIs(t, url, await ticketOf(url, 'ada')), 'ada')
  t.equal(await whoIs(t, url, await ticketOf(url, 'ada'), '&userId=eve', { 'x-user-id': 'eve' }), 'ada')
  t.match(await whoIs(t, url, 'wrong', '', { 'x-user-id': 'eve' }), REFUSED, 'a wrong one is not ignored')
})

t.test('a ticket is good once, also for two who come at the same time', async (t) => {
  for (const store of ['memory', { lmdb: await newFolder(t) }] as const) {
    const { url } = await start(t, { store })
    const ticket = await ticketOf(url, 'ada')
    t.equal(await whoIs(t, url, ticket), 'ada')
    t.match(await whoIs(t, url, ticket), REFUSED)
    const contested = await ticketOf(url, 'ada')
    const answers = await Promise.all(Array.from({ length: 10 }, () => whoIs(t, url, contested)))
    t.equal(answers.filter((answer) => answer === 'ada').length, 1)
  }
})

t.test('a ticket is good for half a minute, and no longer than who fetched it', async (t) => {
  const { url } = await start(t)
  const { now } = Date
  t.teardown(() => { Date.now = now })
  const [early, late] = [await ticketOf(url, 'ada'), await ticketOf(url, 'ada')]
  const soon = await ticketOf(url, 'ada', { 'x-until': String(now() + 20_000) })
  Date.now = () => now() + TTL_MS - 9_000
  t.equal(await whoIs(t, url, early), 'ada')
  t.match(await whoIs(t, url, soon), REFUSED, 'whose authentication has ended meanwhile')
  Date.now = () => now() + TTL_MS + 1
  t.match(await whoIs(t, url, late), REFUSED)
})

t.test('the connection ends with the authentication that the ticket was fetched with', async (t) => {
  const { url } = await start(t)
  const until = Date.now() + 3_000
  const answer = await upgrade(t, url, `ticket=${await ticketOf(url, 'ada', { 'x-until': String(until) })}`)
  if (!(answer instanceof Receiver)) throw new Error('refused')
  t.equal(await answer.closed(30_000), 4401)
  t.ok(Date.now() >= until)
})

t.test('a ticket of who never expires opens a connection that stays', async (t) => {
  const { url, app } = await start(t)
  await app.threads.register({ userId: 'ada', threadId: 't1' })
  const answer = await upgrade(t, url, `ticket=${await ticketOf(url, 'ada', { 'x-until': 'Infinity' })}`)
  if (!(answer instanceof Receiver)) throw new Error(`refused: ${answer.status}`)
  for (let round = 0; round < 10; round++) {
    answer.send({ type: 'subscribe', ref: `s${round}`, threadId: 't1' })
    await answer.frame('subscribed', ({ ref }) => ref === `s${round}`, 30_000)
  }
  t.equal(answer.closeCode, undefined)
})

t.test('a good ticket while the store is away: not no, but not now', async (t) => {
  const redis = await RedisServer.start(t)
  const { url } = await start(t, { store: { redis: redis.url } })
  const ticket = await ticketOf(url, 'ada')
  await redis.kill()
  t.match(await whoIs(t, url, ticket), { status: 503, code: 'FAE_ERR_STORE_UNAVAILABLE' })
})

t.test('tickets open the WebSocket and nothing else', async (t) => {
  const { url } = await start(t)
  const ticket = await ticketOf(url, 'ada')
  for (const path of ['/threads', '/runs', '/threads/t1/events?live=sse&offset=-1']) {
    t.equal((await fetch(`${url}${path}${path.includes('?') ? '&' : '?'}ticket=${ticket}`)).status, 401, path)
  }
  t.equal((await fetch(`${url}/tickets?ticket=${ticket}`, { method: 'POST' })).status, 401, 'not even another ticket')
  t.equal(await whoIs(t, url, ticket), 'ada', 'and are not used up by that')
})

t.test('a ticket of one node opens a WebSocket at another, once in all', async (t) => {
  const redis = await RedisServer.start(t)
  const [first, second] = [await start(t, { store: { redis: redis.url } }), await start(t, { store: { redis: redis.url } })]
  t.equal(await whoIs(t, second.url, await ticketOf(first.url, 'ada')), 'ada')
  const contested = await ticketOf(first.url, 'ada')
  const answers = await Promise.all([first, second, first, second].map(({ url }) => whoIs(t, url, contested)))
  t.equal(answers.filter((answer) => answer === 'ada').length, 1)
})
