import t from 'tap'
import { RedisServer } from '../../support/redis-server.js'
import { Stage } from '../../support/stage.js'
import { until } from '../../support/store-steps.js'

t.test('Redis stands still for longer than a lease, under load: no run is lost (B3, E3)', async (t) => {
  const redis = await RedisServer.start(t)
  const stage = await Stage.set(t, { redis: redis.url, leaseMs: 2_000 })
  await stage.breakDown(() => { redis.pause() })
  // what is tested is that this much time passes
  await new Promise((resolve) => { setTimeout(resolve, 2_000) })
  redis.resume()
  await stage.untilLive()
  await stage.talkOn(2)
  await stage.check(t, true)
})

t.test('the connections that hear of events are killed again and again, under load: nobody misses one (B4)', async (t) => {
  const redis = await RedisServer.start(t)
  const stage = await Stage.set(t, { redis: redis.url }, { nodes: 3 })
  let killed = 0
  for (let round = 0; round < 4; round++) {
    let now = 0
    await until('connections to kill', async () => (now = Number(await redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub'))) === stage.nodes.length)
    killed += now
    await stage.talkOn(1)
  }
  t.equal(killed, 4 * stage.nodes.length)
  await stage.check(t, true)
})
