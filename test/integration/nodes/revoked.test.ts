import t from 'tap'
import { connect, type Receiver } from '../../support/connect.js'
import { RedisServer } from '../../support/redis-server.js'
import { startApp } from '../../support/start-app.js'
import { until } from '../../support/store-steps.js'
import { TcpProxy } from '../../support/tcp-proxy.js'

/** Generous: the machine may be busy. */
const PATIENCE_MS = 30_000

t.test('a right that is lost while a node cannot be reached is lost there too, and who could not tell others hears so (C4, E4)', async (t) => {
  const redis = await RedisServer.start(t)
  const way = await TcpProxy.start(t, redis.port, { plain: true })
  const friends = new Set(['bob', 'cat'])
  const [near, far] = await Promise.all([redis.url, way.url.replace('http', 'redis')].map((url) => startApp(t, {
    store: { redis: url },
    authorize: (user, _action, { ownerId }) => user.userId === ownerId || friends.has(user.userId)
  }))) as [Awaited<ReturnType<typeof startApp>>, Awaited<ReturnType<typeof startApp>>]
  await near.app.threads.register({ userId: 'ada', threadId: 't1' })
  const follow = async (url: string, userId: string): Promise<Receiver> => {
    const tab = await connect(t, url, userId)
    tab.send({ type: 'subscribe', threadId: 't1' })
    await tab.frame('subscribed', undefined, PATIENCE_MS)
    return tab
  }
  const [ada, bob, cat] = await Promise.all(['ada', 'bob', 'cat'].map((userId) => follow(far.url, userId))) as [Receiver, Receiver, Receiver]
  const catsOther = await follow(near.url, 'cat')

  way.isDown = true
  way.cut()
  for (const tab of [ada, bob, cat]) await tab.frame('status', ({ mode }) => mode === 'degraded', PATIENCE_MS)
  friends.clear()
  await near.app.notifier.recheck('bob')
  await t.rejects(far.app.notifier.recheck('cat'), { code: 'FAE_ERR_STORE_UNAVAILABLE' })
  t.match(await cat.frame('unsubscribed', undefined, PATIENCE_MS), { threadId: 't1', reason: 'revoked' }, 'cut where it was said all the same')

  way.isDown = false
  t.match(await bob.frame('unsubscribed', undefined, PATIENCE_MS), { threadId: 't1', reason: 'revoked' }, 'cut where it was not heard')
  await until('Redis', () => far.app.threads.store.availability.available, PATIENCE_MS)
  await far.app.notifier.recheck('cat')
  t.match(await catsOther.frame('unsubscribed', undefined, PATIENCE_MS), { threadId: 't1', reason: 'revoked' }, 'and told in the end')
  const { id } = await near.app.notifier.sendToThread('t1', { type: 'user_message', data: { content: 'for ada' } })
  t.equal((await ada.frame('user_message', undefined, PATIENCE_MS)).id, id)
  for (const tab of [bob, cat, catsOther]) t.strictSame(tab.events('t1'), [])
})
