const BITS = 5
const WIDTH = 1 << BITS

type Node<Item> = ReadonlyArray<Node<Item> | Item>

/**
 * A list that is never changed: with() gives another one that shares all but a few short arrays with this one, so that a
 * change costs the same in a long list as in a short one. A tree of arrays of 32.
 */
export class List<Item> {
  readonly length: number
  readonly #root: Node<Item>
  readonly #shift: number
  #array: readonly Item[] | undefined

  constructor (length = 0, root: Node<Item> = [], shift = 0) {
    this.length = length
    this.#root = root
    this.#shift = shift
  }

  static from<Item> (items: Iterable<Item>): List<Item> {
    let list = new List<Item>()
    for (const item of items) list = list.with(list.length, item)
    return list
  }

  /** @param index from 0 to length - 1 */
  at (index: number): Item {
    let node = this.#root
    for (let shift = this.#shift; shift > 0; shift -= BITS) node = node[(index >> shift) % WIDTH] as Node<Item>
    return node[index % WIDTH] as Item
  }

  /** @param index from 0 to length, which appends */
  with (index: number, item: Item): List<Item> {
    const isFull = index === WIDTH << this.#shift
    const root = isFull ? [this.#root] : this.#root
    const shift = isFull ? this.#shift + BITS : this.#shift
    return new List(Math.max(this.length, index + 1), put(root, shift, index, item), shift)
  }

  /** All items; the same array each time. */
  toArray (): readonly Item[] {
    if (this.#array === undefined) collect(this.#root, this.#shift, this.#array = [])
    return this.#array
  }
}

function put<Item> (node: Node<Item>, shift: number, index: number, item: Item): Node<Item> {
  const copy = node.slice()
  const slot = (index >> shift) % WIDTH
  copy[slot] = shift === 0 ? item : put((node[slot] ?? []) as Node<Item>, shift - BITS, index, item)
  return copy
}

function collect<Item> (node: Node<Item>, shift: number, items: Item[]): void {
  if (shift === 0) items.push(...node as Item[])
  else for (const child of node) collect(child as Node<Item>, shift - BITS, items)
}
