import t from 'tap'
import { RedisServer } from '../../support/redis-server.js'
import { Stage } from '../../support/stage.js'

const LASTING = ['--appendonly', 'yes', '--appendfsync', 'always']

t.test('Redis is killed and comes back with its data, under load: nothing lost, nothing doubled, nobody reset (B4, E3)', async (t) => {
  const redis = await RedisServer.start(t, { args: LASTING })
  const stage = await Stage.set(t, { redis: redis.url })
  await stage.breakDown(() => redis.kill())
  await redis.start()
  await stage.untilLive()
  await stage.talkOn(2)
  await stage.check(t, true)
})

t.test('Redis is killed and comes back empty, under load: every record is the new log, and everybody was told (B4)', async (t) => {
  const redis = await RedisServer.start(t)
  const stage = await Stage.set(t, { redis: redis.url })
  const before = stage.talkers.map(({ record }) => record[0]!.id)
  await stage.breakDown(() => redis.kill())
  await redis.start()
  await stage.untilLive()
  await stage.talkOn(2)
  await stage.check(t, false)
  for (const [i, { record, resets }] of stage.talkers.entries()) {
    t.ok(resets > 0, 'was told')
    t.equal(record[0]!.seq, 1)
    t.not(record[0]!.id, before[i], 'of another epoch')
  }
})

t.test('Redis is killed and comes back with an older copy, under load: every record is what is left and what came after, and everybody was told (B3, B4)', async (t) => {
  const redis = await RedisServer.start(t)
  const stage = await Stage.set(t, { redis: redis.url })
  await redis.command('SAVE')
  const kept = stage.talkers.map(({ record }) => record[0]!.id)
  await stage.talkOn(1)
  await stage.breakDown(() => redis.kill())
  await redis.start()
  await stage.untilLive()
  await stage.talkOn(2)
  await stage.check(t, false)
  for (const [i, { record, resets }] of stage.talkers.entries()) {
    t.ok(resets > 0, 'was told')
    t.equal(record[0]!.id, kept[i], 'what the copy has is there')
  }
})
