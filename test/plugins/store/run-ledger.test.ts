import t from 'tap'
import { applyStep, checkStep, isLive, isRoot, startRun } from '../../../plugins/store/run-ledger.js'
import type { RunStart } from '../../../plugins/store/store.js'

const info = { userId: 'u1', agent: 'triage', agentId: 'a', messageId: 'm', trigger: 'api', startedAt: 0 } as const
const start: RunStart = { runId: 'r1', started: true, mode: 'now', maxRuns: 1, info }

t.test('in a new epoch the owner may leave one hole: what the store forgot', async (t) => {
  const run = startRun('t1', start, 'running', 'epoch1', 1, 1)
  applyStep(run, { runId: 'r1', fence: 1, n: 2, opens: [['tool:1', 'a']] }, 'epoch1', 2, 3)
  t.throws(() => checkStep(run, { runId: 'r1', fence: 1, n: 5 }, 'epoch1'), { code: 'FAE_ERR_RUN_HOLE', message: /expected 3, got 5/ })
  const step = { runId: 'r1', fence: 1, n: 5 }
  t.equal(checkStep(run, step, 'epoch2'), false)
  t.throws(() => checkStep(run, { runId: 'r1', fence: 1, n: 1 }, 'epoch2'), { code: 'FAE_ERR_RUN_HOLE' }, 'but never go back')
  t.throws(() => checkStep(run, { runId: 'r1', fence: 2, n: 5, takesOver: true }, 'epoch2'), { code: 'FAE_ERR_RUN_STALE' }, 'nor may somebody else')
  applyStep(run, step, 'epoch2', 4, 4)
  t.match(run, { n: 5, epoch: 'epoch2', callFirst: 4, lastSeq: 4, open: { 'tool:1': 'a' } })
  t.throws(() => checkStep(run, { runId: 'r1', fence: 1, n: 7 }, 'epoch2'), { code: 'FAE_ERR_RUN_HOLE' }, 'once')
  t.equal(checkStep(run, step, 'epoch3'), true, 'a repeat is a repeat in every epoch')
})

t.test('what is live, and what is a root', async (t) => {
  const run = startRun('t1', start, 'queued', 'e', 1, 1)
  t.ok(isLive(run))
  t.ok(isRoot(run))
  applyStep(run, { runId: 'r1', fence: 2, n: 2, starts: true }, 'e', 2, 2)
  t.match(run, { state: 'running', firstSeq: 2 })
  t.ok(isLive(run))
  applyStep(run, { runId: 'r1', fence: 2, n: 3, ends: 'lost' }, 'e', 3, 3)
  t.notOk(isLive(run))
  t.notOk(isRoot(startRun('t1', { ...start, info: { ...info, parentRunId: 'r0' } }, 'running', 'e', 1, 1)))
})
