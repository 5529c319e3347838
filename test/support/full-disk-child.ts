/*
 * A process whose disk is full after so many bytes (ulimit -f, set by whoever starts it): says what it sees, one line of
 * JSON each, and goes on until its standard input ends.
 *   node --import tsx full-disk-child.ts <folder>
 */
import { LmdbStore } from '../../plugins/store/lmdb-store.js'

// Without a listener the signal for a file that is too large ends the process.
process.on('SIGXFSZ' as NodeJS.Signals, () => {})

const store = new LmdbStore({ folder: process.argv[2]! })
await store.open()
const say = (line: Record<string, unknown>): void => { console.log(JSON.stringify(line)) }
store.onAvailability((availability) => { say({ type: 'availability', ...availability }) })

const info = { userId: 'u1', agent: 'triage', agentId: 'a', messageId: 'm', trigger: 'api', startedAt: 0 } as const
const body = (value: number): string => JSON.stringify({ v: 1, value, fill: 'x'.repeat(5_000) })
const delivered: number[] = []
await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
await store.watch('t1', { events: (entries) => { delivered.push(...entries.map(({ seq }) => seq)) }, gap () {}, deleted () {} })
await store.append('t1', [body(1)], { start: { runId: 'r1', started: true, mode: 'now', maxRuns: 10, info } })

let n = 1
let failure: (Error & { code?: string }) | undefined
while (failure === undefined) {
  // One that fails, and what was decided upon it.
  const calls = [
    store.append('t1', [body(2)], { run: { runId: 'r1', fence: 1, n: n + 1, opens: [[`open ${n}`, 'x']] } }),
    store.append('t1', [body(3)], { key: `key ${n}` }),
    store.putThread({ threadId: `new ${n}`, userId: 'u1', createdAt: '' }),
    store.inbox(`user ${n}`)
  ]
  const outcomes = await Promise.allSettled(calls)
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
  if (refused.length > 0) {
    failure = refused[0]!.reason as Error & { code?: string }
    say({ type: 'failed', refused: refused.length, code: failure.code, message: failure.message })
  } else {
    n++
  }
}

const look = async (): Promise<Record<string, unknown>> => {
  const { head, entries } = await store.read('t1', 0)
  const last = await store.read('t1', head - 1)
  return {
    head,
    entries: entries.length,
    last: last.entries.map(({ seq }) => seq),
    delivered: delivered.at(-1),
    gapless: delivered.every((seq, i) => seq === delivered[0]! + i),
    n: (await store.getRun('r1'))?.n,
    isNew: await store.getThread(`new ${n}`) !== undefined,
    threads: (await store.listThreads('u1', { limit: 10_000 })).length
  }
}
say({ type: 'full', calls: n, ...await look() })
const refusals = await Promise.allSettled([
  store.append('t1', [body(4)]), store.putThread({ threadId: 'other', userId: 'u1', createdAt: '' }), store.deleteThread('t1'), store.inbox('other')
])
say({ type: 'refused', codes: refusals.map((outcome) => outcome.status === 'rejected' ? (outcome.reason as { code?: string }).code : 'fulfilled') })

store.onAvailability(({ available }) => {
  if (!available) return
  // The same calls again, as a lane makes them.
  Promise.all([
    store.append('t1', [body(2)], { run: { runId: 'r1', fence: 1, n: n + 1 } }),
    store.append('t1', [body(3)], { key: `key ${n}` }),
    store.putThread({ threadId: `new ${n}`, userId: 'u1', createdAt: '' })
  ]).then(async ([step, keyed, thread]) => {
    say({ type: 'again', repeated: [step.repeated, keyed.repeated], seqs: [step.last.seq, keyed.last.seq], created: thread.created, ...await look() })
    await store.close()
    process.exit(0)
  }, (error: Error) => { say({ type: 'error', message: error.message }) })
})
process.stdin.resume().on('end', () => { process.exit(1) })
