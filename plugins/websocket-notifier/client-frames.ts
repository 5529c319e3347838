import type { FastifyBaseLogger } from 'fastify'
import { FAE_ERR_ACK_AHEAD, FAE_ERR_CURSOR_INVALID, FAE_ERR_FRAME_INVALID, FAE_ERR_NOT_SUBSCRIBED, FAE_ERR_RUN_ENDED, FAE_ERR_SUBSCRIPTION_LIMIT } from '../../errors.js'
import { parseCursor, type AckFrame, type CancelFrame, type ClientFrame, type MessageAccepted, type RefreshFrame, type SendFrame, type SubscribeFrame } from '../../schemas/index.js'
import { checkClientFrame } from '../../schemas/validate.js'
import type { User } from '../thread-registry/user.js'
import type { Connection } from './connection.js'
import type { Hub } from './hub.js'
import { Subscription } from './subscription.js'

/** The frames a connection hands on: what they do lives further up. */
export interface ConnectionCommands {
  send (user: User, frame: SendFrame): Promise<MessageAccepted>
  /** False when the run has ended already. */
  cancel (user: User, frame: CancelFrame): Promise<boolean>
  refresh (user: User, frame: RefreshFrame): Promise<User>
}

export type AckListener = (threadId: string, subscription: Subscription) => void

/** What clients say on their sockets: understood and done, or answered with an error frame. */
export class ClientFrames {
  readonly #hub: Hub
  readonly #log: FastifyBaseLogger
  readonly #onAck: AckListener

  constructor (hub: Hub, log: FastifyBaseLogger, onAck: AckListener) {
    this.#hub = hub
    this.#log = log
    this.#onAck = onAck
  }

  /** Any frame is a sign of life and costs one of the budget. @returns whether it is to be looked at */
  heard (connection: Connection, now: number): boolean {
    connection.heard(now)
    // What is still on its way when we have closed is answered no more.
    if (!connection.isOpen) return false
    if (connection.spend(now)) return true
    connection.close('tooMany')
    return false
  }

  onMessage (connection: Connection, commands: ConnectionCommands, data: Buffer, isBinary: boolean): void {
    if (!this.heard(connection, Date.now())) return
    let frame: unknown
    try {
      if (isBinary) throw new FAE_ERR_FRAME_INVALID('(root)', 'expected a text frame, found a binary one')
      frame = parse(data)
      const problem = checkClientFrame(frame)
      if (problem !== undefined) throw new FAE_ERR_FRAME_INVALID(problem.path, problem.message)
    } catch (error) {
      connection.sendError(error as Error, refOf(frame))
      if (++connection.badFrames >= this.#hub.limits.maxBadFrames) connection.close('badFrames')
      return
    }
    this.#dispatch(connection, commands, frame as ClientFrame)
  }

  #dispatch (connection: Connection, commands: ConnectionCommands, frame: ClientFrame): void {
    this.#log.trace({ connectionId: connection.id, frame: frame.type }, 'frame received')
    const answer = this.#handle(connection, commands, frame)
    answer?.catch((error: Error & { code?: string, statusCode?: number }) => {
      if ((error.statusCode ?? 500) >= 500) this.#log.error({ err: error, connectionId: connection.id, frame: frame.type }, 'frame failed')
      connection.sendError(error, refOf(frame))
    })
  }

  #handle (connection: Connection, commands: ConnectionCommands, frame: ClientFrame): Promise<void> | undefined {
    switch (frame.type) {
      case 'pong':
        connection.refund()
        return undefined
      case 'ack':
        connection.refund()
        return this.#ack(connection, frame)
      case 'subscribe': return this.#subscribe(connection, frame)
      case 'unsubscribe':
        connection.unsubscribe(frame.threadId, 'asked', frame.ref)
        return undefined
      case 'send': return this.#send(connection, commands, frame)
      case 'cancel': return commands.cancel(connection.user, frame).then((done) => { if (!done) throw new FAE_ERR_RUN_ENDED(frame.runId) })
      case 'refresh': return commands.refresh(connection.user, frame).then((user) => { connection.refresh(user) })
    }
  }

  async #send (connection: Connection, commands: ConnectionCommands, frame: SendFrame): Promise<void> {
    const accepted = await commands.send(connection.user, frame)
    connection.send({ type: 'accepted', ref: frame.ref, ...accepted })
  }

  async #ack (connection: Connection, { threadId, cursor }: AckFrame): Promise<void> {
    const subscription = connection.subscriptions.get(threadId)
    if (subscription === undefined) throw new FAE_ERR_NOT_SUBSCRIBED(threadId)
    const position = parseCursor(cursor)
    if (position === undefined || !subscription.feed.epochs.some(({ epoch }) => epoch === position.epoch)) throw new FAE_ERR_CURSOR_INVALID()
    if (position.seq > subscription.seq) throw new FAE_ERR_ACK_AHEAD()
    connection.lastAck = { threadId, cursor, at: Date.now() }
    // Cumulative: an older one says nothing new.
    if (position.seq <= subscription.acked) return
    subscription.acked = position.seq
    this.#onAck(threadId, subscription)
  }

  async #subscribe (connection: Connection, { threadId, cursor, ref }: SubscribeFrame): Promise<void> {
    const asked = cursor === undefined ? undefined : parseCursor(cursor)
    if (cursor !== undefined && asked === undefined) throw new FAE_ERR_CURSOR_INVALID()
    const asking = { threadId, isTakenBack: false }
    connection.asking = [...connection.asking, asking]
    try {
      // Between the answer and this turn a right may have been lost, and nothing was here yet that could be cut.
      while (!this.#hub.isCurrent(await this.#hub.mayRead(connection.user, threadId)));
    } finally {
      connection.asking = connection.asking.filter((other) => other !== asking)
    }
    if (!connection.isOpen || asking.isTakenBack) return
    const existing = connection.subscriptions.get(threadId)
    if (existing !== undefined) {
      existing.again(ref)
      return
    }
    if (connection.subscriptions.size >= this.#hub.limits.subscriptionsPerConnection) throw new FAE_ERR_SUBSCRIPTION_LIMIT(this.#hub.limits.subscriptionsPerConnection)
    const subscription = this.#hub.feeds.join(threadId, (feed) => new Subscription(connection, feed))
    connection.subscriptions.set(threadId, subscription)
    try {
      await subscription.start(asked, ref)
      if (subscription.acked > 0) this.#onAck(threadId, subscription)
    } catch (error) {
      if (connection.subscriptions.get(threadId) === subscription) this.#hub.dropSubscription(connection, threadId)
      for (const other of subscription.refs) connection.sendError(error as Error, { ref: other, threadId })
      throw error
    }
  }
}

function parse (data: Buffer): unknown {
  try {
    return JSON.parse(data.toString())
  } catch {
    throw new FAE_ERR_FRAME_INVALID('(root)', 'expected JSON')
  }
}

function refOf (frame: unknown): { ref?: string, threadId?: string } {
  if (typeof frame !== 'object' || frame === null) return {}
  const { ref, threadId } = frame as { ref?: unknown, threadId?: unknown }
  return {
    ...(typeof ref === 'string' && ref.length <= 64 && { ref }),
    ...(typeof threadId === 'string' && { threadId: threadId.slice(0, 256) })
  }
}
