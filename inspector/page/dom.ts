/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

type Child = Node | string | false | undefined
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>

/** An element with attributes (true: there, false and undefined: not) and children. Texts are only ever texts. */
export function element<Name extends keyof HTMLElementTagNameMap> (name: Name, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name)
  setAttributes(made, attributes)
  made.append(...children.filter((child) => child !== false && child !== undefined))
  return made
}

export function svg<Name extends keyof SVGElementTagNameMap> (name: Name, attributes: Attributes = {}, ...children: Child[]): SVGElementTagNameMap[Name] {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name)
  setAttributes(made, attributes)
  made.append(...children.filter((child) => child !== false && child !== undefined))
  return made
}

export function setAttributes (target: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) target.removeAttribute(name)
    else target.setAttribute(name, value === true ? '' : String(value))
  }
}

/** Changes the text only if it is another one, so that a selection in it survives. */
export function setText (target: Element, text: string): void {
  if (target.textContent !== text) target.textContent = text
}

/** The element of the page with this id. */
export function byId<Kind extends Element = HTMLElement> (id: string): Kind {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`The page has no #${id}`)
  return found as Element as Kind
}

/** What shows one item. */
export interface View<Item> {
  readonly element: Element
  update (item: Item): void
}

/** Children of an element, one for each item: they stay the same elements as long as their items are there. */
export class KeyedList<Item> {
  readonly #parent: Element
  readonly #keyOf: (item: Item) => string
  readonly #create: (item: Item) => View<Item>
  #views = new Map<string, View<Item>>()

  constructor (parent: Element, keyOf: (item: Item) => string, create: (item: Item) => View<Item>) {
    this.#parent = parent
    this.#keyOf = keyOf
    this.#create = create
  }

  update (items: readonly Item[]): void {
    const views = new Map<string, View<Item>>()
    let before: Element | null = null
    for (const item of items) {
      const key = this.#keyOf(item)
      const view = this.#views.get(key) ?? this.#create(item)
      view.update(item)
      const place: Element | null = before === null ? this.#parent.firstElementChild : before.nextElementSibling
      if (place !== view.element) this.#parent.insertBefore(view.element, place)
      before = view.element
      views.set(key, view)
    }
    for (const [key, view] of this.#views) if (!views.has(key)) view.element.remove()
    this.#views = views
  }
}

const announcer = () => byId('announcer')

/** Says something to people who do not see the page. */
export function announce (text: string): void {
  announcer().textContent = text
}

/** Shows what went wrong; it goes when the next one comes, or when it is closed. */
export function alertPerson (text: string): void {
  const close = element('button', { type: 'button', class: 'quiet', 'aria-label': 'Close this message' }, 'Close')
  const shown = element('p', { class: 'alert' }, element('span', {}, text), close)
  close.addEventListener('click', () => { shown.remove() })
  byId('alerts').replaceChildren(shown)
}

export function clearAlert (): void {
  byId('alerts').replaceChildren()
}
