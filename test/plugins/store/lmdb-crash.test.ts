import { test } from 'tap'
import { crash } from '../../support/crash.js'
import { newFolder } from '../../support/lmdb.js'

const SEED = 20_260_101

test('what a killed process had told of is still there: 20 kills', { timeout: 240_000 }, async (t) => {
  t.comment(`seed ${SEED}`)
  const report = await crash({ folder: await newFolder(t), kills: 20, seed: SEED, onRound: (line) => t.comment(line) })
  t.equal(report.kills, 20)
  t.ok(report.confirmed > 1_000, `${report.confirmed} appends were confirmed`)
  t.ok(report.delivered > 1_000, `${report.delivered} events were delivered`)
  t.ok(report.orphans > 20, `${report.orphans} runs were left behind, told of once, and ended`)
})
