/**
 * Kills a process that works on the lmdb store, a hundred times, and compares what it told with what it left.
 *   npm run crash-test [-- <kills> <seed>]              a process that only writes; compared after each kill
 *   npm run crash-test -- --clients [<kills> <seed>]    a server with agents at work, under 50 clients that come back each time
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { crashClients } from '../test/support/crash-clients.js'
import { crash } from '../test/support/crash.js'

const { values, positionals } = parseArgs({ options: { clients: { type: 'boolean', default: false } }, allowPositionals: true })
const [kills = '100', seed = String(Date.now() % 1_000_000)] = positionals
console.log(`${kills} kills, seed ${seed}`)
const folder = await mkdtemp(join(tmpdir(), 'fae-crash-'))
try {
  const report = await (values.clients ? crashClients : crash)({ folder, kills: Number(kills), seed: Number(seed), onRound: (line) => { console.log(line) } })
  console.log(`nothing lost: ${JSON.stringify(report)}`)
} finally {
  await rm(folder, { recursive: true, force: true })
}
