/** What a server of the bench can do; each runs in a process of its own and is driven over IPC by bench/server-process.ts. */
export interface BenchServer {
  /** Where its watchers connect. */
  readonly url: string
  /** Makes threads t0, t1, …, each of a user of its own, before their watchers come. */
  addThreads (count: number): Promise<void>
  /** What it takes to say something in each of them. */
  addSpeakers? (count: number): Promise<void>
  /** Says one thing in a thread. */
  think (thread: number, text: string): void
  /** Streams an answer in pieces into thread t0. */
  say (pieces: AsyncIterable<string>): Promise<void>
  /** Makes threads that have one event each and that nobody watches. */
  addIdleThreads? (count: number): Promise<void>
}
