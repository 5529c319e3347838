import { test } from 'tap'
import { crashClients } from '../support/crash-clients.js'
import { newFolder } from '../support/lmdb.js'

const SEED = 20_260_102

test('50 clients come back to a server that is killed 20 times, and nothing is missing, doubled or without its end', { timeout: 240_000 }, async (t) => {
  t.comment(`seed ${SEED}`)
  const report = await crashClients({ folder: await newFolder(t), kills: 20, seed: SEED, onRound: (line) => t.comment(line) })
  t.comment(JSON.stringify(report))
  t.equal(report.kills, 20)
  t.ok(report.resumed >= 5 * 50, `${report.resumed} times a client went on where it was`)
  t.ok(report.events > 1_000, `${report.events} events are stored as every client got them`)
  t.ok(report.success > 20, `${report.success} runs did what they should`)
  t.ok(report.lost > 20, `${report.lost} runs were cut off, and ended as lost`)
  t.ok(report.startedLater > 20, `${report.startedLater} runs waited when their process was killed, and began once in a later one`)
})
