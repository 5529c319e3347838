import fc from 'fast-check'
import { formatCursor, parseCursor, type AgentEvent, type SubscribedFrame } from '../../schemas/index.js'
import type { Receiver } from './connect.js'

/*
 * Whatever happens in whatever order, every receiver has the log from its place on or was told: one property for every way
 * in which an app may run.
 */

/** How many events a thread of the world retains. */
export const RETAINED = 30
/** The smallest mark there is, so that a few events are too many for a reader who does not read. */
export const LIMITS = { highWaterMark: 1, framesPerSecond: 100_000, maxBadFrames: 100_000, connectionsPerUser: 1_000 }

const TABS = 3

/** Where it happens: one app, or several nodes of which any will do. */
export interface World {
  register (userId: string): Promise<{ threadId: string, epoch: string }>
  /** Stores events of so many bytes, one in each thread in turn, and does not wait for one before the next. */
  append (threadIds: readonly string[], count: number, bytes: number, isCustom: boolean): Promise<unknown>
  logOf (threadId: string, userId: string): Promise<AgentEvent[]>
  connect (userId: string): Promise<Receiver>
  /** The server's end of this socket takes nothing until it is released. */
  hold (receiver: Receiver): unknown
  release (receiver: Receiver): unknown
  releaseAll (): Promise<unknown>
  /** How many connections have more in their buffers than they should. */
  congested (): Promise<number>
  turn (): Promise<void>
  /** Every connection and feed is gone. */
  untilEmpty (): Promise<void>
}

type CursorKind = 'none' | 'own' | 'anyOfLog' | 'beginning' | 'head' | 'ahead' | 'foreign' | 'malformed'
type AckKind = 'last' | 'older' | 'twice' | 'ahead' | 'foreign' | 'malformed'
type Step =
  | { do: 'append', count: number, bytes: number, isCustom: boolean }
  | { do: 'subscribe', tab: number, thread: number, cursor: CursorKind, at: number }
  | { do: 'unsubscribe', tab: number, thread: number }
  | { do: 'ack', tab: number, thread: number, ack: AckKind }
  | { do: 'disconnect', tab: number, isRude: boolean }
  | { do: 'hold' | 'release', tab: number }
  | { do: 'turn' }

const tab = fc.nat({ max: TABS - 1 })
const thread = fc.nat({ max: 1 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('append'), count: fc.integer({ min: 1, max: 12 }), bytes: fc.constantFrom(0, 0, 500, 4_000), isCustom: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('subscribe'), tab, thread, cursor: fc.constantFrom<CursorKind>('none', 'own', 'own', 'anyOfLog', 'anyOfLog', 'beginning', 'head', 'ahead', 'foreign', 'malformed'), at: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('unsubscribe'), tab, thread }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('ack'), tab, thread, ack: fc.constantFrom<AckKind>('last', 'last', 'older', 'twice', 'ahead', 'foreign', 'malformed') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('disconnect'), tab, isRude: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('hold', 'release'), tab }) },
  { weight: 4, arbitrary: fc.constant({ do: 'turn' } as const) }
)

/** What a thread's log ever held, and from where it is retained. */
export class Model {
  readonly events: AgentEvent[] = []
  readonly epoch: string

  constructor (epoch: string) { this.epoch = epoch }
  get head (): number { return this.events.length }
  get first (): number { return Math.max(1, this.head - RETAINED + 1) }
  cursor (seq: number): string { return formatCursor(this.epoch, seq) }

  /** @param retained what is in the log by now */
  grow (retained: readonly AgentEvent[]): void {
    this.events.push(...retained.filter(({ seq }) => seq > this.head))
  }
}

interface Asked { readonly cursor: string | undefined, readonly firstThen: number, readonly headThen: number }

/** One socket, and what it may expect. */
export class Tab {
  readonly receiver: Receiver
  readonly asked = new Map<string, Asked>()
  constructor (receiver: Receiver) { this.receiver = receiver }
}

/** Reads what a socket got as a client would, and compares every frame with the log. */
export function check ({ receiver, asked }: Tab, threadId: string, model: Model, isOpen: boolean): void {
  let place: number | undefined
  let answer: SubscribedFrame | undefined
  const fail = (why: string): never => { throw new Error(`${why}; place ${place}, head ${model.head}`) }
  for (const frame of receiver.frames) {
    if (!('threadId' in frame) || frame.threadId !== threadId) continue
    switch (frame.type) {
      case 'subscribed':
        checkAnswer(frame, answer, asked, place, model, fail)
        answer = frame
        place = parseCursor(frame.cursor)!.seq
        break
      case 'unsubscribed':
        if (frame.reason !== 'asked') fail(`unsubscribed: ${frame.reason}`)
        place = undefined
        break
      case 'error': break
      default:
        if (!('seq' in frame)) continue
        if (place === undefined) fail(`got ${frame.seq} without a subscription`)
        if (frame.seq !== place! + 1) fail(`got ${frame.seq}`)
        if (JSON.stringify(frame) !== JSON.stringify(model.events[frame.seq - 1])) fail(`${frame.seq} is not what is stored`)
        place = frame.seq
    }
  }
  if (isOpen && place !== undefined && place !== model.head) fail('the end is missing')
}

function checkAnswer ({ ref, cursor, head, recovered }: SubscribedFrame, before: SubscribedFrame | undefined, asked: ReadonlyMap<string, Asked>, place: number | undefined, model: Model, fail: (why: string) => never): void {
  const at = parseCursor(cursor)!
  if (at.epoch !== model.epoch || at.seq > head || head > model.head) fail(`placed at ${cursor}, head ${head}`)
  if (ref === undefined) {
    if (recovered || place === undefined || at.seq <= place) fail(`moved to ${cursor} unasked, recovered ${recovered}`)
    return
  }
  const { cursor: own, firstThen } = asked.get(ref)!
  if (place !== undefined) {
    // asked for once more: it goes on from where it is; asked twice at once: both get one answer
    if (at.seq !== place || (!recovered && before?.recovered !== false)) fail(`moved to ${cursor} by asking twice`)
    return
  }
  const wanted = own === undefined ? { epoch: model.epoch, seq: 0 } : parseCursor(own)!
  const isOurs = wanted.epoch === model.epoch && wanted.seq <= model.head
  // What is retained moves on while the question is under way: in between both answers are right.
  if (recovered && !(isOurs && wanted.seq >= firstThen - 1 && at.seq === wanted.seq && wanted.seq <= head)) fail(`recovered from ${own ?? 'the start'}, placed at ${at.seq}`)
  if (!recovered && isOurs && wanted.seq >= model.first - 1 && wanted.seq <= asked.get(ref)!.headThen) fail(`not recovered from ${own ?? 'the start'}`)
}

let users = 0

/**
 * Rejects with a counterexample.
 * @returns how often a receiver was told that its place was gone, lost it later on, and had its buffers full
 */
export async function checkReceivers (world: World, { seed, numRuns }: { seed: number, numRuns: number }): Promise<{ told: number, lost: number, congested: number }> {
  let told = 0
  let lost = 0
  let congested = 0

  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60, size: 'max' }), async (steps) => {
    const userId = `user ${++users}`
    const threads = await Promise.all([0, 1].map(() => world.register(userId)))
    const threadIds = threads.map(({ threadId }) => threadId)
    const models = threads.map(({ epoch }) => new Model(epoch))
    const all: Tab[] = []
    const tabs: Tab[] = []
    const open = async (at: number): Promise<void> => {
      tabs[at] = new Tab(await world.connect(userId))
      all.push(tabs[at])
    }
    for (let i = 0; i < TABS; i++) await open(i)
    let refs = 0
    for (const step of steps) {
      switch (step.do) {
        case 'append':
          await world.append(threadIds, step.count, step.bytes, step.isCustom)
          for (const [i, model] of models.entries()) model.grow(await world.logOf(threadIds[i]!, userId))
          break
        case 'subscribe': {
          const { receiver, asked } = tabs[step.tab]!
          const { threadId } = threads[step.thread]!
          const model = models[step.thread]!
          const cursor = {
            none: undefined,
            own: receiver.events(threadId).at(-1)?.id,
            anyOfLog: model.cursor(step.at % (model.head + 1)),
            beginning: model.cursor(0),
            head: model.cursor(model.head),
            ahead: model.cursor(model.head + 1 + step.at % 50),
            foreign: formatCursor('000000000000', step.at % (model.head + 1)),
            malformed: `${model.epoch}-12`
          }[step.cursor]
          const ref = String(++refs)
          if (step.cursor !== 'malformed') asked.set(ref, { cursor, firstThen: model.first, headThen: model.head })
          receiver.send({ type: 'subscribe', ref, threadId, ...(cursor !== undefined && { cursor }) })
          break
        }
        case 'unsubscribe':
          tabs[step.tab]!.receiver.send({ type: 'unsubscribe', threadId: threads[step.thread]!.threadId })
          break
        case 'ack': {
          const { receiver } = tabs[step.tab]!
          const { threadId } = threads[step.thread]!
          const model = models[step.thread]!
          const last = receiver.events(threadId).at(-1)?.seq ?? 0
          const cursor = {
            last: model.cursor(last),
            twice: model.cursor(last),
            older: model.cursor(last >> 1),
            ahead: model.cursor(model.head + 3),
            foreign: formatCursor('zzzzzzzzzzzz', last),
            malformed: 'x'
          }[step.ack]
          for (let i = 0; i < (step.ack === 'twice' ? 2 : 1); i++) receiver.send({ type: 'ack', threadId, cursor })
          break
        }
        case 'disconnect': {
          const { receiver } = tabs[step.tab]!
          if (step.isRude) receiver.socket.terminate()
          else receiver.close()
          await open(step.tab)
          break
        }
        case 'hold': await world.hold(tabs[step.tab]!.receiver); break
        case 'release':
          congested += await world.congested()
          await world.release(tabs[step.tab]!.receiver)
          break
        case 'turn': await world.turn()
      }
    }
    await world.releaseAll()
    // An answer to a last question: whatever was asked before it has been answered.
    for (const { receiver, asked } of tabs) {
      for (const [i, { threadId }] of threads.entries()) {
        const ref = `last ${i}`
        asked.set(ref, { cursor: undefined, firstThen: models[i]!.first, headThen: models[i]!.head })
        receiver.send({ type: 'subscribe', ref, threadId })
        await receiver.frame('subscribed', (frame) => frame.ref === ref)
        await receiver.until(() => receiver.events(threadId).at(-1)?.seq === models[i]!.head || models[i]!.head === 0 || isAt(receiver, threadId, models[i]!.head), `the head of ${threadId}, ${models[i]!.head}`)
      }
    }
    for (const each of all) {
      for (const [i, { threadId }] of threads.entries()) check(each, threadId, models[i]!, tabs.includes(each))
      lost += each.receiver.frames.filter((frame) => frame.type === 'subscribed' && !frame.recovered && frame.ref === undefined).length
      told += each.receiver.frames.filter((frame) => frame.type === 'subscribed' && !frame.recovered).length
      each.receiver.close()
    }
    await world.untilEmpty()
  }), { seed, numRuns, endOnFailure: process.env.FC_SHRINK === undefined })
  return { told, lost, congested }
}

function isAt (receiver: Receiver, threadId: string, seq: number): boolean {
  const frame = receiver.frames.findLast((each) => each.type === 'subscribed' && each.threadId === threadId)
  return frame?.type === 'subscribed' && parseCursor(frame.cursor)!.seq === seq
}
