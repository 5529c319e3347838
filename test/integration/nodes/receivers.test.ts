import t from 'tap'
import { connect, post, type Receiver } from '../../support/connect.js'
import { portOf, turn } from '../../support/delivery.js'
import { NodeProcess } from '../../support/node-process.js'
import { checkReceivers, LIMITS, RETAINED } from '../../support/receivers.js'
import { RedisServer } from '../../support/redis-server.js'

const seed = Number(process.env.FC_SEED ?? Date.now() % 2 ** 31)
const numRuns = Number(process.env.FC_RUNS ?? 40)
t.comment(`FC_SEED=${seed} FC_RUNS=${numRuns}`)

const hard = { told: 0, congested: 0 }

for (const count of [2, 3]) {
  t.test(`over ${count} nodes, whatever happens in whatever order and wherever, every receiver has the log from its place on or was told (B4, D2)`, async (t) => {
    const redis = await RedisServer.start(t)
    const nodes = await Promise.all(Array.from({ length: count }, () => NodeProcess.start(t, { redis: redis.url, retention: { maxEvents: RETAINED }, limits: LIMITS })))
    const homes = new Map<Receiver, NodeProcess>()
    let turns = 0
    // Whatever comes next is asked of the next node.
    const next = (): NodeProcess => nodes[turns++ % count]!
    const found = await checkReceivers({
      register: async (userId) => (await post(next().url, '/threads', userId)).body,
      append: (...args) => next().append(...args),
      logOf: (threadId, userId) => next().logOf(threadId, userId),
      async connect (userId) {
        const node = next()
        const receiver = await connect({ teardown () {} }, node.url, userId)
        homes.set(receiver, node)
        return receiver
      },
      hold: (receiver) => homes.get(receiver)!.hold(portOf(receiver)),
      release: (receiver) => homes.get(receiver)!.release(portOf(receiver)),
      releaseAll: () => Promise.all(nodes.map((node) => node.releaseAll())),
      congested: async () => (await Promise.all(nodes.map((node) => node.congested()))).reduce((sum, one) => sum + one, 0),
      turn,
      async untilEmpty () {
        homes.clear()
        await Promise.all(nodes.map((node) => node.untilEmpty()))
      }
    }, { seed, numRuns })
    t.comment(found)
    hard.told += found.told
    hard.congested += found.congested
    for (const node of nodes) t.ok(node.isAlive, node.stderr)
  })
}

t.test('the hard cases were among them', { skip: numRuns < 40 && 'too few to say' }, async (t) => {
  t.ok(hard.told > 0)
  t.ok(hard.congested > 0)
})
