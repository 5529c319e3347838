import { deferred, type Deferred } from './deferred.js'

/**
 * Events one by one, with backpressure: an event counts as processed when the next one is asked for, and until then no
 * further one is handed out.
 */
export class EventIterator<Event> implements AsyncIterableIterator<Event> {
  readonly #start: (iterator: EventIterator<Event>) => () => void
  readonly #waiting: Deferred<IteratorResult<Event>>[] = []
  #stop: (() => void) | undefined
  #release: (() => void) | undefined
  #ended = false
  #error: Error | undefined

  /** @param start called when the first event is asked for; returns how to stop */
  constructor (start: (iterator: EventIterator<Event>) => () => void) {
    this.#start = start
  }

  [Symbol.asyncIterator] (): this { return this }

  next (): Promise<IteratorResult<Event>> {
    this.#release?.()
    const waiting = deferred<IteratorResult<Event>>()
    this.#waiting.push(waiting)
    if (this.#ended) this.end()
    else this.#stop ??= this.#start(this)
    return waiting.promise
  }

  return (): Promise<IteratorResult<Event>> {
    this.end()
    return Promise.resolve({ done: true, value: undefined })
  }

  /** Hands an event to whoever asked; resolves when it counts as processed. */
  hand (event: Event): Promise<void> | undefined {
    this.#waiting.shift()?.resolve({ done: false, value: event })
    return this.#waiting.length > 0 ? undefined : new Promise((resolve) => { this.#release = resolve })
  }

  /** Nothing follows. The error, if there is one, is thrown to whoever asks. */
  end (error?: Error): void {
    this.#ended = true
    this.#error ??= error
    this.#stop?.()
    this.#release?.()
    for (const waiting of this.#waiting.splice(0)) {
      if (this.#error) waiting.reject(this.#error)
      else waiting.resolve({ done: true, value: undefined })
    }
  }
}
