import type { TextPhase } from '../../schemas/index.js'
import type { HeldText, RunWriter } from '../websocket-notifier/run-writer.js'

/** @returns undefined while there is room for more, else what to wait for: nobody needs to; throws what refuses it */
export type EmitText = (phase: TextPhase, text: string) => Promise<void> | undefined

/**
 * One block of text on its way into events: the first piece at once, later ones gathered for a short window. The text of
 * the block is what its start, deltas and end say together.
 */
export class TextStream implements HeldText {
  readonly #writer: RunWriter
  readonly #emit: EmitText
  readonly #windowMs: number
  readonly #maxChars: number
  #text = ''
  #held = ''
  #isStarted = false
  #timer: NodeJS.Timeout | undefined
  /** What to wait for before the next piece, if anything: the backpressure of the whole block. */
  #taken: Promise<void> | undefined
  /** Why a piece was not taken: what follows it is not said. */
  #refusal: unknown
  #isOpen = false

  /**
   * @param windowMs how long pieces are gathered; 0 makes every piece an event
   * @param maxChars the most that one event carries
   */
  constructor (writer: RunWriter, emit: EmitText, windowMs: number, maxChars: number) {
    this.#writer = writer
    this.#emit = emit
    this.#windowMs = windowMs
    this.#maxChars = maxChars
  }

  /** What its events say together, before anything is redacted. */
  get text (): string { return this.#text }

  /**
   * Also for a piece of any length: what is more than the lane has room for is held until there is room, or until
   * somebody else of the run speaks, so that order is what was said.
   * @returns undefined while the lane has room, else what to wait for
   */
  push (piece: string): Promise<void> | undefined {
    this.#assertTaken()
    this.#held += piece
    if (!this.#isStarted) {
      this.#isStarted = true
      return this.#drain('start')
    }
    if (this.#isDue) return this.#drain('delta')
    this.#gather()
    return this.#heard()
  }

  /** Ends the block, with what was taken of it. */
  async end (): Promise<void> {
    this.#stopHolding()
    if (!this.#isStarted) this.#say('start', '')
    while (this.#held.length > this.#maxChars) this.#keep(this.#say('delta', this.#next()))
    this.#keep(this.#say('end', this.#held))
    if (this.#refusal !== undefined && this.#isOpen) this.#keep(this.#emit('end', ''))
    await this.#taken
    this.#assertTaken()
  }

  /** All at once, whether the lane has room or not. */
  flush (): void {
    this.#stopHolding()
    while (this.#hasMore) this.#keep(this.#say('delta', this.#next()))
  }

  /** As fast as the lane takes it. */
  #drain (phase: 'start' | 'delta'): Promise<void> | undefined {
    this.#stopHolding()
    for (let isStart = phase === 'start'; isStart || this.#isDue; isStart = false) {
      const taken = this.#say(isStart ? 'start' : 'delta', this.#next())
      if (taken === undefined) continue
      if (!this.#isDue) {
        this.#keep(taken)
        break
      }
      this.#writer.hold(this)
      return taken.then(() => this.#drain('delta'))
    }
    this.#assertTaken()
    this.#gather()
    return this.#heard()
  }

  /** What is held goes out at the end of the window. */
  #gather (): void {
    if (this.#timer !== undefined || !this.#hasMore) return
    this.#writer.hold(this)
    this.#timer = setTimeout(() => { this.flush() }, this.#windowMs)
  }

  #say (phase: TextPhase, text: string): Promise<void> | undefined {
    if (this.#refusal !== undefined) return undefined
    try {
      const taken = this.#emit(phase, text)
      // Of events, and not of pieces: there are far fewer.
      this.#text += text
      this.#isOpen = phase !== 'end'
      return taken
    } catch (error) {
      this.#refusal = error
      this.#held = ''
      return undefined
    }
  }

  #assertTaken (): void {
    if (this.#refusal !== undefined) throw this.#refusal
  }

  /** Whether an event is to be made of what is held: of each piece, or of as much as one carries. */
  get #isDue (): boolean { return this.#windowMs === 0 ? this.#hasMore : this.#held.length >= this.#maxChars }

  /** Half a character waits for its other half, in whichever piece that comes. */
  get #hasMore (): boolean {
    return this.#held.length > 1 || (this.#held.length === 1 && !isHighSurrogate(this.#held.charCodeAt(0)))
  }

  /** As much of what is held as one event carries. */
  #next (): string {
    let end = Math.min(this.#held.length, this.#maxChars)
    if (isHighSurrogate(this.#held.charCodeAt(end - 1))) end--
    const text = this.#held.slice(0, end)
    this.#held = this.#held.slice(end)
    return text
  }

  #stopHolding (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writer.release(this)
  }

  #keep (taken: Promise<void> | undefined): void {
    if (taken !== undefined) this.#taken = this.#taken === undefined ? taken : both(this.#taken, taken)
  }

  #heard (): Promise<void> | undefined {
    const taken = this.#taken
    this.#taken = undefined
    return taken
  }
}

function both (first: Promise<void>, second: Promise<void>): Promise<void> {
  const promise = Promise.all([first, second]).then(() => {})
  promise.catch(() => {}) // whoever asks next hears of it
  return promise
}

/** Pieces of at most `size` units that never cut a character in two; one empty piece for an empty text. */
export function split (text: string, size: number): string[] {
  if (text.length <= size) return [text]
  const pieces: string[] = []
  for (let start = 0; start < text.length;) {
    let end = Math.min(start + size, text.length)
    if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end--
    pieces.push(text.slice(start, end))
    start = end
  }
  return pieces
}

function isHighSurrogate (unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff
}

/**
 * Takes piece after piece, and stops as soon as the run has ended: also when the source never gives another one. Either
 * way the source is told so, through its iterator's return().
 * @throws what the source or `take` throws, or why the run has ended
 */
export async function takePieces (source: AsyncIterable<string>, signal: AbortSignal, take: (piece: string) => Promise<void> | undefined): Promise<void> {
  const iterator = source[Symbol.asyncIterator]()
  async function takeAll (): Promise<void> {
    // The same iterator, so that the one that is told is the one that is asked.
    for await (const piece of { [Symbol.asyncIterator]: () => iterator }) {
      const taken = take(piece)
      if (taken !== undefined) await taken
    }
  }
  async function stop (): Promise<void> {
    await iterator.return?.()
  }
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      stop().catch(() => {})
      reject(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    takeAll().then(resolve, reject).finally(() => { signal.removeEventListener('abort', onAbort) })
  })
}
