import type { Test } from 'tap'
import { until } from './delivery.js'
import { NodeProcess, startGateway, type NodeOptions } from './node-process.js'
import { brokenRules } from './run-rules.js'
import { finalLog, Talker } from './talker.js'

interface Teardown { teardown (fn: () => unknown): void }

/** Generous: the machine may be busy. */
export const PATIENCE_MS = 30_000

/** Some nodes, a gateway before them, and many who talk in threads of their own while something is broken. */
export class Stage {
  readonly nodes: readonly NodeProcess[]
  readonly talkers: readonly Talker[]

  private constructor (nodes: readonly NodeProcess[], talkers: readonly Talker[]) {
    this.nodes = nodes
    this.talkers = talkers
  }

  /** Everybody has been answered once when it resolves. */
  static async set (t: Teardown, options: NodeOptions, { nodes: count = 2, talkers: people = 100 } = {}): Promise<Stage> {
    const nodes = await Promise.all(Array.from({ length: count }, () => NodeProcess.start(t, options)))
    const gateway = await startGateway(t, nodes)
    const talkers = await Promise.all(Array.from({ length: people }, (_, i) => Talker.start(t, `talker ${i}`, nodes[i % count]!, gateway)))
    for (const talker of talkers) talker.talk()
    const stage = new Stage(nodes, talkers)
    await stage.talkOn(1)
    return stage
  }

  /** Until each has been answered so many times more. */
  async talkOn (rounds: number): Promise<void> {
    const before = this.talkers.map((talker) => talker.rounds)
    await this.#untilAll(`${rounds} more rounds`, (talker, i) => talker.rounds >= before[i]! + rounds)
  }

  /** Breaks something; resolves when everybody was told, by status and not by a lost connection. */
  async breakDown (breaks: () => unknown): Promise<void> {
    for (const { statuses } of this.talkers) statuses.length = 0
    await breaks()
    await this.#untilAll('word of the degraded mode', ({ statuses }) => statuses.includes('degraded'))
  }

  async untilLive (): Promise<void> {
    await this.#untilAll('real time', ({ client }) => client.status === 'live')
  }

  /**
   * Everybody falls silent: then each record is the log, nothing was lost or doubled unsaid, and every run has one end.
   * Says what was seen as a comment of the test.
   * @param isKept Redis has lost nothing that it confirmed: nobody is told otherwise, and every message has its whole run
   */
  async check (t: Test, isKept: boolean): Promise<void> {
    await Promise.all(this.talkers.map((talker) => talker.fallSilent()))
    let runs = 0
    let events = 0
    for (const talker of this.talkers) {
      const log = await finalLog(this.nodes[0]!, talker)
      await until(() => talker.record.length >= log.length, () => `${log.length} events at the client: ${talker.last}`, PATIENCE_MS)
      t.strictSame(talker.record, log, 'the record is the log')
      t.strictSame(talker.problems, [])
      t.notOk(talker.statuses.includes('offline'), 'no connection was lost')
      const ends = log.flatMap((event) => event.type === 'agent_completed' ? [event] : [])
      const said = log.flatMap((event) => event.type === 'user_message' ? [event.data.clientMessageId] : [])
      t.equal(new Set(ends.map(({ runId }) => runId)).size, ends.length, 'no run ends twice')
      t.equal(new Set(said).size, said.length, 'nothing is said twice')
      if (isKept || talker.resets === 0) {
        t.strictSame(brokenRules(log), [])
        t.equal(log[0]!.seq, 1)
        t.strictSame(said, talker.messageIds, 'everything was said')
        t.strictSame(ends.map(({ data }) => data.status), talker.messageIds.map(() => 'success'))
      }
      if (isKept) t.equal(talker.resets, 0, 'nobody begins anew')
      runs += ends.length
      events += log.length
    }
    for (const node of this.nodes) {
      t.ok(node.isAlive, node.stderr)
      t.strictSame(await node.active(), [])
    }
    const degraded = this.talkers.flatMap(({ degradedMs }) => degradedMs).sort((a, b) => a - b)
    t.comment({
      clients: this.talkers.length,
      nodes: this.nodes.length,
      runs,
      events,
      toldToBeginAnew: this.talkers.filter(({ resets }) => resets > 0).length,
      degraded: degraded.length,
      degradedMs: [degraded[0], degraded[degraded.length >> 1], degraded.at(-1)].map((ms) => ms === undefined ? 0 : Math.round(ms))
    })
  }

  async #untilAll (what: string, holds: (talker: Talker, index: number) => boolean): Promise<void> {
    const late = (): Talker[] => this.talkers.filter((talker, i) => !holds(talker, i))
    await until(() => late().length === 0, () => `${what} for ${late().length}: ${late().slice(0, 5).map(({ last }) => last).join('; ')}`, PATIENCE_MS)
  }
}
