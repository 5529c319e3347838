import t from 'tap'
import { connect, get } from '../support/connect.js'
import { until } from '../support/delivery.js'
import { EventStream } from '../support/event-stream.js'
import { RedisServer } from '../support/redis-server.js'
import { startApp, type StartedApp } from '../support/start-app.js'
import { TcpProxy } from '../support/tcp-proxy.js'

const DEADLINE_MS = 30_000

t.test('whoever loses a right loses what is under way, on every node and every door, and nobody else does', async (t) => {
  const redis = await RedisServer.start(t)
  const friends = new Set(['bob', 'cat'])
  const nodes = await Promise.all([1, 2].map(() => startApp(t, {
    store: { redis: redis.url },
    longPollMs: 60_000,
    authorize: (user, _action, { ownerId }) => user.userId === ownerId || friends.has(user.userId)
  })))
  const [{ app }] = nodes as [typeof nodes[0], ...typeof nodes]
  await app.threads.register({ userId: 'ada', threadId: 't1' })
  const follow = async (userId: string) => Promise.all(nodes.map(async ({ url }) => {
    const tab = await connect(t, url, userId)
    tab.send({ type: 'subscribe', threadId: 't1' })
    await tab.frame('subscribed', undefined, DEADLINE_MS)
    const stream = new EventStream(t, `${url}/threads/t1/events?live=sse&offset=now`, { headers: { 'x-user-id': userId } })
    await stream.until(({ controls }) => controls.length === 1, 'the beginning')
    const polled = get(url, '/threads/t1/events?live=long-poll&offset=now', userId)
    return { url, tab, stream, polled }
  }))
  const [hers, bobs, cats] = [await follow('ada'), await follow('bob'), await follow('cat')]
  await until(() => nodes.every(({ app }) => app.notifier.hub.streams.size === 6), 'every stream and poll', DEADLINE_MS)

  friends.delete('bob')
  await app.notifier.recheck('bob')
  for (const { url, tab, stream, polled } of bobs) {
    t.match(await tab.frame('unsubscribed', undefined, DEADLINE_MS), { threadId: 't1', reason: 'revoked' })
    await stream.ended()
    t.match(await polled, { status: 404, body: { code: 'FAE_ERR_THREAD_NOT_FOUND' } })
    t.equal(tab.closeCode, undefined, 'the socket is still his')
    tab.send({ type: 'subscribe', ref: 'again', threadId: 't1' })
    t.match(await tab.frame('error', undefined, DEADLINE_MS), { ref: 'again', code: 'FAE_ERR_THREAD_NOT_FOUND' })
    t.equal((await get(url, '/threads/t1/events', 'bob')).status, 404, 'nor what is stored')
  }

  const { id } = await app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'without bob' } })
  for (const { tab, stream, polled } of [...hers, ...cats]) {
    t.equal((await tab.frame('user_message', undefined, DEADLINE_MS)).id, id)
    await stream.until(({ events }) => events.length === 1, 'the event')
    t.match(await polled, { status: 200, body: [{ id }] })
  }
  for (const { tab, stream } of bobs) t.same([tab.events(), stream.events], [[], []])
})

t.test('a right that is lost while nobody can say who has it: it is no, on every door, until somebody can (E4)', async (t) => {
  const redis = await RedisServer.start(t)
  const way = await TcpProxy.start(t, redis.port, { plain: true })
  const friends = new Set(['bob', 'cat'])
  const { app, url } = await startApp(t, {
    store: { redis: way.url.replace('http', 'redis') },
    longPollMs: 60_000,
    authorize: (user, _action, { ownerId }) => user.userId === ownerId || friends.has(user.userId)
  })
  const { hub } = app.notifier
  await app.threads.register({ userId: 'ada', threadId: 't1' })
  const follow = async (userId: string) => {
    const tab = await connect(t, url, userId)
    tab.send({ type: 'subscribe', threadId: 't1' })
    await tab.frame('subscribed', undefined, DEADLINE_MS)
    const stream = new EventStream(t, `${url}/threads/t1/events?live=sse&offset=now`, { headers: { 'x-user-id': userId } })
    await stream.until(({ controls }) => controls.length === 1, 'the beginning')
    const polled = get(url, '/threads/t1/events?live=long-poll&offset=now', userId)
    return { userId, tab, stream, polled }
  }
  const [ada, bob, cat] = [await follow('ada'), await follow('bob'), await follow('cat')]
  await until(() => hub.streams.size === 6, 'every stream and poll', DEADLINE_MS)

  way.isDown = true
  way.cut()
  for (const { tab } of [ada, bob, cat]) await tab.frame('status', ({ mode }) => mode === 'degraded', DEADLINE_MS)
  friends.delete('bob')
  for (const { userId } of [bob, cat]) await t.rejects(app.notifier.recheck(userId), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  for (const { userId, tab, stream, polled } of [bob, cat]) {
    t.match(await tab.frame('unsubscribed', undefined, DEADLINE_MS), { threadId: 't1', reason: 'revoked' }, userId)
    await stream.ended()
    t.not((await polled).status, 200, userId)
    t.equal(tab.closeCode, undefined, 'the socket is still theirs')
  }
  t.same([...hub.streams.values()].map(({ userId }) => userId), ['ada', 'ada'])
  t.same([...hub.connections.values()].map(({ user, subscriptions }) => [user.userId, subscriptions.size]), [['ada', 1], ['bob', 0], ['cat', 0]])

  way.isDown = false
  await until(() => app.threads.store.availability.available, 'the store', DEADLINE_MS)
  for (const { tab } of [bob, cat]) tab.send({ type: 'subscribe', ref: 'again', threadId: 't1' })
  t.match(await bob.tab.frame('error', undefined, DEADLINE_MS), { ref: 'again', code: 'FAE_ERR_THREAD_NOT_FOUND' })
  await cat.tab.frame('subscribed', ({ ref }) => ref === 'again', DEADLINE_MS)
  const { id } = await app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'without bob' } })
  for (const { tab } of [ada, cat]) t.equal((await tab.frame('user_message', undefined, DEADLINE_MS)).id, id)
  await ada.stream.until(({ events }) => events.length === 1, 'the event')
  t.match(await ada.polled, { status: 200, body: [{ id }] })
  t.same([bob.tab.events(), bob.stream.events, cat.stream.events], [[], [], []])
})

t.test('a right that is lost between the answer and the subscription is lost', async (t) => {
  let isFriend = true
  let turns = 0
  const { app, url }: StartedApp = await startApp(t, {
    authorize: (user, _action, { ownerId }) => {
      if (user.userId === ownerId || !isFriend) return user.userId === ownerId
      let left = turns
      const revoke = (): void => {
        if (left-- > 0) return queueMicrotask(revoke)
        isFriend = false
        app.notifier.recheck('bob').catch(t.threw)
      }
      queueMicrotask(revoke)
      return true
    }
  })
  await app.threads.register({ userId: 'ada', threadId: 't1' })
  const tab = await connect(t, url, 'bob')
  for (turns = 0; turns < 15; turns++) {
    isFriend = true
    tab.send({ type: 'subscribe', ref: `s${turns}`, threadId: 't1' })
    await until(() => !isFriend, 'the right to be lost', DEADLINE_MS)
    tab.send({ type: 'subscribe', ref: `late${turns}`, threadId: 't1' })
    t.match(await tab.frame('error', ({ ref }) => ref === `late${turns}`, DEADLINE_MS), { code: 'FAE_ERR_THREAD_NOT_FOUND' })
    await until(() => [...app.notifier.hub.connectionsOf('bob')].every(({ subscriptions }) => subscriptions.size === 0), `nothing to follow, ${turns} turns later`, DEADLINE_MS)
  }
})
