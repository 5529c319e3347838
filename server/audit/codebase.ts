import { posix } from 'node:path'
import type { ClassFact, FileFacts } from './facts.js'
import { isFactory, isManagerClass, isRegistryClass, isRegister } from './names.js'

/** Packages whose classes of the same names are this project's own facades. */
const OURS = /^fastify-agent-events(?:\/|$)/
const ENDINGS = ['', '.ts', '.tsx', '.mts', '.js', '.jsx', '.mjs', '.cjs', '/index.ts', '/index.js']
const MAX_REEXPORTS = 10

/** All files together: which class a name in a file means. */
export class Codebase {
  readonly files: readonly FileFacts[]
  readonly classes: readonly ClassFact[]
  readonly #byPath: ReadonlyMap<string, FileFacts>
  readonly #byName = new Map<string, ClassFact[]>()

  constructor (files: readonly FileFacts[]) {
    this.files = files
    this.classes = files.flatMap((file) => file.classes)
    this.#byPath = new Map(files.map((file) => [file.file, file]))
    for (const one of this.classes) this.#byName.set(one.name, [...this.#byName.get(one.name) ?? [], one])
  }

  /** The master registry is used somewhere. */
  get usesMaster (): boolean {
    return this.files.some(({ imports }) => [...imports.values()].some(({ from }) => OURS.test(from)))
  }

  /** The class that a name means in a file; undefined when it is this project's facade or not part of the folder. */
  classNamed (file: FileFacts, name: string): ClassFact | undefined {
    const own = file.classes.find((one) => one.name === name)
    if (own !== undefined) return own
    const imported = file.imports.get(name)
    if (imported !== undefined && OURS.test(imported.from)) return undefined
    const resolved = imported === undefined ? undefined : this.#exported(this.#resolve(file, imported.from), imported.name)
    if (resolved !== undefined) return resolved
    const known = this.#byName.get(imported?.name ?? name) ?? []
    return known.length === 1 || imported?.from.startsWith('.') === false ? known[0] : undefined
  }

  /** The class of what a variable, field or parameter holds, or of the object itself when it works like a class. */
  classOf (file: FileFacts, variable: string): ClassFact | undefined {
    const kind = file.kinds.get(variable)
    if (kind !== undefined) return this.classNamed(file, kind)
    const imported = file.imports.get(variable)
    if (imported === undefined) return this.#byConvention(variable)
    if (OURS.test(imported.from)) return undefined
    const origin = this.#resolve(file, imported.from)
    const there = origin?.kinds.get(imported.name)
    return there === undefined ? this.#exported(origin, imported.name) ?? this.#byConvention(variable) : this.classNamed(origin!, there)
  }

  /** The methods of a class and of those it extends. */
  methodsOf (one: ClassFact): Set<string> {
    const methods = new Set<string>()
    for (const ancestor of this.#lineage(one)) for (const method of ancestor.methods) methods.add(method)
    return methods
  }

  /** Keeps agents or tools of its own; what only delegates is none. */
  isRegistry (one: ClassFact): boolean {
    const methods = [...this.methodsOf(one)]
    const registers = methods.some((method) => isRegister(method) && /agent|tool/i.test(method))
    return (isRegistryClass(one.name) || registers) && this.#lineage(one).some(({ keeps }) => keeps)
  }

  isFactory (one: ClassFact): boolean {
    return isFactory(one.name) && [...one.methods].some((method) => /^(?:create|get|make|build)/i.test(method))
  }

  get managers (): ClassFact[] { return this.classes.filter(({ name }) => isManagerClass(name)) }

  #lineage (one: ClassFact): ClassFact[] {
    const lineage = [one]
    for (let current: ClassFact | undefined = one; current !== undefined && lineage.length <= MAX_REEXPORTS;) {
      const file: FileFacts = this.#byPath.get(current.file)!
      const base: ClassFact | undefined = current.bases.map((name) => this.classNamed(file, name)).find((found): found is ClassFact => found !== undefined)
      if (base === undefined || lineage.includes(base)) break
      lineage.push(base)
      current = base
    }
    return lineage
  }

  /** agentRegistry and agent_registry hold an AgentRegistry, if there is just one class of that name. */
  #byConvention (variable: string): ClassFact | undefined {
    const name = variable.replace(/^_+/, '').replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase())
    const known = this.#byName.get(name)
    return known?.length === 1 ? known[0] : undefined
  }

  #resolve ({ file }: FileFacts, from: string): FileFacts | undefined {
    if (from.startsWith('.') && !from.includes('/')) return this.#resolvePython(file, from)
    if (!from.startsWith('.')) return /^[\w.]+$/.test(from) && file.endsWith('.py') ? this.#python(from) : undefined
    const path = posix.join(posix.dirname(file), from)
    for (const stem of [path.replace(/\.[cm]?jsx?$/, ''), path]) {
      for (const ending of ENDINGS) {
        const found = this.#byPath.get(stem + ending)
        if (found !== undefined) return found
      }
    }
    return undefined
  }

  #resolvePython (file: string, from: string): FileFacts | undefined {
    const [, dots, rest] = /^(\.+)(.*)$/.exec(from)!
    return this.#python(posix.join(posix.dirname(file), '../'.repeat(dots!.length - 1), rest!.replaceAll('.', '/')))
  }

  #python (module: string): FileFacts | undefined {
    const path = module.includes('/') ? module : module.replaceAll('.', '/')
    return this.#byPath.get(`${path}.py`) ?? this.#byPath.get(`${path}/__init__.py`) ?? this.files.find(({ file }) => file.endsWith(`/${path}.py`))
  }

  #exported (file: FileFacts | undefined, name: string, depth = 0): ClassFact | undefined {
    if (file === undefined || depth > MAX_REEXPORTS) return undefined
    const own = file.classes.find((one) => one.name === name)
    if (own !== undefined) return own
    for (const { from, name: original, as } of file.exports) {
      if (as !== name && as !== '*') continue
      const found = this.#exported(this.#resolve(file, from), as === '*' ? name : original, depth + 1)
      if (found !== undefined) return found
    }
    return undefined
  }
}
