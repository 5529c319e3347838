import { FAE_ERR_THREAD_ID_INVALID } from '../../errors.js'

/** Names of one thread's keys, all in one slot of a Cluster, in the order in which its scripts take them. */
export interface ThreadKeys {
  /** meta, log, keys, runs, live, ended. */
  readonly all: readonly string[]
  readonly meta: string
  readonly channel: string
}

/*
 * Every name in Redis. The prefix is put in front here and nowhere else, of keys and channels alike.
 *
 *  in the thread's slot, and the authority:
 *    thread:{id}  hash     record, userId, server, epoch, epochs, seq, first, bytes, at, ttl, s:<run> state; or tombstone and epoch
 *    log:{id}     stream   <seq>-0 -> b body, t time, k idempotency key of its call
 *    keys:{id}    hash     idempotency key -> first, last, run
 *    runs:{id}    hash     i:<run> info, p:<run> input until it has begun, o:<run> open items, x:<run> the run handed out at its end
 *    live:{id}    zset     live runs by order of creation: r<root run> or c<child run>
 *    ended:{id}   zset     ended runs by their last seq
 *  indexes, never trusted:
 *    thread_registry, user_threads, user_inbox, user_runs, run_thread, {runners}, {runners}:nodes
 */
export class RedisKeys {
  /** A hash, thread id -> record as JSON: for people. */
  readonly registry: string
  readonly runners: string
  readonly queued: string
  /** A sorted set, process -> when it last said that it is there. */
  readonly nodes: string
  readonly control: string
  readonly #base: string

  constructor (prefix: string) {
    this.registry = `${prefix}thread_registry`
    this.#base = `${prefix}agent_events:`
    this.runners = `${this.#base}{runners}`
    this.queued = `${this.runners}:queued`
    this.nodes = `${this.runners}:nodes`
    this.control = `${this.#base}control`
  }

  /** @throws FAE_ERR_THREAD_ID_INVALID for what is not a well-formed string */
  thread (threadId: string): ThreadKeys {
    const tag = `{${encode(threadId)}}`
    const meta = `${this.#base}thread:${tag}`
    return {
      all: [meta, `${this.#base}log:${tag}`, `${this.#base}keys:${tag}`, `${this.#base}runs:${tag}`, `${this.#base}live:${tag}`, `${this.#base}ended:${tag}`],
      meta,
      channel: `${this.#base}events:${tag}`
    }
  }

  userThreads (userId: string): string { return `${this.#base}user_threads:${encode(userId)}` }
  userInbox (userId: string): string { return `${this.#base}user_inbox:${encode(userId)}` }
  userRuns (userId: string): string { return `${this.#base}user_runs:${encode(userId)}` }
  runThread (runId: string): string { return `${this.#base}run_thread:${encode(runId)}` }
  ticket (ticket: string): string { return `${this.#base}ticket:${encode(ticket)}` }
  runnerThreads (node: string): string { return `${this.runners}:${node}` }
  answers (node: string): string { return `${this.#base}answers:${node}` }
}

function encode (id: string): string {
  try {
    if (id !== '') return encodeURIComponent(id)
  } catch {}
  throw new FAE_ERR_THREAD_ID_INVALID(1_024)
}
