import t, { type Test } from 'tap'
import { until } from '../../support/delivery.js'
import { NodeProcess, startGateway } from '../../support/node-process.js'
import { RedisServer } from '../../support/redis-server.js'
import { brokenRules } from '../../support/run-rules.js'
import { finalLog, Talker } from '../../support/talker.js'

const TALKERS = 60
/** Generous: the machine may be busy. */
const PATIENCE_MS = 30_000
const LASTING = ['--appendonly', 'yes', '--appendfsync', 'always']

interface Stage { redis: RedisServer, nodes: NodeProcess[], talkers: Talker[], talkOn (rounds: number): Promise<void> }

/** Two nodes, and many who talk in threads of their own. */
async function stage (t: Test, { args = [], leaseMs }: { args?: readonly string[], leaseMs?: number } = {}): Promise<Stage> {
  const redis = await RedisServer.start(t, { args })
  const nodes = await Promise.all([0, 1].map(() => NodeProcess.start(t, { redis: redis.url, ...(leaseMs !== undefined && { leaseMs }) })))
  const gateway = await startGateway(t, nodes)
  const talkers = await Promise.all(Array.from({ length: TALKERS }, (_, i) => Talker.start(t, `talker ${i}`, nodes[i % 2]!, gateway)))
  for (const talker of talkers) talker.talk()
  const talkOn = async (rounds: number): Promise<void> => {
    const before = talkers.map((talker) => talker.rounds)
    const late = (): Talker[] => talkers.filter((talker, i) => talker.rounds < before[i]! + rounds)
    await until(() => late().length === 0, () => `${rounds} more rounds of everybody: ${late().map(({ last }) => last).join('; ')}`, PATIENCE_MS)
  }
  await talkOn(2)
  return { redis, nodes, talkers, talkOn }
}

/** Everybody has fallen silent: whose record is not the log, whose runs are not whole. @returns how many events there are */
async function checkRecords (t: Test, { nodes, talkers }: Stage, check: (talker: Talker, log: Awaited<ReturnType<typeof finalLog>>) => void): Promise<number> {
  await Promise.all(talkers.map((talker) => talker.fallSilent()))
  let events = 0
  for (const talker of talkers) {
    const log = await finalLog(nodes[0]!, talker)
    await until(() => talker.record.length >= log.length, () => `${log.length} events at the client: ${talker.last}`, PATIENCE_MS)
    t.strictSame(talker.record, log, 'the record is the log')
    t.strictSame(talker.problems, [])
    check(talker, log)
    events += log.length
  }
  for (const node of nodes) {
    t.ok(node.isAlive, node.stderr)
    t.strictSame(await node.active(), [])
  }
  return events
}

function statusesOf (log: Awaited<ReturnType<typeof finalLog>>): string[] {
  return log.flatMap((event) => event.type === 'agent_completed' ? [event.data.status] : [])
}

/** Kills Redis under load; whoever is connected is told of it, and of its return. */
async function killRedis ({ redis, talkers, talkOn }: Stage): Promise<void> {
  for (const { statuses } of talkers) statuses.length = 0
  await redis.kill()
  await until(() => talkers.every(({ statuses }) => statuses.includes('degraded')), 'everybody to be told', PATIENCE_MS)
  await redis.start()
  await until(() => talkers.every(({ client }) => client.status === 'live'), 'real time for everybody', PATIENCE_MS)
  await talkOn(2)
}

t.test('Redis is killed and comes back with its data, under load: nothing lost, nothing doubled, nobody reset (B4, E3)', async (t) => {
  const scene = await stage(t, { args: LASTING })
  await killRedis(scene)
  const events = await checkRecords(t, scene, (talker, log) => {
    t.strictSame(brokenRules(log), [])
    t.equal(log[0]!.seq, 1)
    t.equal(talker.resets, 0)
    t.equal(log.filter(({ type }) => type === 'user_message').length, talker.messageIds.length, 'said once each')
    t.strictSame(statusesOf(log), talker.messageIds.map(() => 'success'))
    t.notOk(talker.statuses.includes('offline'), 'no connection was lost')
  })
  t.comment({ events })
})

t.test('Redis is killed and comes back empty, under load: every record is the new log, and everybody was told (B4)', async (t) => {
  const scene = await stage(t)
  const before = scene.talkers.map(({ record }) => record[0]!.id)
  await killRedis(scene)
  const events = await checkRecords(t, scene, (talker, log) => {
    t.ok(talker.resets > 0, 'was told')
    t.not(log[0]!.id, before[scene.talkers.indexOf(talker)], 'another epoch')
    t.equal(log[0]!.seq, 1)
    t.ok(statusesOf(log).every((status) => status === 'success'))
  })
  t.comment({ events, resets: scene.talkers.reduce((sum, { resets }) => sum + resets, 0) })
})

t.test('Redis stands still for longer than a lease, under load: no run is lost', async (t) => {
  const scene = await stage(t, { leaseMs: 2_000 })
  scene.redis.pause()
  // what is tested is that this much time passes
  await new Promise((resolve) => { setTimeout(resolve, 3_000) })
  scene.redis.resume()
  await scene.talkOn(2)
  t.ok(scene.talkers.some(({ statuses }) => statuses.includes('degraded')), 'it was noticed')
  const events = await checkRecords(t, scene, (talker, log) => {
    t.strictSame(brokenRules(log), [])
    t.equal(talker.resets, 0)
    t.equal(log.filter(({ type }) => type === 'user_message').length, talker.messageIds.length, 'said once each')
    t.strictSame(statusesOf(log), talker.messageIds.map(() => 'success'))
  })
  t.comment({ events })
})
