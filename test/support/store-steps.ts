import type { Entry, Page, RunInfo, RunStart, RunStep, Store, ThreadRecord, Watcher } from '../../plugins/store/index.js'

/** What the stores' own tests are written with. */

export function thread (threadId: string, userId = 'u1', more: Partial<ThreadRecord> = {}): ThreadRecord {
  return { threadId, userId, createdAt: '2026-01-01T12:00:00.000Z', ...more }
}

export function body (value: unknown = 'x'): string {
  return JSON.stringify({ v: 1, type: 'custom', timestamp: '2026-01-01T12:00:00.000Z', data: { name: 'x', value } })
}

export function valueOf ({ json }: Entry): unknown {
  return (JSON.parse(json) as { data: { value: unknown } }).data.value
}

export function start (runId: string, { info, ...more }: Partial<Omit<RunStart, 'info'>> & { info?: Partial<RunInfo> } = {}): RunStart {
  return {
    runId,
    started: true,
    mode: 'now',
    maxRuns: 1_000,
    ...more,
    info: { userId: 'u1', agent: 'triage', agentId: 'u1:triage:x', messageId: `m of ${runId}`, trigger: 'api', startedAt: 0, ...info }
  }
}

export function step (runId: string, n: number, more: Partial<RunStep> = {}): RunStep {
  return { runId, n, fence: 1, ...more }
}

export async function until (what: string, holds: () => boolean | Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!await holds()) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`)
    await new Promise((resolve) => { setTimeout(resolve, 10) })
  }
}

/** Calls again while the store is away, as a lane does. */
export async function persist<T> (call: () => Promise<T>, timeoutMs = 20_000): Promise<T> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    try {
      return await call()
    } catch (error) {
      if ((error as { code?: string }).code !== 'FAE_ERR_STORE_UNAVAILABLE' || Date.now() > deadline) throw error
      await new Promise((resolve) => { setTimeout(resolve, 20) })
    }
  }
}

export async function readAll (store: Store, threadId: string): Promise<Entry[]> {
  const all: Entry[] = []
  for (;;) {
    const page = await store.read(threadId, all.at(-1)?.seq ?? 0)
    if (page.entries.length === 0) return all
    all.push(...page.entries)
  }
}

/** Keeps what it hears and, told of a gap, reads on from where it is: a subscriber without a socket. */
export class Reader implements Watcher {
  readonly entries: Entry[] = []
  /** How often the log went on in a history in which its place is unknown. */
  resets = 0
  gaps = 0
  deletions = 0
  problem: string | undefined
  readonly #store: Store
  readonly #threadId: string
  #epoch = ''
  #isReading = false
  #isDirty = false

  constructor (store: Store, threadId: string) {
    this.#store = store
    this.#threadId = threadId
  }

  static async on (store: Store, threadId: string): Promise<Reader> {
    const reader = new Reader(store, threadId)
    await store.watch(threadId, reader)
    reader.gap()
    reader.gaps = 0
    return reader
  }

  get seq (): number { return this.entries.at(-1)?.seq ?? 0 }

  events (entries: readonly Entry[]): void {
    if (this.#isReading) {
      this.#isDirty = true
      return
    }
    // What was read may be heard again.
    const fresh = entries.filter(({ seq }) => seq > this.seq)
    if (fresh.length > 0 && fresh[0]!.seq !== this.seq + 1) this.problem ??= `heard ${fresh[0]!.seq} after ${this.seq}`
    this.#take(fresh)
  }

  gap (): void {
    this.gaps++
    this.#isDirty = true
    if (this.#isReading) return
    this.#isReading = true
    this.#read().catch((error: Error) => { this.problem ??= error.message }).finally(() => { this.#isReading = false })
  }

  deleted (): void { this.deletions++ }

  async #read (): Promise<void> {
    while (this.#isDirty) {
      this.#isDirty = false
      for (let page: Page | undefined; page === undefined || page.entries.length > 0;) {
        page = await persist(() => this.#store.read(this.#threadId, this.seq))
        if (!this.#isInPlace(page)) {
          this.resets++
          this.entries.length = 0
          this.#epoch = page.epochs.at(-1)!.epoch
          page = await persist(() => this.#store.read(this.#threadId, 0))
        }
        this.#take(page.entries)
      }
    }
  }

  #isInPlace ({ epochs, head, first }: Page): boolean {
    if (this.#epoch === '') {
      this.#epoch = epochs[0]!.epoch
      return true
    }
    const index = epochs.findIndex(({ epoch }) => epoch === this.#epoch)
    const next = epochs[index + 1]
    return index >= 0 && this.seq >= first - 1 && (next === undefined ? this.seq <= head : this.seq < next.from)
  }

  #take (entries: readonly Entry[]): void {
    this.entries.push(...entries)
    const last = entries.at(-1)
    if (last !== undefined) this.#epoch = (JSON.parse(last.json) as { id: string }).id.slice(0, 12)
  }
}
