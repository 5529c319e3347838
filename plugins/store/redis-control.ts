import { randomUUID } from 'node:crypto'
import { FAE_ERR_STORE_UNAVAILABLE } from '../../errors.js'
import type { RedisClient } from './redis-client.js'
import type { RedisKeys } from './redis-keys.js'
import type { RedisSubscriber } from './redis-subscriber.js'
import type { Question } from './store.js'

/** Questions of ours, and of others, that may be open at once. */
const MAX_OPEN = 10_000

interface Asked { readonly id: string, readonly from: string, readonly question: Question }
interface Answer { readonly id: string, readonly node: string, readonly answer?: unknown }
interface Open { heard (answer: Answer): void }

/** Questions between processes: published to all on one channel, answered on the asker's own. */
export class RedisControl {
  readonly #client: RedisClient
  readonly #keys: RedisKeys
  readonly #node: string
  readonly #open = new Map<string, Open>()
  #answering = 0
  handler: (question: Question) => Promise<unknown> = async () => undefined

  constructor (client: RedisClient, subscriber: RedisSubscriber, keys: RedisKeys, node: string) {
    this.#client = client
    this.#keys = keys
    this.#node = node
    subscriber.listen(keys.control, (message) => { this.#asked(message) })
    subscriber.listen(keys.answers(node), (message) => { this.#answered(message) })
  }

  /** Resolves with the answers that came, silence is no answer. @throws FAE_ERR_STORE_UNAVAILABLE where none is wanted and nobody was told */
  ask (question: Question, { timeoutMs, answers }: { timeoutMs: number, answers: 'none' | 'first' | 'all' }): Promise<readonly unknown[]> {
    if (answers === 'none') return this.#tellAll(question, timeoutMs)
    if (!this.#client.isAvailable || this.#open.size >= MAX_OPEN) return Promise.resolve([])
    const id = randomUUID()
    return new Promise((resolve) => {
      const given: unknown[] = []
      let heard = 0
      let expected = Infinity
      const settle = (): void => {
        clearTimeout(timer)
        this.#open.delete(id)
        resolve(given)
      }
      const check = (): void => { if (heard >= expected || (answers === 'first' && given.length > 0)) settle() }
      const timer = setTimeout(settle, timeoutMs)
      this.#open.set(id, {
        heard: ({ answer }) => {
          heard++
          if (answer !== undefined) given.push(answer)
          check()
        }
      })
      this.#publish({ id, from: this.#node, question }).then((receivers) => {
        // Each receiver but ourselves says something, be it that it has nothing to say. A node of a Cluster knows only its own.
        if (!this.#client.isCluster) expected = receivers - 1
        check()
      }, settle)
    })
  }

  /** Told to all, this process included, and answered by nobody. */
  tell (question: Question): void {
    this.handler(question).catch(() => {})
    this.#publish({ id: '', from: this.#node, question }).catch(() => {})
  }

  /** What others asked meanwhile was not heard. */
  missed (): void {
    this.handler({ type: 'missed' }).catch(() => {})
  }

  async #tellAll (question: Question, timeoutMs: number): Promise<readonly unknown[]> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => { reject(new FAE_ERR_STORE_UNAVAILABLE('Redis does not answer')) }, timeoutMs)
    })
    try {
      await Promise.race([this.#publish({ id: '', from: this.#node, question }), late])
      return []
    } finally {
      clearTimeout(timer)
    }
  }

  #publish (asked: Asked): Promise<number> {
    const message = JSON.stringify(asked)
    return this.#client.command((client) => client.publish(this.#keys.control, message))
  }

  close (): void {
    for (const { heard } of [...this.#open.values()]) heard({ id: '', node: '' })
  }

  #asked (message: string): void {
    const { id, from, question } = JSON.parse(message) as Asked
    if (from === this.#node || this.#answering >= MAX_OPEN) return
    this.#answering++
    const say = (answer: unknown): void => {
      this.#answering--
      if (id === '') return
      const reply = JSON.stringify({ id, node: this.#node, answer } satisfies Answer)
      this.#client.command((client) => client.publish(this.#keys.answers(from), reply)).catch(() => {})
    }
    this.handler(question).then(say, () => { say(undefined) })
  }

  #answered (message: string): void {
    const answer = JSON.parse(message) as Answer
    this.#open.get(answer.id)?.heard(answer)
  }
}
