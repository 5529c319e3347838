import t from 'tap'
import { cutReplication, startSentinels } from '../../support/redis-sentinel.js'
import { PATIENCE_MS, Stage } from '../../support/stage.js'
import { until } from '../../support/store-steps.js'

t.test('the master is killed and its replica promoted, under load: who lost something was told, and nothing is doubled (B3, B4, E3)', async (t) => {
  const { master, replica, options } = await startSentinels(t)
  const stage = await Stage.set(t, { redis: options }, { nodes: 3 })
  await stage.breakDown(() => master.kill())
  await stage.untilLive()
  t.match(String(await replica.command('INFO', 'replication')), /role:master/)
  await stage.talkOn(2)

  // The old one comes back, and follows the new one.
  await master.start()
  // It closes every connection when it becomes one.
  const isFollowing = async (): Promise<boolean> => /role:slave[^]*master_link_status:up/.test(String(await master.command('INFO', 'replication').catch(() => '')))
  await until('the old master to follow', isFollowing, PATIENCE_MS)
  await stage.talkOn(1)

  // It is promoted again, and lacks what everybody has heard since it was cut off.
  await cutReplication(replica, master)
  const before = stage.talkers.map(({ resets, record }) => ({ resets, seq: record.at(-1)!.seq }))
  await until('more events for everybody', () => stage.talkers.every(({ record, resets }, i) => record.at(-1)!.seq > before[i]!.seq + 1 && resets === before[i]!.resets), PATIENCE_MS)
  await stage.breakDown(() => replica.kill())
  await stage.untilLive()
  await stage.talkOn(1)
  await stage.check(t, false)
  t.ok(stage.talkers.every(({ resets }, i) => resets > before[i]!.resets), 'everybody was told')
})
