import t from 'tap'
import type { EventOf } from '../../../schemas/index.js'
import { get, post } from '../../support/connect.js'
import { until } from '../../support/delivery.js'
import { NodeProcess, startGateway } from '../../support/node-process.js'
import { RedisServer } from '../../support/redis-server.js'
import { brokenRules, eventsOf } from '../../support/run-rules.js'
import { finalLog, Talker } from '../../support/talker.js'

const TALKERS = 60
const LONG = 6
const QUEUED = 2
/** Whom nobody watches. */
const PATIENT = 400
/** Generous: the machine may be busy. */
const PATIENCE_MS = 30_000

t.test('one of three nodes is killed under load: its clients resume at the others, its runs end as lost, what waited runs once (B3, B4)', async (t) => {
  const redis = await RedisServer.start(t)
  const nodes = await Promise.all([0, 1, 2].map(() => NodeProcess.start(t, { redis: redis.url })))
  const [first, victim, last] = nodes as [NodeProcess, NodeProcess, NodeProcess]
  const gateway = await startGateway(t, nodes)
  const talkers = await Promise.all(Array.from({ length: TALKERS }, (_, i) => Talker.start(t, `talker ${i}`, nodes[i % 3]!, gateway)))
  // their runs are the victim's, their watchers are anywhere
  const waiting = await Promise.all(Array.from({ length: LONG }, (_, i) => Talker.start(t, `waiting ${i}`, first, gateway)))
  const longRuns = await Promise.all(waiting.map(async ({ threadId, userId }) => {
    const { body: { runId } } = await post(victim.url, `/threads/${threadId}/messages`, userId, { content: '100', agent: 'long' })
    for (let i = 0; i < QUEUED; i++) t.equal((await post(nodes[i]!.url, `/threads/${threadId}/messages`, userId, { content: `queued ${i}` })).status, 202)
    return runId as string
  }))
  const patient = await Promise.all(Array.from({ length: PATIENT }, async (_, i) => {
    const userId = `patient ${i}`
    const { body: { threadId } } = await post(first.url, '/threads', userId)
    const { status } = await post(victim.url, `/threads/${threadId}/messages`, userId, { content: 'wait', agent: 'patient' })
    if (status !== 202) throw new Error(`not taken: ${status}`)
    return { userId, threadId: threadId as string }
  }))
  for (const talker of talkers) talker.talk()
  const all = [...talkers, ...waiting]
  await until(() => talkers.every(({ rounds }) => rounds >= 2), 'two rounds of everybody', PATIENCE_MS)
  await until(() => waiting.every(({ record }) => record.some((event) => event.type === 'assistant_message')), 'the long runs to be under way', PATIENCE_MS)

  const { body: { count: connections } } = await get(victim.url, '/debug/websocket/connections', 'anybody')
  const active = await victim.active()
  t.ok(connections > 0 && active.length >= LONG, `the victim has ${connections} connections and ${active.length} runs`)
  const killedAt = performance.now()
  await victim.end('SIGKILL')
  const rounds = talkers.map((talker) => talker.rounds)
  await until(() => waiting.every(({ record }, i) => record.some((event) => event.type === 'agent_completed' && event.runId === longRuns[i])), 'the victim\'s runs to end', PATIENCE_MS)
  const lostMs = Math.round(performance.now() - killedAt)
  for (const thread of patient) {
    const log = await finalLog(last, thread)
    t.strictSame(brokenRules(log), [])
    t.equal((log.at(-1) as EventOf<'agent_completed'>).data.status, 'lost')
  }
  const allLostMs = Math.round(performance.now() - killedAt)
  await until(() => talkers.every((talker, i) => talker.rounds >= rounds[i]! + 2), () => `two more rounds of everybody: ${talkers.filter((talker, i) => talker.rounds < rounds[i]! + 2).map(({ last }) => last).join('; ')}`, PATIENCE_MS)
  await Promise.all(talkers.map((talker) => talker.fallSilent()))

  let events = 0
  let lost = 0
  for (const talker of all) {
    const log = await finalLog(first, talker)
    await until(() => talker.record.length >= log.length, () => `${log.length} events at the client: ${talker.last}`, PATIENCE_MS)
    t.strictSame(talker.record, log, 'the record is the log')
    t.strictSame(await last.logOf(talker.threadId, talker.userId), log, 'at every node')
    t.strictSame(brokenRules(log), [])
    t.strictSame(talker.problems, [])
    t.equal(talker.resets, 0)
    const said = log.flatMap((event) => event.type === 'user_message' ? [event.runId!] : [])
    t.equal(new Set(said).size, said.length)
    t.strictSame(new Set(log.flatMap((event) => event.type === 'agent_started' ? [event.runId!] : [])), new Set(said), 'every message had its run')
    if (talker.messageIds.length > 0) t.equal(said.length, talker.messageIds.length, 'said once each')
    for (const runId of said) {
      const run = eventsOf(log, runId)
      const place = run.find((event): event is EventOf<'custom'> => event.type === 'custom')
      const end = run.at(-1) as EventOf<'agent_completed'>
      // Without a place it had not got so far.
      const pid = (place?.data.value as { pid: number } | undefined)?.pid ?? victim.pid
      if (end.data.status === 'lost') {
        lost++
        t.equal(pid, victim.pid, 'only its own runs are lost')
      } else {
        t.equal(end.data.status, 'success')
      }
    }
    events += log.length
  }
  for (const [i, { record }] of waiting.entries()) {
    const ends = record.flatMap((event) => event.type === 'agent_completed' ? [event] : [])
    t.equal(ends[0]!.runId, longRuns[i])
    t.strictSame(ends.map(({ data }) => data.status), ['lost', 'success', 'success'])
  }
  t.comment({ connections, activeAtVictim: active.length, lost, lostMs, allLostMs, events, rounds: talkers.reduce((sum, { rounds }) => sum + rounds, 0) })
  t.ok(lost >= LONG)
  t.ok(first.isAlive && last.isAlive, first.stderr + last.stderr)
  await Promise.all(all.map(({ client }) => client.close()))
})
