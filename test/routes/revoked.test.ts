import t from 'tap'
import { connect, get } from '../support/connect.js'
import { until } from '../support/delivery.js'
import { EventStream } from '../support/event-stream.js'
import { RedisServer } from '../support/redis-server.js'
import { startApp, type StartedApp } from '../support/start-app.js'

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
