import t from 'tap'
import { crc32 } from 'node:zlib'
import { Latencies } from '../../scripts/load-test/latencies.js'
import type { Sample } from '../../scripts/load-test/messages.js'
import { Meter } from '../../scripts/load-test/meter.js'
import { nodeOf, randomFrom, readOptions, userOf, watchersOf } from '../../scripts/load-test/options.js'
import { problems } from '../../scripts/load-test/result.js'
import { fileLimitProblem } from '../../scripts/load-test/run.js'
import { isClean, judge, newVerdict, readLog, Receipt } from '../../scripts/load-test/verdict.js'

const events = [1, 2, 3, 4].map((seq) => ({ seq, text: `event ${seq}` }))
const log = readLog('t', events)

function receiptOf (seqs: readonly number[], spoilt?: number): Receipt {
  const receipt = new Receipt()
  for (const seq of seqs) receipt.add(seq, `e-${seq}`, Buffer.from(JSON.stringify({ seq, text: seq === spoilt ? 'other' : `event ${seq}` })))
  return receipt
}

t.test('the verdict counts every way in which a receiver\'s record may differ from the log', async (t) => {
  const cases: Array<[what: string, receipt: Receipt, expected: Partial<ReturnType<typeof newVerdict>>]> = [
    ['nothing', receiptOf([1, 2, 3, 4]), { delivered: 4 }],
    ['one is missing in the middle', receiptOf([1, 2, 4]), { delivered: 3, lost: 1 }],
    ['the tail is missing', receiptOf([1, 2]), { delivered: 2, lost: 2 }],
    ['nothing came', receiptOf([]), { lost: 4 }],
    ['one came twice', receiptOf([1, 2, 2, 3, 4]), { delivered: 4, doubled: 1 }],
    ['one came again much later', receiptOf([1, 2, 3, 4, 1]), { delivered: 4, doubled: 1 }],
    ['two are swapped', receiptOf([1, 3, 2, 4]), { delivered: 4, outOfOrder: 1 }],
    ['other bytes', receiptOf([1, 2, 3, 4], 3), { delivered: 4, altered: 1 }],
    ['more than the log has', receiptOf([1, 2, 3, 4, 5]), { delivered: 4, unknown: 1 }]
  ]
  for (const [what, receipt, expected] of cases) {
    const verdict = judge(log, receipt)
    t.strictSame(verdict, { ...newVerdict(), ...expected }, what)
    t.equal(isClean(verdict), what === 'nothing')
  }
  t.throws(() => readLog('t', [{ seq: 1 }, { seq: 3 }]), /seq 3 in place 2/)
  t.equal(log[0], crc32(JSON.stringify(events[0])))
})

t.test('what was confirmed and is not in the log and a lost place are problems as well', async (t) => {
  const good = { verdict: { ...newVerdict(), delivered: 9 }, sent: 9, logged: 9, notRecovered: 0 }
  t.strictSame(problems(good), [])
  t.strictSame(problems({ ...good, logged: 8 }), ['1 confirmed to an agent and not in the log'])
  t.strictSame(problems({ ...good, notRecovered: 2 }), ['2 times a place was lost'])
  t.strictSame(problems({ ...good, verdict: { ...good.verdict, lost: 1_000, doubled: 1 } }), ['1,000 lost', '1 doubled'])
})

t.test('percentiles within two percent, also over processes', async (t) => {
  const [one, other] = [new Latencies(), new Latencies()]
  for (let i = 1; i <= 1_000; i++) (i % 2 === 0 ? one : other).add(i / 10)
  one.takeIn(JSON.parse(JSON.stringify(other)))
  t.equal(one.count, 1_000)
  t.equal(one.max, 100)
  for (const [share, exact] of [[0.5, 50], [0.9, 90], [0.99, 99], [1, 100]] as const) {
    const found = one.percentile(share)
    t.ok(found >= exact && found <= exact * 1.02, `${share}: ${found} is about ${exact}`)
  }
  t.equal(new Latencies().percentile(0.5), 0)
  const bins = new Latencies()
  for (const value of [0.3, 0.4, 3, 7]) bins.add(value)
  t.strictSame(bins.bins(), [{ from: 0.2, to: 0.5, count: 2 }, { from: 0.5, to: 1, count: 0 }, { from: 1, to: 2, count: 0 }, { from: 2, to: 5, count: 1 }, { from: 5, to: 10, count: 1 }])
})

t.test('figures are of the time that is measured, whenever each process tells', async (t) => {
  const meter = new Meter()
  const sample = (at: number, counts: Partial<Sample>): Sample => ({ type: 'sample', at, cpuMs: 0, rss: 2 ** 20, sent: 0, due: 0, delivered: 0, ...counts })
  const [one, two, receivers] = [{}, {}, {}]
  // 100 events a second each, told of at different times; the first second is warm-up
  for (const [server, offset] of [[one, 0], [two, 300]] as const) {
    for (let at = offset; at <= 4_000; at += 500) meter.add('servers', server, sample(at, { sent: at / 10, due: at / 5, cpuMs: at / 2 }))
  }
  for (let at = 0; at <= 4_000; at += 500) meter.add('receivers', receivers, sample(at, { delivered: at * 0.4, latencies: { counts: at > 1_000 ? [[300, 1]] : [[1, 50]], max: at } }))
  const result = meter.measure(1_000, 3_000)
  t.equal(result.sentPerSecond, 200)
  t.equal(result.deliveredPerSecond, 400)
  t.equal(result.cores.servers, 1)
  t.equal(result.latency.count, 6, 'none of the warm-up, all that came late')
  t.strictSame(result.seconds.map(({ sent, delivered, behind }) => ({ sent, delivered, behind })), [{ sent: 200, delivered: 400, behind: 0 }, { sent: 200, delivered: 400, behind: 0 }])
})

t.test('connections are spread over users, and those of one user over nodes', async (t) => {
  const options = readOptions(['--users', '4', '--connections', '10', '--nodes', '2', '--store', 'redis'])
  const connections = Array.from({ length: 10 }, (_, i) => i)
  for (let user = 0; user < 4; user++) t.equal(watchersOf(user, options), connections.filter((i) => userOf(i, options) === user).length)
  for (let user = 0; user < 4; user++) t.equal(new Set(connections.filter((i) => userOf(i, options) === user).map((i) => nodeOf(i, options))).size, 2)
})

t.test('wrong flags are refused, with what is wrong', async (t) => {
  for (const [flags, words] of [
    [['--users', '0'], /--users must be a whole number of at least 1/],
    [['--rate', 'many'], /--rate must be a whole number/],
    [['--churn', '2'], /--churn must be at most 1/],
    [['--nodes', '2'], /--nodes above 1 needs --store redis/],
    [['--store', 'disk'], /--store must be one of memory, lmdb, redis/],
    [['--users', '1', '--receivers', '2'], /--receivers must be at most users/],
    [['--what'], /Unknown option '--what'/]
  ] as const) t.throws(() => readOptions(flags), words)
})

t.test('one seed, one sequence', async (t) => {
  const [one, same, other] = [randomFrom(5), randomFrom(5), randomFrom(6)]
  const first = Array.from({ length: 20 }, one)
  t.strictSame(Array.from({ length: 20 }, same), first)
  t.notSame(Array.from({ length: 20 }, other), first)
  t.ok(first.every((value) => value >= 0 && value < 1))
})

t.test('too few open files: what to do', async (t) => {
  const options = readOptions(['--connections', '10000'])
  t.match(fileLimitProblem(options, 1_024), /would need 10200 open files .* may have 1024.*ulimit -n 10200/)
  t.equal(fileLimitProblem(options, 20_000), undefined)
  t.equal(fileLimitProblem({ ...options, receivers: 10, nodes: 10 }, 1_200), undefined, 'spread over processes')
})
