import t from 'tap'
import { FAE_ERR_RUN_STALE, FAE_ERR_STORE_CLOSED } from '../../../errors.js'
import { storeConformance, type ConformanceSetup } from '../../../plugins/store/conformance.js'
import { MemoryStore } from '../../../plugins/store/memory-store.js'
import type { Appended, AppendOptions, Presence, Question, Retention, RunRecord, Store, Watcher } from '../../../plugins/store/store.js'

type Case = { name: string, fn: () => Promise<void> }

/** The cases of the suite for one kind of store, not yet run. */
function casesFor (create: (retention: Partial<Retention>) => Promise<ConformanceSetup>): Case[] {
  const cases: Case[] = []
  storeConformance((name, fn) => cases.push({ name, fn }), async ({ retention = {} } = {}) => create(retention))
  return cases
}

/** What several processes share: one memory, and who owns which run. */
class Room {
  readonly memory: MemoryStore
  readonly nodes = new Set<RoomNode>()
  readonly owners = new Map<string, string>()

  constructor (retention: Partial<Retention>) {
    this.memory = new MemoryStore(retention)
  }

  open (): RoomNode {
    const node = new RoomNode(this, `node ${this.nodes.size}`)
    this.nodes.add(node)
    return node
  }
}

/** One process's store over a shared memory: what redis and lmdb are to several, without either. */
class RoomNode implements Store {
  readonly name = 'room'
  readonly node: string
  readonly availability = { available: true, reason: '' }
  isClosed = false
  /** Every second event of a watcher is only announced as a gap. */
  isGappy = false
  readonly #room: Room
  #answer: ((question: Question) => Promise<unknown>) | undefined

  constructor (room: Room, node: string) {
    this.#room = room
    this.node = node
  }

  onAvailability (): void {}
  async open (): Promise<void> {}
  async close (): Promise<void> { this.isClosed = true }

  async ask (question: Question): Promise<readonly unknown[]> {
    const others = [...this.#room.nodes].filter((node) => node !== this)
    return (await Promise.all(others.map((node) => node.#answer?.(question)))).filter((answer) => answer !== undefined)
  }

  async nodes (): Promise<readonly Presence[]> {
    return [...this.#room.nodes].filter(({ isClosed }) => !isClosed).map(({ node }) => ({ node, seenMs: 0 }))
  }

  onQuestion (handler: (question: Question) => Promise<unknown>): void { this.#answer = handler }

  async putThread (...args: Parameters<Store['putThread']>): ReturnType<Store['putThread']> { return this.#memory.putThread(...args) }
  async getThread (...args: Parameters<Store['getThread']>): ReturnType<Store['getThread']> { return this.#memory.getThread(...args) }
  async inbox (...args: Parameters<Store['inbox']>): ReturnType<Store['inbox']> { return this.#memory.inbox(...args) }
  async listThreads (...args: Parameters<Store['listThreads']>): ReturnType<Store['listThreads']> { return this.#memory.listThreads(...args) }
  async deleteThread (...args: Parameters<Store['deleteThread']>): ReturnType<Store['deleteThread']> { return this.#memory.deleteThread(...args) }
  async read (...args: Parameters<Store['read']>): ReturnType<Store['read']> { return this.#memory.read(...args) }
  async getRun (...args: Parameters<Store['getRun']>): ReturnType<Store['getRun']> { return this.#memory.getRun(...args) }

  async append (threadId: string, bodies: readonly string[], options: AppendOptions = {}): Promise<Appended> {
    const { run: step, start } = options
    const { owners } = this.#room
    const appended = await this.#memory.append(threadId, bodies, options)
    if (step?.takesOver === true && appended.repeated === true && owners.get(step.runId) !== this.node) throw new FAE_ERR_RUN_STALE(step.runId)
    if (start !== undefined && appended.repeated !== true && appended.run!.state === 'running') owners.set(start.runId, this.node)
    if (step?.takesOver === true) owners.set(step.runId, this.node)
    if (appended.next !== undefined) owners.set(appended.next.runId, this.node)
    return appended
  }

  async putTicket (...args: Parameters<Store['putTicket']>): Promise<void> { await this.#memory.putTicket(...args) }
  async takeTicket (ticket: string): Promise<string | undefined> { return this.#memory.takeTicket(ticket) }

  async claimNext (threadId: string): Promise<RunRecord | undefined> {
    const run = await this.#memory.claimNext(threadId)
    if (run !== undefined) this.#room.owners.set(run.runId, this.node)
    return run
  }

  async watch (threadId: string, watcher: Watcher): Promise<() => void> {
    let count = 0
    return this.#memory.watch(threadId, {
      events: (entries) => {
        if (this.isGappy && count++ % 2 === 0) watcher.gap()
        else watcher.events(entries)
      },
      gap: () => { watcher.gap() },
      deleted: () => { watcher.deleted() }
    })
  }

  onOrphan (listener: (run: RunRecord) => void): void {
    const gone = new Set([...this.#room.nodes].filter(({ isClosed }) => isClosed).map(({ node }) => node))
    for (const [runId, node] of this.#room.owners) {
      if (!gone.has(node)) continue
      this.getRun(runId).then((run) => { if (run?.state === 'running') listener(run) })
    }
  }

  get #memory (): MemoryStore {
    if (this.isClosed) throw new FAE_ERR_STORE_CLOSED()
    return this.#room.memory
  }
}

for (const isGappy of [false, true]) {
  t.test(`several processes over one memory keep the contract${isGappy ? ', also where watchers are told of gaps' : ''}`, async (t) => {
    const cases = casesFor(async (retention) => {
      const room = new Room(retention)
      const store = room.open()
      const open = (): RoomNode => Object.assign(room.open(), { isGappy })
      return {
        store: Object.assign(store, { isGappy }),
        end: () => room.memory.close(),
        second: async () => open(),
        reopen: async () => {
          await store.close()
          return open()
        }
      }
    })
    for (const { name, fn } of cases) await t.resolves(fn(), name)
  })
}

/** Stores that break one promise each, and a case that has to notice. */
const broken: ReadonlyArray<readonly [what: string, change: (store: MemoryStore) => Partial<Store>, noticedBy: string]> = [
  ['forgets keys', ({ append }) => ({
    async append (threadId, bodies, { key, ...options } = {}) { return append.call(this, threadId, bodies, options) }
  }), 'the same key twice is one event'],
  ['lets anybody write', ({ append, getRun }) => ({
    async append (threadId, bodies, options = {}) {
      const record = options.run === undefined ? undefined : await getRun.call(this, options.run.runId)
      return append.call(this, threadId, bodies, record === undefined || options.run!.takesOver === true ? options : { run: { ...options.run!, fence: record.fence } })
    }
  }), 'who takes a run over shuts its old owner out'],
  ['stores half of what it refuses', ({ append }) => ({
    async append (threadId, bodies, options) {
      return append.call(this, threadId, bodies, options).catch(async (error) => {
        if (bodies.length > 1) await append.call(this, threadId, bodies.slice(1))
        throw error
      })
    }
  }), 'a refused call leaves nothing behind'],
  ['forgets whose turn it is', ({ append }) => ({
    async append (...args) {
      const { next, ...appended } = await append.apply(this, args)
      return appended
    }
  }), 'a run in the queue waits for its turn, and is handed out once'],
  ['hands its turn to whoever asks', ({ claimNext, getRun }) => ({
    async claimNext (threadId) { return await claimNext.call(this, threadId) ?? getRun.call(this, 'r2') }
  }), 'a run in the queue waits for its turn, and is handed out once'],
  ['skips an event', ({ read }) => ({
    async read (...args) {
      const page = await read.apply(this, args)
      return { ...page, entries: page.entries.filter(({ seq }) => seq !== 3) }
    }
  }), 'events are numbered from 1 without gaps'],
  ['reads without bound', ({ read }) => ({
    async read (threadId, afterSeq, limit) {
      const page = await read.call(this, threadId, afterSeq, limit)
      const more = page.entries.length === 0 ? page : await read.call(this, threadId, page.entries.at(-1)!.seq)
      return { ...page, entries: limit === undefined ? [...new Set([...page.entries, ...more.entries])] : page.entries }
    }
  }), 'a page is bounded by bytes, and holds one event at least'],
  ['misses what is appended right after watch', ({ watch }) => ({
    async watch (threadId, watcher) {
      setTimeout(() => { watch.call(this, threadId, watcher) }, 20)
      return () => {}
    }
  }), 'nothing that is appended after watch resolved is missed'],
  ['tells watchers the newest first', ({ watch }) => ({
    async watch (threadId, watcher) {
      return watch.call(this, threadId, { gap () {}, deleted () {}, events (entries) { watcher.events([...entries].reverse()) } })
    }
  }), 'one call with more than may stay is trimmed too'],
  ['keeps telling who has left', ({ watch }) => ({
    async watch (threadId, watcher) {
      await watch.call(this, threadId, watcher)
      return () => {}
    }
  }), 'a watcher that left hears no more, the others go on'],
  ['tells everything twice', ({ watch }) => ({
    async watch (threadId, watcher) {
      await watch.call(this, threadId, watcher)
      return watch.call(this, threadId, watcher)
    }
  }), 'every watcher of a thread hears it, and only it'],
  ['tells nobody of a delete', ({ watch }) => ({
    async watch (threadId, watcher) { return watch.call(this, threadId, { gap () {}, deleted () {}, events (entries) { watcher.events(entries) } }) }
  }), 'a deleted thread tells its watchers, once'],
  ['announces a gap in a log that cannot be read', ({ watch }) => ({
    async watch (threadId, watcher) {
      return watch.call(this, threadId, { gap () {}, deleted () {}, events: (entries) => { if (entries.length === 100) this.deleteThread!(threadId).then(() => { watcher.gap() }) } })
    }
  }), 'one call with more than may stay is trimmed too'],
  ['goes on after deleted', ({ watch }) => ({
    async watch (threadId, watcher) {
      return watch.call(this, threadId, { gap () {}, deleted () {}, events (entries) { watcher.deleted(); watcher.events(entries) } })
    }
  }), 'every watcher of a thread hears it, and only it'],
  ['answers as if it were open', () => ({ async close () {} }), 'a closed store says so'],
  ['makes an inbox for every question', ({ putThread }) => ({
    async inbox (userId) { return putThread.call(this, { threadId: String(Math.random()), userId, createdAt: '', inbox: true }) }
  }), 'a user has one inbox, also when it is asked for by many at once'],
  ['lists in the order of registration', ({ listThreads }) => ({
    async listThreads (...args) { return [...await listThreads.apply(this, args)].reverse() }
  }), "a user's threads are listed in order and paged, without the inbox"],
  ['takes an id for another', ({ getThread, putThread }) => ({
    async putThread (record, maxThreads) { return putThread.call(this, { ...record, threadId: record.threadId.normalize() }, maxThreads) },
    async getThread (threadId) { return getThread.call(this, threadId.normalize()) }
  }), 'ids of any format name what they name and nothing else']
]

for (const [what, change, noticedBy] of broken) {
  t.test(`a store that ${what} is found out`, async (t) => {
    const found = casesFor(async (retention) => {
      const store = new MemoryStore(retention)
      return { store: Object.assign(store, change(store)), end: async () => {}, patienceMs: 200 }
    }).find(({ name }) => name === `store: ${noticedBy}`)!
    await t.rejects(found.fn(), { code: 'ERR_ASSERTION' })
  })
}

t.test('a store that trims little by little is given its time', async (t) => {
  const { fn } = casesFor(async (retention) => {
    const store = new MemoryStore(retention)
    const { read } = store
    let reads = 0
    const late: Partial<Store> = {
      async read (...args) {
        const page = await read.apply(store, args)
        return ++reads < 3 ? { ...page, first: page.first - 1 } : page
      }
    }
    return { store: Object.assign(store, late), end: async () => { t.ok(reads >= 3) } }
  }).find(({ name }) => name === 'store: one call with more than may stay is trimmed too')!
  await t.resolves(fn())
})
