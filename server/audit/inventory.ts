import type { Codebase } from './codebase.js'
import type { ClassFact, Place } from './facts.js'
import { isCreate, isRegister, isSetManager } from './names.js'

/** A registry, a factory beside them, and all that is done with it. */
export interface Registry extends Place {
  readonly name: string
  readonly kind: 'registry' | 'factory'
  readonly instances: Place[]
  readonly registrations: Place[]
  readonly creations: Place[]
  readonly managerSets: Place[]
}

export interface Inventory {
  readonly registries: Registry[]
  /** Where a manager is set on something that is no registry: an agent, a tool. */
  readonly otherManagerSets: Place[]
  registryOf (one: ClassFact | undefined): Registry | undefined
}

/** Every registry and every place where it is made, registered with, created from and wired. */
export function takeInventory (codebase: Codebase): Inventory {
  const byClass = new Map<ClassFact, Registry>()
  for (const one of codebase.classes) {
    const kind = codebase.isFactory(one) ? 'factory' : codebase.isRegistry(one) ? 'registry' : undefined
    if (kind === undefined) continue
    byClass.set(one, { name: one.name, kind, file: one.file, line: one.line, instances: [], registrations: [], creations: [], managerSets: [] })
  }
  const otherManagerSets: Place[] = []
  for (const file of codebase.files) {
    for (const { className, line } of file.news) {
      const registry = lookUp(byClass, codebase.classNamed(file, className))
      registry?.instances.push({ file: file.file, line })
    }
    for (const { receiver, method, line, inClass } of file.calls) {
      if (receiver === '' || (!isRegister(method) && !isCreate(method) && !isSetManager(method))) continue
      const place = { file: file.file, line }
      const registry = lookUp(byClass, receiver === 'this' || receiver === 'self' ? codebase.classNamed(file, inClass) : codebase.classOf(file, receiver))
      if (isSetManager(method)) (registry?.managerSets ?? otherManagerSets).push(place)
      else if (isRegister(method)) registry?.registrations.push(place)
      else registry?.creations.push(place)
    }
  }
  return { registries: [...byClass.values()], otherManagerSets, registryOf: (one) => lookUp(byClass, one) }
}

function lookUp (byClass: ReadonlyMap<ClassFact, Registry>, one: ClassFact | undefined): Registry | undefined {
  return one === undefined ? undefined : byClass.get(one)
}
