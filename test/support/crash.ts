import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { LmdbStore } from '../../plugins/store/lmdb-store.js'
import type { RunRecord } from '../../plugins/store/store.js'
import type { Heard } from './crash-child.js'
import { childEnv } from './child-env.js'

const MAX_EVENTS = 2_000

export interface CrashReport { readonly kills: number, readonly confirmed: number, readonly delivered: number, readonly orphans: number, readonly readBack: number }

/** Pseudorandom numbers in [0, 1) that are the same for the same seed. */
export function random (seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * Kills a writing process with SIGKILL at random moments, and after each kill opens what it left and compares it with all
 * that it ever told. Rejects with node's AssertionError when something of that is missing or different.
 */
export async function crash ({ folder, kills, seed, onRound }: { folder: string, kills: number, seed: number, onRound?: (line: string) => void }): Promise<CrashReport> {
  const next = random(seed)
  const known = new Known()
  for (let round = 0; round < kills; round++) {
    // Now and then before it is ready: while it opens what the one before it left.
    const isEarly = round % 5 === 4
    const delayMs = isEarly ? next() * 600 : next() * 400
    const heard = await runAndKill(folder, round, isEarly, delayMs)
    known.hear(heard)
    const { orphans, readBack } = await known.compare(folder, round)
    onRound?.(`round ${round}: killed ${isEarly ? 'after' : 'when ready, after'} ${delayMs.toFixed(0)} ms; ${heard.length} lines, ${orphans} runs lost, ${readBack} events read back`)
  }
  return { kills, ...known.report }
}

function runAndKill (folder: string, round: number, isEarly: boolean, delayMs: number): Promise<Heard[]> {
  return new Promise((resolve, reject) => {
    const script = fileURLToPath(new URL('crash-child.ts', import.meta.url))
    const child = spawn(process.execPath, ['--import', 'tsx', script, folder, String(round), String(MAX_EVENTS)], { stdio: ['ignore', 'pipe', 'pipe'], env: childEnv })
    let output = ''
    let errors = ''
    let isArmed = false
    const arm = (): void => {
      isArmed = true
      setTimeout(() => { child.kill('SIGKILL') }, delayMs)
    }
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk
      if (!isArmed && output.includes('"ready"')) arm()
    })
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => { errors += chunk })
    if (isEarly) arm()
    child.on('error', reject)
    // 'close' comes after the pipe has given all that was written to it.
    child.on('close', (code, signal) => {
      if (signal !== 'SIGKILL') reject(new Error(`the writer ended by itself (${code}): ${errors}`))
      // The last line may be cut in two: nobody was told of that.
      else resolve(output.split('\n').slice(0, -1).map((line) => JSON.parse(line) as Heard))
    })
  })
}

interface KnownThread { readonly events: Map<number, string>, readonly keys: Map<string, { first: number, last: number }>, head: number, epoch: string | undefined }

/** Everything that was ever told, by any of the processes. */
class Known {
  readonly report = { confirmed: 0, delivered: 0, orphans: 0, readBack: 0 }
  readonly #threads = new Map<string, KnownThread>()
  /** Runs that somebody saw begin and nobody saw end. */
  readonly #started = new Set<string>()
  readonly #ended = new Set<string>()

  hear (heard: readonly Heard[]): void {
    for (const told of heard) {
      if (told.type === 'ready') continue
      const thread = this.#thread(told.threadId)
      if (told.type === 'delivered') {
        this.report.delivered++
        this.#event(thread, told.seq, (JSON.parse(told.json) as { data: { value: string } }).data.value)
      } else if (told.type === 'confirmed') {
        this.report.confirmed++
        for (let seq = told.first; seq <= told.last; seq++) this.#event(thread, seq, `${told.tag} ${seq - told.first}`)
        if (told.key !== undefined) thread.keys.set(told.key, { first: told.first, last: told.last })
      } else if (told.type === 'started') {
        this.#started.add(told.runId)
      } else {
        this.#started.delete(told.runId)
        this.#ended.add(told.runId)
      }
    }
  }

  async compare (folder: string, round: number): Promise<{ orphans: number, readBack: number }> {
    const store = new LmdbStore({ folder, retention: { maxEvents: MAX_EVENTS } })
    await store.open()
    try {
      let readBack = 0
      for (const [threadId, thread] of this.#threads) readBack += await this.#compareThread(store, threadId, thread, round)
      const orphans = await this.#endOrphans(store)
      this.report.orphans += orphans
      this.report.readBack += readBack
      return { orphans, readBack }
    } finally {
      await store.close()
    }
  }

  async #compareThread (store: LmdbStore, threadId: string, thread: KnownThread, round: number): Promise<number> {
    let page = await store.read(threadId, 0)
    const { first, head, epochs } = page
    assert.ok(head >= thread.head, `${threadId} was told of ${thread.head} and has ${head} events`)
    assert.equal(epochs.length, 1, 'a killed process lost nothing, so nothing begins anew')
    thread.epoch ??= epochs[0]!.epoch
    assert.equal(epochs[0]!.epoch, thread.epoch)
    let seq = first - 1
    while (seq < head) {
      assert.ok(page.entries.length > 0, `${threadId} has events up to ${head} and reads up to ${seq}`)
      for (const { seq: found, json } of page.entries) {
        assert.equal(found, ++seq, `${threadId} has no gaps`)
        const event = JSON.parse(json) as { id: string, seq: number, data: { value: string } }
        assert.equal(event.seq, seq)
        assert.ok(event.id.startsWith(thread.epoch))
        // What nobody was told of is history from now on, too.
        this.#event(thread, seq, event.data.value)
      }
      page = await store.read(threadId, seq)
    }
    for (const known of thread.events.keys()) if (known < first) thread.events.delete(known)
    for (const [key, { first: at, last }] of thread.keys) {
      if (last < first) {
        thread.keys.delete(key)
      } else if (last > head - 20) {
        const again = await store.append(threadId, ['{"v":1}'], { key })
        assert.deepEqual([again.repeated, again.first.seq, again.last.seq], [true, at, last], `${key} in round ${round}`)
      }
    }
    return head - first + 1
  }

  /** Ends what the killed process had under way, as a registry does. */
  async #endOrphans (store: LmdbStore): Promise<number> {
    const orphans: RunRecord[] = []
    store.onOrphan((run) => { orphans.push(run) })
    await new Promise((resolve) => { setTimeout(resolve, 10) })
    for (const { threadId, runId, fence, n, state } of orphans) {
      assert.equal(state, 'running')
      assert.equal(this.#ended.has(runId), false, `${runId} was told to have ended`)
      const tag = `lost ${runId}`
      const { last } = await store.append(threadId, [JSON.stringify({ v: 1, data: { value: `${tag} 0` } })], { run: { runId, fence: fence + 1, n: n + 1, takesOver: true, ends: 'lost' } })
      this.#event(this.#thread(threadId), last.seq, `${tag} 0`)
      assert.equal((await store.getRun(runId))?.state, 'lost')
    }
    for (const runId of this.#started) {
      const state = (await store.getRun(runId))?.state
      assert.ok(state === 'lost' || state === 'success', `${runId} has its end, not ${state}`)
    }
    this.#started.clear()
    assert.equal(new Set(orphans.map(({ runId }) => runId)).size, orphans.length, 'each is told of once')
    return orphans.length
  }

  #event (thread: KnownThread, seq: number, value: string): void {
    const known = thread.events.get(seq)
    assert.ok(known === undefined || known === value, `seq ${seq} was '${known}' and is '${value}'`)
    thread.events.set(seq, value)
    thread.head = Math.max(thread.head, seq)
  }

  #thread (threadId: string): KnownThread {
    let thread = this.#threads.get(threadId)
    if (thread === undefined) this.#threads.set(threadId, thread = { events: new Map(), keys: new Map(), head: 0, epoch: undefined })
    return thread
  }
}
