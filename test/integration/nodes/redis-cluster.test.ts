import t from 'tap'
import { startCluster } from '../../support/redis-cluster.js'
import { Stage } from '../../support/stage.js'

t.test('of three masters two are killed and come back with their data, and one stands still, under load: nothing lost, nothing doubled, nobody reset (B3, B4, E3)', async (t) => {
  const servers = await startCluster(t)
  const stage = await Stage.set(t, { redis: { cluster: servers.map(({ port }) => port) } }, { nodes: 3 })
  // Beside threads the second one has what all nodes ask for all the time.
  for (const server of [servers[1]!, servers[0]!]) {
    await stage.breakDown(() => server.kill())
    await server.start()
    await stage.untilLive()
    await stage.talkOn(1)
  }
  await stage.breakDown(() => { servers[2]!.pause() })
  servers[2]!.resume()
  await stage.untilLive()
  await stage.talkOn(1)
  await stage.check(t, true)
})
