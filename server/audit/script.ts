import { parseSync, visitorKeys } from 'oxc-parser'
import { emptyFacts, type Argument, type FileFacts } from './facts.js'
import { matters, mayMatter } from './names.js'
import { COLLECTIONS, FUNCTIONS, TRANSPARENT, assignsCollection, fieldsOf, handlingOf, isCollection, keyOf, lastName, messageType, methodOf, unwrap, type Node } from './syntax.js'

/** The file is not what its name says. */
export class ParseError extends Error {}

/** Languages to try in turn: types in .js files and angle brackets in .ts files are found in the wild. */
function languagesOf (file: string): Array<'js' | 'jsx' | 'ts' | 'tsx'> {
  if (/\.[cm]?ts$/.test(file)) return ['ts', 'tsx']
  if (file.endsWith('.tsx')) return ['tsx']
  return ['jsx', 'tsx', 'ts']
}

/** Nesting that the parser's stack certainly holds: what goes deeper was made by a machine, or to do harm. */
const MAX_NESTING = 5_000
/** What nests without brackets, or with ones that are also something else. */
const NESTING = /=>|\?|\belse\b|[<`]/g

/** @throws ParseError that says where */
export function scanScript (file: string, source: string): FileFacts {
  if (source.length > MAX_NESTING && mayNestTooDeep(source)) throw new ParseError('nested too deep to be parsed safely')
  let problem = ''
  for (const lang of languagesOf(file)) {
    const parsed = parseSync(file, source, { lang, sourceType: 'unambiguous' })
    const fatal = parsed.errors.filter(({ severity }) => severity === 'Error')
    // The tree is made when it is asked for, which takes longer than the parsing itself.
    if (fatal.length === 0 && !mayMatter(source)) return emptyFacts(file)
    if (fatal.length === 0 || parsed.program.body.length > 0) return new ScriptScanner(file, source).scan(parsed.program as unknown as Node)
    problem ||= `${fatal[0]!.message}${positionOf(source, fatal[0]!.labels[0]?.start)}`
  }
  throw new ParseError(problem)
}

/** The parser is native: where its stack ends, so does the process. */
function mayNestTooDeep (source: string): boolean {
  let depth = 0
  for (let at = 0; at < source.length; at++) {
    switch (source.charCodeAt(at)) {
      case 0x28: case 0x5b: case 0x7b: if (++depth > MAX_NESTING) return true; break
      case 0x29: case 0x5d: case 0x7d: depth = Math.max(0, depth - 1)
    }
  }
  return (source.match(NESTING)?.length ?? 0) > 2 * MAX_NESTING
}

function positionOf (source: string, offset: number | undefined): string {
  return offset === undefined ? '' : ` (line ${source.slice(0, offset).split('\n').length})`
}

interface Surroundings {
  readonly inClass: string
  readonly inFunction: string
  /** In a finally, or in the catch beside what throws. */
  readonly isSafe: boolean
  /** In a try whose catch does nothing. */
  readonly isSwallowed: boolean
  readonly within: readonly string[]
}

class ScriptScanner {
  readonly #facts: FileFacts
  readonly #lineStarts: number[] = [0]
  /** The nodes around the one that is visited, outermost first. */
  readonly #parents: Node[] = []
  /** Messages that variables of the file hold. */
  readonly #messages = new Map<string, string>()

  constructor (file: string, source: string) {
    this.#facts = emptyFacts(file)
    for (let at = source.indexOf('\n'); at >= 0; at = source.indexOf('\n', at + 1)) this.#lineStarts.push(at + 1)
  }

  scan (program: Node): FileFacts {
    this.#visit(program, { inClass: '', inFunction: '', isSafe: false, isSwallowed: false, within: [] })
    return this.#facts
  }

  #visit (node: Node, around: Surroundings): void {
    switch (node.type) {
      case 'ImportDeclaration': return this.#import(node)
      case 'ExportNamedDeclaration':
      case 'ExportAllDeclaration': this.#export(node); break
      case 'ClassDeclaration':
      case 'ClassExpression': around = { ...around, inClass: this.#class(node) }; break
      case 'VariableDeclarator': around = { ...around, inClass: this.#variable(node) ?? around.inClass }; break
      case 'PropertyDefinition':
      case 'AccessorProperty': this.#kind(keyOf(node), node.value as Node | null, node.typeAnnotation as Node | null); break
      case 'AssignmentExpression': this.#kind(lastName(node.left as Node), node.right as Node, null); break
      case 'Identifier': if (node.typeAnnotation) this.#kind(node.name as string, null, node.typeAnnotation as Node); break
      case 'NewExpression': this.#new(node, around); break
      case 'CallExpression': this.#call(node, around); break
    }
    if (FUNCTIONS.has(node.type)) around = { ...around, inFunction: `${node.start}`, isSafe: false, isSwallowed: false }
    this.#parents.push(node)
    for (const key of visitorKeys[node.type] ?? []) {
      const child = node[key] as Node | null | Array<Node | null> | undefined
      if (child === null || child === undefined) continue
      const inside = this.#inside(node, key, around)
      if (Array.isArray(child)) {
        for (const one of child) if (one !== null) this.#visit(one, inside)
      } else {
        this.#visit(child, inside)
      }
    }
    this.#parents.pop()
  }

  #inside (node: Node, key: string, around: Surroundings): Surroundings {
    if (node.type === 'TryStatement') {
      if (key === 'finalizer' || key === 'handler') return { ...around, isSafe: true }
      const handler = node.handler as { body: { body: unknown[] } } | null
      return handler !== null && handler.body.body.length === 0 ? { ...around, isSwallowed: true } : around
    }
    if (node.type === 'CallExpression' && key === 'arguments') return { ...around, within: [methodOf(node.callee as Node), ...around.within] }
    return around
  }

  #import (node: Node): void {
    const from = (node.source as { value: string }).value
    for (const specifier of node.specifiers as Node[]) {
      const imported = specifier.imported as { name?: string, value?: string } | undefined
      this.#facts.imports.set((specifier.local as { name: string }).name, { from, name: imported?.name ?? imported?.value ?? (specifier.type === 'ImportDefaultSpecifier' ? 'default' : '*') })
    }
  }

  #export (node: Node): void {
    const from = (node.source as { value: string } | null)?.value
    if (from === undefined) return
    if (node.type === 'ExportAllDeclaration') this.#facts.exports.push({ from, name: '*', as: '*' })
    for (const { local, exported } of (node.specifiers ?? []) as Array<{ local: { name: string }, exported: { name: string } }>) this.#facts.exports.push({ from, name: local.name, as: exported.name })
  }

  #class (node: Node): string {
    const parent = this.#parents.at(-1)
    const name = (node.id as { name: string } | null)?.name ?? (parent?.type === 'VariableDeclarator' ? lastName(parent.id as Node) : '')
    const members = (node.body as { body: Node[] }).body
    const base = lastName(node.superClass as Node | null)
    this.#facts.classes.push({
      ...this.#at(node),
      name,
      bases: base === '' ? [] : [base],
      methods: new Set(members.filter(({ type, value }) => type === 'MethodDefinition' || (type === 'PropertyDefinition' && FUNCTIONS.has((value as Node | null)?.type ?? ''))).map(keyOf)),
      keeps: members.some((member) => member.static !== true && member.type === 'PropertyDefinition' && isCollection(member.value as Node | null)) || assignsCollection(members)
    })
    return name
  }

  /** @returns the name of an object that works like a class */
  #variable (node: Node): string | undefined {
    const name = lastName(node.id as Node)
    const value = unwrap(node.init as Node | null)
    this.#kind(name, value, (node.id as { typeAnnotation?: Node }).typeAnnotation ?? null)
    const event = value === null ? undefined : messageType(value)
    if (event !== undefined) this.#messages.set(name, event)
    if (value?.type !== 'ObjectExpression') return undefined
    const properties = value.properties as Node[]
    const methods = properties.filter((property) => FUNCTIONS.has((property.value as Node | undefined)?.type ?? '')).map(keyOf)
    if (methods.length === 0) return undefined
    this.#facts.classes.push({ ...this.#at(node), name, bases: [], methods: new Set(methods), keeps: properties.some((property) => isCollection(property.value as Node | null)) })
    this.#facts.kinds.set(name, name)
    return name
  }

  #kind (name: string, value: Node | null, annotation: Node | null): void {
    const made = unwrap(value)
    const typed = (annotation?.typeAnnotation ?? annotation) as Node | null
    const className = made?.type === 'NewExpression' ? lastName(made.callee as Node) : typed?.type === 'TSTypeReference' ? lastName(typed.typeName as Node) : ''
    if (name !== '' && className !== '' && !COLLECTIONS.has(className)) this.#facts.kinds.set(name, className)
  }

  #new (node: Node, { inClass, within }: Surroundings): void {
    const parent = this.#parents.findLast(({ type }) => !TRANSPARENT.has(type))
    const into = parent?.type === 'VariableDeclarator' ? lastName(parent.id as Node) : parent?.type === 'AssignmentExpression' ? lastName(parent.left as Node) : parent?.type === 'PropertyDefinition' ? keyOf(parent) : ''
    this.#facts.news.push({ ...this.#at(node), className: lastName(node.callee as Node), into, inClass, within })
  }

  #call (node: Node, around: Surroundings): void {
    const callee = unwrap(node.callee as Node)!
    if (callee.type !== 'MemberExpression' && callee.type !== 'Identifier') return
    const method = methodOf(callee)
    const receiver = callee.type === 'MemberExpression' ? lastName(callee.object as Node) : ''
    const { inClass, inFunction, isSafe, within } = around
    const given = node.arguments as Node[]
    if (method === 'require' && receiver === '') this.#require(given[0])
    const args = given.map((argument) => this.#argument(argument))
    if (!matters(method) && !args.some(({ fields }) => fields !== undefined)) return
    this.#facts.calls.push({ ...this.#at(node), receiver, method, args, handling: handlingOf(node, this.#parents, around.isSwallowed), inClass, inFunction: `${this.#facts.file}:${inFunction}`, isSafe, within: within[0] ?? '' })
  }

  #require (source: Node | undefined): void {
    const from = source?.value
    if (typeof from !== 'string') return
    const parent = this.#parents.at(-1)
    const target = parent?.type === 'VariableDeclarator' ? parent.id as Node : undefined
    if (target?.type === 'Identifier') this.#facts.imports.set(target.name as string, { from, name: '*' })
    if (target?.type !== 'ObjectPattern') return
    for (const property of target.properties as Node[]) {
      const local = lastName((property.value ?? null) as Node | null)
      if (local !== '') this.#facts.imports.set(local, { from, name: keyOf(property) })
    }
  }

  #argument (given: Node): Argument {
    const node = unwrap(given)!
    const name = lastName(node)
    const event = messageType(node) ?? (name === '' ? undefined : this.#messages.get(name))
    const fields = node.type === 'ObjectExpression' ? fieldsOf(node) : undefined
    return {
      name,
      ...(node.type === 'Literal' && typeof node.value === 'string' && { text: node.value }),
      ...(event !== undefined && { event }),
      ...(fields !== undefined && { fields })
    }
  }

  #at ({ start }: Node): { file: string, line: number } {
    let low = 0
    let high = this.#lineStarts.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#lineStarts[middle]! <= start) low = middle + 1
      else high = middle
    }
    return { file: this.#facts.file, line: low }
  }
}
