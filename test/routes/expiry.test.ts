import t, { type Test } from 'tap'
import type { User } from '../../index.js'
import { connect, get } from '../support/connect.js'
import { until } from '../support/delivery.js'
import { EventStream } from '../support/event-stream.js'
import { startApp } from '../support/start-app.js'
import { gc } from '../support/gc.js'

/* The end of the authentication, on the WebSocket: event streams and polls are in live.test.ts, every door in matrix.test.ts. */

const DEADLINE_MS = 30_000

/** Users are known for so long after they connect; tokens say who they make one, and for how long. */
async function start (t: Test, forMs: number, tokens: Record<string, () => User | null | undefined> = {}) {
  const ends: number[] = []
  const started = await startApp(t, {
    authenticate: ({ query }): User => {
      const expiresAt = Date.now() + forMs
      ends.push(expiresAt)
      return { userId: (query as { userId?: string }).userId ?? 'ada', expiresAt }
    },
    refresh: (token) => {
      const made = tokens[token]?.()
      if (made === undefined) throw new Error('no such token')
      return made
    }
  })
  return { ...started, ends }
}

t.test('4401, not before its time, and nothing is sent after it', async (t) => {
  const { app, url, ends } = await start(t, 2_000)
  await app.threads.register({ userId: 'ada', threadId: 't1' })
  const tab = await connect(t, url, 'ada')
  tab.send({ type: 'subscribe', threadId: 't1' })
  await tab.frame('subscribed', undefined, DEADLINE_MS)
  t.equal(await tab.closed(DEADLINE_MS), 4401)
  t.ok(Date.now() >= ends.at(-1)!)
  await app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'late' } })
  await until(() => app.notifier.hub.connections.size === 0, 'nobody to be there', DEADLINE_MS)
  t.same(tab.events(), [])
})

t.test('a token in band puts the end off, or forward', async (t) => {
  const { app, url } = await start(t, 3_000, { forever: () => ({ userId: 'ada' }), long: () => ({ userId: 'ada', expiresAt: Date.now() + 3_600_000 }), short: () => ({ userId: 'ada', expiresAt: Date.now() + 100 }) })
  await app.threads.register({ userId: 'ada', threadId: 't1' })
  const refreshed = async (...tokens: string[]) => {
    const tab = await connect(t, url, 'ada')
    for (const token of tokens) tab.send({ type: 'refresh', token })
    return tab
  }
  const [forever, long, both, left] = [await refreshed('forever'), await refreshed('long'), await refreshed('long', 'short'), await refreshed()]
  t.equal(await left.closed(DEADLINE_MS), 4401)
  t.equal(await both.closed(DEADLINE_MS), 4401)
  for (const tab of [forever, long]) {
    tab.send({ type: 'subscribe', ref: 's', threadId: 't1' })
    t.match(await tab.frame('subscribed', undefined, DEADLINE_MS), { ref: 's' })
    t.equal(tab.closeCode, undefined)
  }
})

for (const [name, expiresAt] of [['Infinity', Infinity], ['null, which Infinity is in JSON', null]] as const) {
  t.test(`who never expires, by ${name}, stays`, async (t) => {
    const { app, url } = await startApp(t, { authenticate: () => ({ userId: 'ada', expiresAt } as User), longPollMs: 60_000 })
    await app.threads.register({ userId: 'ada', threadId: 't1' })
    const tab = await connect(t, url, 'ada')
    const stream = new EventStream(t, `${url}/threads/t1/events?live=sse&offset=-1`)
    await stream.until(({ controls }) => controls.length === 1, 'the beginning')
    const polled = get(url, '/threads/t1/events?live=long-poll&offset=now', 'ada')
    await until(() => app.notifier.hub.streams.size === 2, 'the poll', DEADLINE_MS)
    for (let round = 0; round < 10; round++) {
      tab.send({ type: 'subscribe', ref: `s${round}`, threadId: 't1' })
      await tab.frame('subscribed', ({ ref }) => ref === `s${round}`, DEADLINE_MS)
    }
    const { id } = await app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'still there?' } })
    t.equal((await tab.frame('user_message', undefined, DEADLINE_MS)).id, id)
    t.match(await polled, { status: 200, body: [{ id }] })
    await stream.until(({ events }) => events.length === 1, 'the event')
    t.equal(tab.closeCode, undefined)
  })
}

t.test('a token that is looked at while its connection goes keeps nothing of it', async (t) => {
  let answer!: () => void
  let asked = false
  const { app, url } = await startApp(t, {
    refresh: async () => {
      asked = true
      await new Promise<void>((resolve) => { answer = resolve })
      return { userId: 'ada', expiresAt: Date.now() + 3_600_000 }
    }
  })
  const { connections } = app.notifier.hub
  const tab = await connect(t, url, 'ada')
  const kept = new WeakRef([...connections.values()][0]!)
  tab.send({ type: 'refresh', token: 'fresh' })
  await until(() => asked, 'the token to be looked at', DEADLINE_MS)
  tab.socket.terminate()
  await until(() => connections.size === 0, 'nobody to be there', DEADLINE_MS)
  answer()
  await until(() => {
    gc()
    return kept.deref() === undefined
  }, 'the connection to be collected', DEADLINE_MS)
})

t.test('a token that is none, somebody else\'s or over changes nothing', async (t) => {
  const { app, url } = await start(t, 3_000, { none: () => null, other: () => ({ userId: 'eve' }), over: () => ({ userId: 'ada', expiresAt: Date.now() }) })
  const tab = await connect(t, url, 'ada')
  for (const token of ['none', 'other', 'over', 'thrown']) {
    tab.send({ type: 'refresh', ref: token, token })
    t.match(await tab.frame('error', ({ ref }) => ref === token, DEADLINE_MS), { code: 'FAE_ERR_UNAUTHENTICATED' }, token)
  }
  t.same([...app.notifier.hub.connections.values()].map(({ user: { userId } }) => userId), ['ada'])
  t.equal(await tab.closed(DEADLINE_MS), 4401, 'at its time')
})
