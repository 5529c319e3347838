import type { AgentEvent, AgentEventsError, Client, Thread, TransportName } from '../../client/index.js'
import { initialState, reduce, reset, withStatus, type ThreadState } from '../../client/state/index.js'
import { Timings, type Arrival } from './timings.js'

export interface Received { readonly event: AgentEvent, readonly arrival: Arrival, readonly connection: number, readonly transport: TransportName | undefined }

/** A message that the log does not have yet. */
export interface Pending { readonly clientMessageId: string, readonly text: string }

/** One thread as this page has read it: what the reducer makes of it, and how each event came here. */
export class Session {
  readonly threadId: string
  timings = new Timings()
  /** Everything received, in order. */
  log: Received[] = []
  state: ThreadState = initialState()
  /** What seq says, which no server can hide: holes, and events that came twice. */
  missing = 0
  doubled = 0
  /** The place in the log was lost, and everything retained read again. */
  resets = 0
  caughtUp = 0
  pending: Pending[] = []
  /** How many connections this thread has been read from so far. */
  connection = 0
  readonly #thread: Thread
  readonly #client: Client
  readonly #onChange: () => void
  readonly #stops: Array<() => void>
  #seq: number | undefined
  #connected: Client['connected']
  /** The connection on which what was there before came. */
  #firstConnection: number | undefined

  constructor (threadId: string, client: Client, onChange: () => void, onError: (error: AgentEventsError) => void) {
    this.threadId = threadId
    this.#client = client
    this.#onChange = onChange
    this.#thread = client.thread(threadId)
    this.#stops = [
      this.#thread.onStatus((status) => { this.#become(withStatus(this.state, status)) }),
      this.#thread.onReset(() => { this.#reset() }),
      this.#thread.onError(onError),
      this.#thread.onAny((event) => { this.#receive(event) })
    ]
    this.#become(withStatus(this.state, this.#thread.status))
  }

  async send (text: string, agent: string | undefined): Promise<void> {
    const clientMessageId = `inspector-${globalThis.crypto.getRandomValues(new Uint32Array(3)).join('-')}`
    this.pending = [...this.pending, { clientMessageId, text }]
    this.#onChange()
    try {
      const run = await this.#thread.send(text, { clientMessageId, agent })
      // how it ended is in the log
      run.completed.catch(() => {})
    } catch (error) {
      this.#settle(clientMessageId)
      throw error
    }
  }

  cancel (runId: string): Promise<void> {
    return this.#thread.cancel(runId)
  }

  close (): void {
    for (const stop of this.#stops) stop()
    this.#thread.close()
  }

  #receive (event: AgentEvent): void {
    const { seq } = event
    if (this.#seq !== undefined && seq <= this.#seq) this.doubled++
    else if (this.#seq !== undefined) this.missing += seq - this.#seq - 1
    this.#seq = Math.max(seq, this.#seq ?? 0)
    const { connected } = this.#client
    if (connected !== this.#connected) this.connection++
    this.#connected = connected
    const { connection } = this
    this.#firstConnection ??= connection
    // while an event is handed out, the thread is still before it
    const arrival = this.#thread.status !== 'replaying' ? 'live' : connection === this.#firstConnection ? 'history' : 'caught up'
    if (arrival === 'caught up') this.caughtUp++
    this.log.push({ event, arrival, connection, transport: this.#client.transport })
    this.timings.add(event, arrival)
    if (event.type === 'user_message' && event.data.clientMessageId !== undefined) this.#settle(event.data.clientMessageId)
    this.#become(reduce(this.state, event))
  }

  #reset (): void {
    this.log = []
    this.timings = new Timings()
    this.resets++
    this.#seq = undefined
    this.#firstConnection = undefined
    this.#become(reset(this.state))
  }

  #settle (clientMessageId: string): void {
    this.pending = this.pending.filter((pending) => pending.clientMessageId !== clientMessageId)
    this.#onChange()
  }

  #become (state: ThreadState): void {
    this.state = state
    this.#onChange()
  }
}
