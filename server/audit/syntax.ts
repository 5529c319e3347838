import type { Handling } from './facts.js'
import { isRunId } from './names.js'

/*
 * What a node of a script's syntax tree says, whatever it is wrapped in.
 */

/** A node of the syntax tree, as far as it is looked at here. */
export interface Node { readonly type: string, readonly start: number, readonly end: number, readonly [field: string]: unknown }

export const FUNCTIONS = new Set(['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression'])
/** What keeps many things; no class of the host's. */
export const COLLECTIONS = new Set(['Map', 'WeakMap', 'Set', 'Array'])

export const TRANSPARENT = new Set(['ParenthesizedExpression', 'ChainExpression', 'TSAsExpression', 'TSNonNullExpression', 'TSSatisfiesExpression', 'TSTypeAssertion'])

export function unwrap (node: Node | null): Node | null {
  let inner = node
  while (inner !== null && (TRANSPARENT.has(inner.type) || inner.type === 'AwaitExpression')) inner = (inner.expression ?? inner.argument) as Node | null
  return inner
}

/** The last name of a chain of names: b of a.b and of a.#b. */
export function lastName (given: Node | null): string {
  const node = unwrap(given)
  switch (node?.type) {
    case 'Identifier':
    case 'PrivateIdentifier': return node.name as string
    case 'MemberExpression': return node.computed === true ? '' : lastName(node.property as Node)
    case 'TSQualifiedName': return lastName(node.right as Node)
    case 'ThisExpression': return 'this'
    default: return ''
  }
}

export function methodOf (callee: Node): string {
  const node = unwrap(callee)!
  if (node.type === 'MemberExpression' && node.computed === true) return ((node.property as { value?: unknown }).value as string | undefined)?.toString() ?? ''
  return lastName(node)
}

export function keyOf ({ key }: Node): string {
  const { name, value } = (key ?? {}) as { name?: string, value?: unknown }
  return name ?? (typeof value === 'string' ? value : '')
}

export function isCollection (given: Node | null): boolean {
  const node = unwrap(given)
  return node?.type === 'ObjectExpression' || node?.type === 'ArrayExpression' || (node?.type === 'NewExpression' && COLLECTIONS.has(lastName(node.callee as Node))) ||
    (node?.type === 'CallExpression' && methodOf(node.callee as Node) === 'create')
}

/** this.agents = {} in a constructor. */
export function assignsCollection (members: readonly Node[]): boolean {
  const body = (members.find((member) => member.kind === 'constructor')?.value as { body?: { body: Node[] } } | undefined)?.body?.body ?? []
  return body.some(({ type, expression }) => {
    const assignment = expression as Node | undefined
    return type === 'ExpressionStatement' && assignment?.type === 'AssignmentExpression' && (assignment.left as Node).type === 'MemberExpression' && isCollection(assignment.right as Node)
  })
}

/** Only the fields that hold a run's id: no rule asks for another. */
export function fieldsOf ({ properties }: Node): Map<string, string> | undefined {
  let fields: Map<string, string> | undefined
  for (const property of properties as Node[]) {
    const name = lastName((property.value ?? null) as Node | null)
    if (name !== '' && isRunId(name)) (fields ??= new Map()).set(keyOf(property), name)
  }
  return fields
}

/** The type that an object says it has, JSON.stringify seen through. */
export function messageType (node: Node): string | undefined {
  if (node.type === 'CallExpression' && methodOf(node.callee as Node) === 'stringify') {
    const inner = unwrap((node.arguments as Node[])[0] ?? null)
    return inner === null ? undefined : messageType(inner)
  }
  if (node.type !== 'ObjectExpression') return undefined
  const type = (node.properties as Node[]).find((property) => ['type', 'event', 'event_type', 'eventType'].includes(keyOf(property)))?.value as { value?: unknown } | undefined
  return typeof type?.value === 'string' ? type.value : undefined
}

export function handlingOf (node: Node, parents: readonly Node[], isSwallowed: boolean): Handling {
  let inner = node
  for (let at = parents.length - 1; at >= 0; at--) {
    const parent = parents[at]!
    switch (parent.type) {
      case 'AwaitExpression': return isSwallowed ? 'swallowed' : 'awaited'
      case 'ExpressionStatement': return 'dropped'
      case 'UnaryExpression': if (parent.operator !== 'void') return 'used'; break
      case 'MemberExpression': {
        const call = parents[at - 1]
        if (parent.object !== inner || call?.type !== 'CallExpression') return 'used'
        return lastName(parent) === 'catch' && isEmptyFunction((call.arguments as Node[])[0]) ? 'swallowed' : 'used'
      }
      default: if (!TRANSPARENT.has(parent.type)) return 'used'
    }
    inner = parent
  }
  return 'used'
}

export function isEmptyFunction (node: Node | undefined): boolean {
  return node !== undefined && FUNCTIONS.has(node.type) && ((node.body as { body?: unknown[] }).body?.length === 0)
}
