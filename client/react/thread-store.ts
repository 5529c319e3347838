import { initialState, reduce, reset, withStatus } from '../state/reduce.js'
import type { ThreadState } from '../state/types.js'
import type { Client, Thread } from '../types.js'

type Timer = ReturnType<typeof setTimeout>
interface Frames {
  requestAnimationFrame? (callback: () => void): number
  cancelAnimationFrame? (handle: number): void
}

const FRAME_MS = 16
/** A page that is not shown has no frames; what listens there, a title for instance, is told all the same. */
const HIDDEN_MS = 1_000

/** What is shown before anything is known, and by a server. */
const EMPTY = initialState<never>()

const stores = new WeakMap<Client<never>, Map<string, ThreadStore<never>>>()

/** One thread's state, for all components that show it: fed from when the first one asks until the last one is gone. */
class ThreadStore<T> {
  /** What components see: the state as of the last frame. */
  shown: ThreadState<T> = EMPTY
  readonly #thread: Thread<T>
  readonly #onFreed: () => void
  readonly #listeners = new Set<() => void>()
  #state = initialState<T>()
  #detach: (() => void) | undefined
  #frame: number | undefined
  #timer: Timer | undefined

  constructor (thread: Thread<T>, onFreed: () => void) {
    this.#thread = thread
    this.#onFreed = onFreed
  }

  add (listener: () => void): () => void {
    this.#listeners.add(listener)
    if (this.#detach === undefined) {
      this.#attach()
      this.#thread.replay()
    }
    return () => {
      this.#listeners.delete(listener)
      // later: a component that is mounted in place of this one, or again by StrictMode, goes on with the same state
      queueMicrotask(() => { this.#freeIfUnused() })
    }
  }

  #attach (): void {
    const thread = this.#thread
    const offs = [
      thread.onReset(() => { this.#become(reset(this.#state)) }),
      thread.onStatus((status) => {
        this.#become(withStatus(this.#state, status))
        // nothing more comes from a closed one; whoever is mounted next gets another
        if (status === 'closed') this.#freeIfUnused()
      }),
      thread.onAny((event) => { this.#become(reduce(this.#state, event)) })
    ]
    this.#detach = () => {
      for (const off of offs) off()
      this.#detach = undefined
    }
    this.#become(withStatus(this.#state, thread.status))
  }

  #freeIfUnused (): void {
    if (this.#listeners.size > 0 || this.#detach === undefined) return
    this.#detach()
    if (this.#thread.release() || this.#thread.status === 'closed') {
      this.#stopWaiting()
      this.#onFreed()
    } else {
      // somebody else uses the thread: what they were given would come again if this state had to be built anew
      this.#attach()
    }
  }

  #become (state: ThreadState<T>): void {
    if (state === this.#state) return
    this.#state = state
    if (this.#timer !== undefined) return
    const show = () => {
      this.#stopWaiting()
      this.shown = this.#state
      for (const listener of [...this.#listeners]) listener()
    }
    const { requestAnimationFrame } = globalThis as Frames
    this.#frame = requestAnimationFrame?.(show)
    this.#timer = setTimeout(show, requestAnimationFrame === undefined ? FRAME_MS : HIDDEN_MS)
  }

  #stopWaiting (): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#frame !== undefined) (globalThis as Frames).cancelAnimationFrame?.(this.#frame)
    this.#frame = undefined
  }
}

/** @returns stops listening; the last one to do so frees everything */
export function listen<T> (client: Client<T>, threadId: string, listener: () => void): () => void {
  const byId = storesOf(client)
  let store = byId.get(threadId)
  if (store === undefined) {
    const created: ThreadStore<T> = store = new ThreadStore(client.thread(threadId), () => {
      if (byId.get(threadId) === created) byId.delete(threadId)
    })
    byId.set(threadId, created)
  }
  return store.add(listener)
}

/** The state as of the last frame; the same object until the next one. */
export function shownState<T> (client: Client<T>, threadId: string): ThreadState<T> {
  return storesOf(client).get(threadId)?.shown ?? EMPTY
}

export function emptyState<T> (): ThreadState<T> { return EMPTY }

function storesOf<T> (client: Client<T>): Map<string, ThreadStore<T>> {
  // what is kept under a client is of its type
  const all = stores as unknown as WeakMap<Client<T>, Map<string, ThreadStore<T>>>
  let byId = all.get(client)
  if (byId === undefined) all.set(client, byId = new Map())
  return byId
}
