import { KeyedList, byId, element, setAttributes, setText, type View } from './dom.js'
import { count, shortId, when } from './format.js'
import type { RunInfo, Server, ThreadInfo } from './server.js'

interface Entry extends ThreadInfo { readonly title: string, readonly isRunning: boolean, readonly isCurrent: boolean }

/** The person's threads, the newest first. */
export class ThreadList {
  readonly #list: KeyedList<Entry>
  #threads: readonly ThreadInfo[] = []
  #runs: readonly RunInfo[] = []
  #current: string | undefined
  #head = 0
  #isRunning = false
  #asked = 0

  constructor () {
    this.#list = new KeyedList(byId('thread-list'), ({ threadId }) => threadId, () => new EntryView())
  }

  get threads (): readonly ThreadInfo[] { return this.#threads }

  /** What is known of the current one is known sooner here. @param head seq of its last event */
  show (current: string | undefined, head: number, isRunning: boolean): void {
    if (current === this.#current && head === this.#head && isRunning === this.#isRunning) return
    this.#isRunning = isRunning
    this.#current = current
    this.#head = head
    this.#draw()
  }

  /** Asks the server. @throws Refusal */
  async refresh (server: Server): Promise<void> {
    const asked = ++this.#asked
    const [{ threads }, { runs }] = await Promise.all([
      server.get<{ threads: ThreadInfo[] }>('/threads?limit=1000'),
      server.get<{ runs: RunInfo[] }>('/runs')
    ])
    // a later question has been answered already, or is about to be
    if (asked !== this.#asked) return
    this.#threads = [...threads].sort((one, other) => other.createdAt.localeCompare(one.createdAt))
    this.#runs = runs
    this.#draw()
  }

  clear (): void {
    this.#asked++
    this.#threads = []
    this.#runs = []
    this.#draw()
  }

  #draw (): void {
    setText(byId('threads-count'), this.#threads.length === 0 ? '' : String(this.#threads.length))
    this.#list.update(this.#threads.map((thread) => {
      const isCurrent = thread.threadId === this.#current
      return {
        ...thread,
        title: titleOf(thread),
        isCurrent,
        head: isCurrent ? Math.max(thread.head, this.#head) : thread.head,
        isRunning: isCurrent ? this.#isRunning : this.#runs.some(({ threadId }) => threadId === thread.threadId)
      }
    }))
  }
}

export function titleOf ({ threadId, metadata }: Pick<ThreadInfo, 'threadId' | 'metadata'>): string {
  return typeof metadata?.title === 'string' && metadata.title !== '' ? metadata.title : shortId(threadId, 28)
}

class EntryView implements View<Entry> {
  readonly element: HTMLElement
  readonly #link = element('a', { class: 'thread' })
  readonly #title = element('span', { class: 'thread-title' })
  readonly #facts = element('span', { class: 'thread-facts' })

  constructor () {
    this.#link.append(this.#title, this.#facts)
    this.element = element('li', {}, this.#link)
  }

  update ({ threadId, title, head, createdAt, isRunning, isCurrent }: Entry): void {
    setAttributes(this.#link, { href: `#/thread/${encodeURIComponent(threadId)}`, 'aria-current': isCurrent ? 'page' : undefined, 'data-running': isRunning })
    setText(this.#title, title)
    setText(this.#facts, `${when(createdAt)}, ${count(head, 'event')}${isRunning ? ', at work' : ''}`)
  }
}
