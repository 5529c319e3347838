import { AgentEventsError, type Client } from '../../client/index.js'
import { ConnectionPanel } from './connection-panel.js'
import { Conversation } from './conversation.js'
import { alertPerson, announce, byId, clearAlert, element, setText } from './dom.js'
import { Line } from './line.js'
import { LogPanel } from './log-panel.js'
import { Refusal, type AgentInfo, type Server, type ThreadInfo } from './server.js'
import { Session } from './session.js'
import { ThreadList, titleOf } from './thread-list.js'

/** How often the list of threads is asked for again, for what others do. */
const REFRESH_MS = 10_000
/** How often time goes on in a drawing of a run; less often for people who ask for less motion. */
const TICK_MS = 100
const CALM_TICK_MS = 1_000

/** One person's threads: say something, watch the run, disturb the connection. */
export class UserView {
  readonly #list = new ThreadList()
  readonly #conversation: Conversation
  readonly #log = new LogPanel()
  readonly #panel: ConnectionPanel
  readonly #message = byId<HTMLTextAreaElement>('message')
  readonly #agents = byId<HTMLSelectElement>('agent')
  #server: Server | undefined
  #line: Line | undefined
  #client: Client | undefined
  #session: Session | undefined
  #title = ''
  #frame = 0
  #said = { status: '', runs: '', caughtUp: 0, resets: 0 }

  constructor (suggestions: readonly string[]) {
    this.#conversation = new Conversation((runId) => { this.#cancel(runId) })
    this.#panel = new ConnectionPanel(() => this.#line)
    this.#prepareComposer()
    byId('suggestions').replaceChildren(...suggestions.map((text) => {
      const button = element('button', { type: 'button', class: 'suggestion' }, text)
      button.addEventListener('click', () => { this.#send(text) })
      return element('li', {}, button)
    }))
    this.#tick()
    setInterval(() => { if (!document.hidden) this.#refresh() }, REFRESH_MS)
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.#refresh() })
  }

  /** Becomes another person's, with a connection of its own. */
  async use (server: Server): Promise<void> {
    const threadId = this.#session?.threadId
    clearAlert()
    this.#session?.close()
    this.#session = undefined
    this.#client?.close()
    this.#server = server
    this.#list.clear()
    const line = this.#line = new Line(server.addressOf, () => { this.#changed() })
    line.setSpeed(this.#panel.speed)
    const client = this.#client = server.client(line)
    client.onStatus(() => { this.#changed() })
    client.onError((error) => { this.#fail(error) })
    this.show(threadId)
    // before there is a thread to read, so that the first one does not wait for it
    client.connect().catch(() => {})
    await this.#refresh()
    await this.#listAgents()
  }

  /** @param threadId undefined: one that begins with the next message */
  show (threadId: string | undefined): void {
    if (this.#session?.threadId !== threadId || threadId === undefined) {
      this.#session?.close()
      this.#session = threadId === undefined || this.#client === undefined
        ? undefined
        : new Session(threadId, this.#client, () => { this.#changed() }, (error) => { this.#fail(error) })
      this.#said = { status: '', runs: '', caughtUp: 0, resets: 0 }
      this.#conversation.show(this.#session)
      this.#log.show(this.#session)
    }
    this.#changed()
  }

  /** The newest thread's id. */
  get newest (): string | undefined { return this.#list.threads[0]?.threadId }
  get title (): string { return this.#title }

  // ---------- saying something ----------

  #prepareComposer (): void {
    const form = byId<HTMLFormElement>('composer')
    this.#message.addEventListener('keydown', (event) => {
      // not while an input method puts a word together
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
      event.preventDefault()
      form.requestSubmit()
    })
    form.addEventListener('submit', (event) => {
      event.preventDefault()
      const text = this.#message.value.trim()
      if (text === '') return
      this.#message.value = ''
      this.#send(text).then((isSent) => { if (!isSent && this.#message.value === '') this.#message.value = text })
    })
  }

  async #send (text: string): Promise<boolean> {
    clearAlert()
    this.#conversation.follow()
    try {
      if (this.#session === undefined) await this.#begin(text)
      await this.#session!.send(text, this.#agents.value || undefined)
      return true
    } catch (error) {
      this.#fail(error as Error)
      return false
    }
  }

  /** A thread is made when something is said in it: nobody has a list of empty ones. */
  async #begin (text: string): Promise<void> {
    const title = text.length > 60 ? `${text.slice(0, 59)}…` : text
    const thread = await this.#server!.post<ThreadInfo>('/threads', { metadata: { title } })
    this.show(thread.threadId)
    location.hash = `#/thread/${encodeURIComponent(thread.threadId)}`
    this.#refresh()
  }

  async #cancel (runId: string): Promise<void> {
    try {
      await this.#session?.cancel(runId)
    } catch (error) {
      this.#fail(error as Error)
    }
  }

  // ---------- what is asked over HTTP ----------

  async #refresh (): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    try {
      await this.#list.refresh(server)
      if (server === this.#server) this.#changed()
    } catch (error) {
      // the connection says by itself when there is no server; a refusal has to be said
      if (server === this.#server && error instanceof Refusal) this.#fail(error)
    }
  }

  async #listAgents (): Promise<void> {
    const server = this.#server!
    try {
      const { agents } = await server.get<{ agents: AgentInfo[] }>('/agents')
      if (server !== this.#server) return
      const chosen = this.#agents.value
      this.#agents.replaceChildren(...agents.map(({ name, description, default: isDefault }) => element('option', { value: name, title: description, selected: chosen === '' ? isDefault : name === chosen }, name)))
    } catch (error) {
      if (server === this.#server && error instanceof Refusal) this.#fail(error)
    }
  }

  #fail (error: Error): void {
    const isUnknown = error instanceof AgentEventsError || error instanceof Refusal
    if (isUnknown && error.code === 'FAE_ERR_UNAUTHENTICATED') {
      const { identify } = this.#server!.settings
      alertPerson(identify === 'session' ? 'The server does not know you. Sign in to it, then reload this page.' : identify === 'bearer' ? 'The server asks for a token: paste yours above.' : 'The server does not know this user.')
    } else {
      alertPerson(isUnknown && error.code !== '' ? `${error.message} (${error.code})` : error.message)
    }
  }

  // ---------- drawing ----------

  #changed (): void {
    // all that happens before the next frame is drawn once
    if (this.#frame !== 0) return
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0
      this.#draw()
    })
  }

  #tick (): void {
    const isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches
    setTimeout(() => {
      if (this.#conversation.isRunning) this.#changed()
      this.#tick()
    }, isCalm ? CALM_TICK_MS : TICK_MS)
  }

  #draw (): void {
    const session = this.#session
    const thread = this.#list.threads.find(({ threadId }) => threadId === session?.threadId)
    const title = session === undefined ? 'New thread' : titleOf(thread ?? { threadId: session.threadId })
    if (title !== this.#title) {
      this.#title = title
      setText(byId('thread-title'), title)
      document.dispatchEvent(new Event('inspector-title'))
    }
    setText(byId('thread-id'), session?.threadId ?? '')
    this.#list.show(session?.threadId, session?.log.at(-1)?.event.seq ?? 0, this.#conversation.isRunning)
    this.#conversation.update()
    this.#log.update()
    this.#panel.update(this.#client, session)
    this.#sayWhatChanged(session)
  }

  /** For people who do not see the page: what matters, not every event. */
  #sayWhatChanged (session: Session | undefined): void {
    const status = session?.state.status ?? 'idle'
    const last = session?.state.runs.at(-1)
    const runs = last === undefined ? '' : `${last.runId} ${last.status}`
    const { caughtUp = 0, resets = 0 } = session ?? {}
    const said = this.#said
    const isFirst = said.status === ''
    const isSettled = status === 'live' || status === 'degraded' || status === 'offline' || status === 'closed'
    this.#said = { status: isSettled || isFirst ? status : said.status, runs: isSettled ? runs : said.runs, caughtUp: isSettled ? caughtUp : said.caughtUp, resets: isSettled ? resets : said.resets }
    if (isFirst) return
    if (status === 'offline' && said.status !== status) announce('Connection lost. The run goes on without you.')
    else if (isSettled && resets > said.resets) announce('The place in the log was lost. What the server still has was read anew.')
    else if (status === 'live' && said.status === 'offline') announce(`Connected again. ${caughtUp - said.caughtUp} events caught up, ${session!.missing} missing.`)
    else if (runs !== said.runs && last !== undefined && isSettled) announce(last.status === 'running' ? `${last.agent} is at work.` : `${last.agent}: ${last.status}.`)
  }
}
