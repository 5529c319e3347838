import t from 'tap'
import { startCluster } from '../../support/redis-cluster.js'
import { Stage } from '../../support/stage.js'

t.test('one of three masters is killed and comes back with its data, under load: nothing lost, nothing doubled, nobody reset (B3, B4, E3)', async (t) => {
  const servers = await startCluster(t)
  const stage = await Stage.set(t, { redis: { cluster: servers.map(({ port }) => port) } }, { nodes: 3 })
  await stage.breakDown(() => servers[0]!.kill())
  await servers[0]!.start()
  await stage.untilLive()
  await stage.talkOn(2)
  await stage.check(t, true)
})
