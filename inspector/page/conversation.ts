import type { Message, Part, Run, TextPart } from '../../client/state/index.js'
import { KeyedList, byId, element, setAttributes, setText, type View } from './dom.js'
import { duration } from './format.js'
import { markdown } from './markdown.js'
import type { Session } from './session.js'
import { Timeline } from './timeline.js'

/** Something that is said, or is about to be. */
type Entry = { readonly key: string } & ({ readonly message: Message } | { readonly pending: string })

/** How near to its end a scrolled text counts as being read along. */
const NEAR_PX = 120
/** What is kept free for the field to write in, where the page itself scrolls: scroll-margin-bottom in the style. */
const COMPOSER_PX = 135
const RUN_STATES: Readonly<Record<string, string>> = { running: 'at work', success: 'done', error: 'failed', cancelled: 'cancelled', timeout: 'took too long', lost: 'lost with its process' }

/** What was said in a thread, with the timeline of each run in its place. */
export class Conversation {
  readonly #list = byId('messages')
  readonly #scroll = byId('scroll')
  readonly #empty = byId('empty')
  readonly #onCancel: (runId: string) => void
  #entries: KeyedList<Entry>
  #session: Session | undefined
  #isFollowing = true

  constructor (onCancel: (runId: string) => void) {
    this.#onCancel = onCancel
    this.#entries = this.#newList()
    // the page itself scrolls where it is narrow
    for (const target of [this.#scroll, document]) {
      target.addEventListener('scroll', () => { this.#isFollowing = this.#isAtEnd() }, { passive: true })
    }
  }

  show (session: Session | undefined): void {
    this.#session = session
    this.#list.replaceChildren()
    this.#entries = this.#newList()
    this.#isFollowing = true
    this.update()
  }

  update (): void {
    const session = this.#session
    const messages = session?.state.messages ?? []
    const entries: Entry[] = messages
      // the answer of an agent that another one called is in that one's timeline
      .filter(({ role, runId }) => role === 'user' || session?.state.runs.find((run) => run.runId === runId)?.parentRunId === undefined)
      .map((message) => ({ key: `${message.role} ${message.role === 'assistant' ? message.runId ?? message.id : message.id}`, message }))
    for (const { clientMessageId, text } of session?.pending ?? []) entries.push({ key: clientMessageId, pending: text })
    this.#empty.hidden = entries.length > 0
    this.#entries.update(entries)
    if (this.#isFollowing && entries.length > 0) this.#toEnd()
  }

  /** What runs is drawn again because time goes on, whether or not something has happened. */
  get isRunning (): boolean {
    return this.#session?.state.runs.some(({ status }) => status === 'running') ?? false
  }

  follow (): void {
    this.#isFollowing = true
  }

  #newList (): KeyedList<Entry> {
    return new KeyedList(this.#list, ({ key }) => key, (entry) => {
      if ('pending' in entry) return new PendingView(entry.pending)
      return entry.message.role === 'user' ? new UserView() : new AnswerView(() => this.#session, this.#onCancel)
    })
  }

  get #isScrolledHere (): boolean {
    return this.#scroll.scrollHeight > this.#scroll.clientHeight + 1
  }

  #scroller (): Element {
    return this.#isScrolledHere ? this.#scroll : document.scrollingElement ?? this.#scroll
  }

  #isAtEnd (): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller()
    if (this.#isScrolledHere) return scrollHeight - scrollTop - clientHeight < NEAR_PX
    // who has gone on to what is below it, the log say, is not brought back
    return Math.abs(this.#list.getBoundingClientRect().bottom + COMPOSER_PX - clientHeight) < NEAR_PX
  }

  #toEnd (): void {
    // where the page itself scrolls, more than the conversation is on it
    if (this.#isScrolledHere) this.#scroll.scrollTop = this.#scroll.scrollHeight
    else if (this.isRunning) this.#list.lastElementChild?.scrollIntoView({ block: 'end' })
  }
}

class PendingView implements View<Entry> {
  readonly element: HTMLElement

  constructor (text: string) {
    this.element = element('li', { class: 'said user pending' }, element('p', { class: 'who' }, 'You, on its way'), element('div', { class: 'bubble' }, element('p', {}, text)))
  }

  update (): void {}
}

class UserView implements View<Entry> {
  readonly element: HTMLElement
  readonly #bubble = element('div', { class: 'bubble' })
  #shown: Message | undefined

  constructor () {
    this.element = element('li', { class: 'said user' }, element('p', { class: 'who' }, 'You'), this.#bubble)
  }

  update (entry: Entry): void {
    if (!('message' in entry) || entry.message === this.#shown) return
    this.#shown = entry.message
    this.#bubble.replaceChildren(...entry.message.parts.map((part) => element('p', {}, part.type === 'text' ? part.text : part.type === 'file' ? part.filename ?? part.mediaType : '')))
  }
}

class AnswerView implements View<Entry> {
  readonly element: HTMLElement
  readonly #sessionOf: () => Session | undefined
  readonly #who = element('span', { class: 'agent-name' })
  readonly #state = element('span', { class: 'run-state' })
  readonly #time = element('span', { class: 'run-time' })
  readonly #cancel = element('button', { type: 'button', class: 'quiet cancel' }, 'Cancel the run')
  readonly #timeline = new Timeline()
  readonly #text = element('div', { class: 'answer' })
  readonly #failure = element('p', { class: 'failure', hidden: true })
  #parts: readonly Part[] | undefined
  #run: Run | undefined

  constructor (sessionOf: () => Session | undefined, onCancel: (runId: string) => void) {
    this.#sessionOf = sessionOf
    this.#cancel.addEventListener('click', () => { if (this.#run) onCancel(this.#run.runId) })
    const head = element('div', { class: 'run-head' }, this.#who, this.#state, this.#time, this.#cancel)
    this.element = element('li', { class: 'said agent' }, element('article', { class: 'run' }, head, this.#timeline.element), this.#text, this.#failure)
  }

  update (entry: Entry): void {
    const session = this.#sessionOf()
    if (!('message' in entry) || session === undefined) return
    const { message } = entry
    const run = session.state.runs.find(({ runId }) => runId === message.runId)
    if (run && (run !== this.#run || run.status === 'running')) this.#showRun(run, session)
    // events of agents that it called are drawn in its timeline too
    else if (run && session.state.runs.some(({ parentRunId }) => parentRunId === run.runId)) this.#showRun(run, session)
    this.element.classList.toggle('without-run', run === undefined)
    if (message.parts !== this.#parts) this.#showText(message.parts)
  }

  #showRun (run: Run, session: Session): void {
    this.#run = run
    const isRunning = run.status === 'running'
    const now = session.timings.now()
    setAttributes(this.element, { 'data-status': run.status })
    setText(this.#who, run.agent)
    setText(this.#state, RUN_STATES[run.status] ?? run.status)
    setText(this.#time, duration(run.durationMs ?? now - Date.parse(run.startedAt)))
    if (!isRunning && document.activeElement === this.#cancel) byId('message').focus()
    this.#cancel.hidden = !isRunning
    this.#timeline.update(run, session.state, session.timings, now)
    const { error, reason } = run
    this.#failure.hidden = error === undefined && run.status !== 'cancelled'
    setText(this.#failure, error !== undefined ? `${error.message} (${error.code})` : reason ?? '')
    if (this.#failure.textContent === '') this.#failure.hidden = true
  }

  #showText (parts: readonly Part[]): void {
    this.#parts = parts
    const texts = parts.filter((part): part is TextPart => part.type === 'text')
    this.#text.hidden = texts.length === 0
    this.#text.classList.toggle('streaming', texts.some(({ state }) => state === 'streaming'))
    this.#text.replaceChildren(...texts.flatMap(({ text }) => markdown(text)))
  }
}
