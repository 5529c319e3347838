import t from 'tap'
import { startSentinels } from '../../support/redis-sentinel.js'
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
  await stage.check(t, false)
})
