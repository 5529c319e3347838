/* What every server of the bench is made to send, and how it is told to. */

export interface Job {
  /** stream: 200 threads with one watcher each; fan-out: one thread with 500; burst: one run of many deltas, 50 watchers. */
  readonly workload: 'stream' | 'fan-out' | 'burst'
  /** Events that a thread gets in one turn of the event loop. */
  readonly perTurn: number
  readonly events: number
}

/** What a server of the bench can do; each runs in a process of its own. */
export interface BenchServer {
  listen (): Promise<{ port: number, path: string }>
  /** Before the watchers come. */
  prepare (threads: number): Promise<void>
  /** Says one thing in a thread; what it says is about as large as the text. */
  emit (thread: number, text: string): void
  /** Resolves when everything emitted has left for the sockets. */
  settled (): Promise<void>
}

/** 300 B and 1.2 kB events, mixed 4:1; the envelope takes about 250 bytes of it. */
export const TEXTS = ['x'.repeat(60), 'x'.repeat(60), 'x'.repeat(60), 'x'.repeat(60), 'x'.repeat(950)] as const

export const SHAPES = {
  stream: { threads: 200, watchers: 1 },
  'fan-out': { threads: 1, watchers: 500 },
  burst: { threads: 1, watchers: 50 }
} as const

/** Emits the job's events, some per turn, and answers with the CPU time it took in milliseconds. */
export async function run (server: BenchServer, { workload, perTurn, events }: Job): Promise<{ cpuMs: number, wallMs: number }> {
  const { threads } = SHAPES[workload]
  const before = process.cpuUsage()
  const startedAt = performance.now()
  for (let sent = 0, turn = 0; sent < events; turn++) {
    for (let i = 0; i < perTurn && sent < events; i++) server.emit(turn % threads, TEXTS[sent++ % TEXTS.length]!)
    await new Promise((resolve) => { setImmediate(resolve) })
  }
  await server.settled()
  const { user, system } = process.cpuUsage(before)
  return { cpuMs: (user + system) / 1_000, wallMs: performance.now() - startedAt }
}
