import t from 'tap'
import { connect } from '../../support/connect.js'
import { appendAll, congestedIn, logOf, portOf, ServerSockets, turn, untilEmpty } from '../../support/delivery.js'
import { check, checkReceivers, LIMITS, Model, RETAINED, type Tab } from '../../support/receivers.js'
import { startApp } from '../../support/start-app.js'
import type { AgentEvent } from '../../../schemas/index.js'

const seed = Number(process.env.FC_SEED ?? Date.now() % 2 ** 31)
const numRuns = Number(process.env.FC_RUNS ?? 300)
t.comment(`FC_SEED=${seed} FC_RUNS=${numRuns}`)

t.test('whatever happens in whatever order, every receiver has the log from its place on or was told (B4, D2)', async (t) => {
  const { app, url } = await startApp(t, { store: { memory: { retention: { maxEvents: RETAINED } } }, limits: LIMITS })
  const sockets = new ServerSockets(app)
  const found = await checkReceivers({
    register: (userId) => app.threads.register({ userId }),
    append: (threadIds, count, bytes, isCustom) => appendAll(app, threadIds, count, bytes, isCustom),
    logOf: (threadId) => logOf(app, threadId),
    connect: (userId) => connect({ teardown () {} }, url, userId),
    hold (receiver) { sockets.hold(portOf(receiver)) },
    release (receiver) { sockets.release(portOf(receiver)) },
    async releaseAll () { sockets.releaseAll() },
    async congested () { return congestedIn(app) },
    turn,
    untilEmpty: () => untilEmpty(app)
  }, { seed, numRuns })
  t.comment(found)
  if (numRuns >= 300) t.ok(found.told > 0 && found.lost > 0 && found.congested > 0, 'the hard cases were among them')
})

t.test('the condition of the test above can fail', async (t) => {
  const model = new Model('k3xw9q00aaaa')
  const event = (seq: number) => ({ id: model.cursor(seq), seq, threadId: 't', type: 'custom' }) as unknown as AgentEvent
  model.events.push(event(1), event(2), event(3))
  const answer = { type: 'subscribed', threadId: 't', ref: 'a', cursor: model.cursor(0), head: 3, recovered: true }
  const tab = (...frames: unknown[]) => ({ receiver: { frames }, asked: new Map([['a', { cursor: undefined, firstThen: 1, headThen: 3 }]]) }) as unknown as Tab
  check(tab(answer, event(1), event(2), event(3)), 't', model, true)
  t.throws(() => { check(tab(answer, event(1), event(2)), 't', model, true) }, /the end is missing/)
  t.throws(() => { check(tab(answer, event(1), event(3)), 't', model, true) }, /got 3/)
  t.throws(() => { check(tab(answer, event(1), event(1)), 't', model, true) }, /got 1/)
  t.throws(() => { check(tab(event(1)), 't', model, true) }, /without a subscription/)
  t.throws(() => { check(tab(answer, { ...event(1), runId: 'r' }), 't', model, true) }, /not what is stored/)
  t.throws(() => { check(tab({ ...answer, cursor: model.cursor(2) }, event(3)), 't', model, true) }, /recovered from the start, placed at 2/)
  t.throws(() => { check(tab({ ...answer, recovered: false }), 't', model, true) }, /not recovered/)
})
