import { randomUUID } from 'node:crypto'
import { FAE_ERR_RUN_STALE, FAE_ERR_STORE_UNAVAILABLE } from '../../errors.js'
import {
  MemoryStore,
  type Appended, type AppendOptions, type Availability, type Page, type Presence, type Question, type Retention, type RunRecord, type Store, type ThreadRecord, type ThreadState, type Watcher
} from '../../plugins/store/index.js'

/** One memory that several apps of this process share, each through a view of its own: nodes without a network between them. */
export class SharedStore {
  readonly memory: MemoryStore
  readonly views: StoreView[] = []
  /** Which node raised a run's fence, by run and fence. */
  readonly takers = new Map<string, StoreView>()

  constructor (retention: Partial<Retention> = {}) {
    this.memory = new MemoryStore(retention)
  }

  view (): StoreView {
    const view = new StoreView(this)
    this.views.push(view)
    return view
  }

  /** Tells these nodes, in this order, that the owner of a run is gone. */
  async orphan (runId: string, views: readonly StoreView[] = this.views): Promise<void> {
    const record = await this.memory.getRun(runId)
    if (record === undefined) throw new Error(`no run ${runId}`)
    for (const view of views) view.onOrphanListener?.(record)
  }
}

/** What one node sees of the shared memory. */
export class StoreView implements Store {
  readonly name = 'shared'
  readonly node = randomUUID()
  readonly availability = { available: true, reason: 'in this process' }
  onOrphanListener: ((run: RunRecord) => void) | undefined
  handler: ((question: Question) => Promise<unknown>) | undefined
  /** The node cannot reach the store: its appends are refused as unavailable and change nothing. */
  isCut = false
  /** Called before an append is handed on. */
  beforeAppend: ((options: AppendOptions) => Promise<void> | undefined) | undefined
  /** Called between what an append did and its reply. */
  beforeReply: ((options: AppendOptions) => Promise<void> | undefined) | undefined
  /** Every append that was handed on. */
  readonly appends: Array<{ threadId: string, bodies: readonly string[], options: AppendOptions }> = []
  /** What was asked of the other nodes. */
  readonly asked: Question[] = []
  readonly #shared: SharedStore

  constructor (shared: SharedStore) {
    this.#shared = shared
  }

  get #memory (): MemoryStore { return this.#shared.memory }

  async open (): Promise<void> {}
  async close (): Promise<void> {}

  onAvailability (_listener: (availability: Availability) => void): void {}

  async nodes (): Promise<readonly Presence[]> {
    return this.#shared.views.map(({ node }) => ({ node, seenMs: 0 }))
  }

  onQuestion (handler: (question: Question) => Promise<unknown>): void {
    this.handler = handler
  }

  onOrphan (listener: (run: RunRecord) => void): void {
    this.onOrphanListener = listener
  }

  async ask (question: Question): Promise<readonly unknown[]> {
    this.asked.push(question)
    if (this.isCut) return []
    const others = this.#shared.views.filter((view) => view !== this && !view.isCut && view.handler !== undefined)
    const answers = await Promise.all(others.map((view) => view.handler!(question)))
    return answers.filter((answer) => answer !== undefined)
  }

  async append (threadId: string, bodies: readonly string[], options: AppendOptions = {}): Promise<Appended> {
    await this.beforeAppend?.(options)
    if (this.isCut) throw new FAE_ERR_STORE_UNAVAILABLE('cut off')
    this.appends.push({ threadId, bodies, options })
    const { run } = options
    if (run?.takesOver === true) {
      // The memory has one owner and would take the second of two racers for the first one's repeat.
      const taker = this.#shared.takers.get(`${run.runId}/${run.fence}`)
      if (taker !== undefined && taker !== this) throw new FAE_ERR_RUN_STALE(run.runId)
    }
    const appending = this.#memory.append(threadId, bodies, options)
    // In the same turn: the memory has decided already.
    appending.then(() => {}, () => { if (run?.takesOver === true && this.#shared.takers.get(`${run.runId}/${run.fence}`) === this) this.#shared.takers.delete(`${run.runId}/${run.fence}`) })
    if (run?.takesOver === true) this.#shared.takers.set(`${run.runId}/${run.fence}`, this)
    const appended = await appending
    await this.beforeReply?.(options)
    return appended
  }

  putThread (record: ThreadRecord, maxThreads?: number): Promise<ThreadState & { created: boolean }> { return this.#memory.putThread(record, maxThreads) }
  getThread (threadId: string): Promise<ThreadState | undefined> { return this.#memory.getThread(threadId) }
  inbox (userId: string): Promise<ThreadState> { return this.#memory.inbox(userId) }
  listThreads (userId: string, options: { after?: string, limit: number }): Promise<readonly ThreadState[]> { return this.#memory.listThreads(userId, options) }
  deleteThread (threadId: string): Promise<boolean> { return this.#memory.deleteThread(threadId) }
  read (threadId: string, afterSeq: number, limit?: number): Promise<Page> { return this.#memory.read(threadId, afterSeq, limit) }
  watch (threadId: string, watcher: Watcher): Promise<() => void> { return this.#memory.watch(threadId, watcher) }
  getRun (runId: string): Promise<RunRecord | undefined> { return this.#memory.getRun(runId) }
  claimNext (threadId: string): Promise<RunRecord | undefined> { return this.#memory.claimNext(threadId) }
  putTicket (ticket: string, value: string, ttlMs: number): Promise<void> { return this.#memory.putTicket(ticket, value, ttlMs) }
  takeTicket (ticket: string): Promise<string | undefined> { return this.#memory.takeTicket(ticket) }
}
