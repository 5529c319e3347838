import { readFile } from 'node:fs/promises'

export interface KindOfObject { readonly name: string, readonly count: number, readonly bytes: number }

interface Snapshot {
  readonly snapshot: { readonly meta: { readonly node_fields: readonly string[], readonly node_types: readonly [readonly string[], ...unknown[]] } }
  readonly nodes: readonly number[]
  readonly strings: readonly string[]
}

/** What a heap snapshot holds, by the constructor of its objects, or by type where there is none. */
export async function readHeapSnapshot (file: string): Promise<Map<string, KindOfObject>> {
  const { snapshot: { meta }, nodes, strings } = JSON.parse(await readFile(file, 'utf8')) as Snapshot
  const [type, name, size] = ['type', 'name', 'self_size'].map((field) => meta.node_fields.indexOf(field)) as [number, number, number]
  const kinds = new Map<string, KindOfObject>()
  for (let i = 0; i < nodes.length; i += meta.node_fields.length) {
    const typeName = meta.node_types[0][nodes[i + type]!]!
    const kind = typeName === 'object' || typeName === 'native' ? strings[nodes[i + name]!]! : `(${typeName})`
    const known = kinds.get(kind)
    kinds.set(kind, { name: kind, count: (known?.count ?? 0) + 1, bytes: (known?.bytes ?? 0) + nodes[i + size]! })
  }
  return kinds
}

/** What there is more of in the later one, and less; the most bytes first. Counts and bytes are the differences. */
export function compareSnapshots (before: ReadonlyMap<string, KindOfObject>, after: ReadonlyMap<string, KindOfObject>): KindOfObject[] {
  return [...new Set([...before.keys(), ...after.keys()])]
    .map((name) => ({
      name,
      count: (after.get(name)?.count ?? 0) - (before.get(name)?.count ?? 0),
      bytes: (after.get(name)?.bytes ?? 0) - (before.get(name)?.bytes ?? 0)
    }))
    .filter(({ count, bytes }) => count !== 0 || bytes !== 0)
    .sort((one, other) => Math.abs(other.bytes) - Math.abs(one.bytes))
}
