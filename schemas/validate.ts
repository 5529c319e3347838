import { Kind, type TSchema } from '@sinclair/typebox'
import { TypeCompiler, ValueErrorType, type TypeCheck, type ValueError } from '@sinclair/typebox/compiler'
import { eventData, type EventType } from './events.js'
import { clientFrames } from './frames.js'

/*
 * The compiled checks. A value that fits costs one call of compiled code; only one that does not is looked at twice, to
 * find the error that helps most.
 */

/** Why a value does not fit. */
export interface Problem {
  /** Where: `tool`, `error.code`, `content.0.text`; `(root)` for the value itself. */
  readonly path: string
  /** What was expected there, and what was found. */
  readonly message: string
}

/** Undefined for a value that fits. */
export type Check = (value: unknown) => Problem | undefined

const ROOT = '(root)'
const SHOWN_CHARACTERS = 60

function dotted (pointer: string): string {
  if (pointer === '') return ROOT
  return pointer.slice(1).split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~')).join('.')
}

function found (value: unknown): string {
  switch (typeof value) {
    case 'string': {
      const text = value.length > SHOWN_CHARACTERS ? `${value.slice(0, SHOWN_CHARACTERS)}…` : value
      return JSON.stringify(text)
    }
    case 'undefined': return 'nothing'
    case 'object':
      if (value === null) return 'null'
      return Array.isArray(value) ? `an array of ${value.length}` : 'an object'
    case 'function':
    case 'symbol': return `a ${typeof value}`
    default: return `${typeof value} ${String(value)}`
  }
}

function enumerate (words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)!}`
}

/** What a schema asks for, in a word or two. */
function wanted (schema: TSchema): string {
  switch (schema[Kind]) {
    case 'Literal': return JSON.stringify(schema.const)
    case 'Union': return enumerate([...new Set<string>(schema.anyOf.map(wanted))])
    case 'Integer': return 'an integer'
    case 'Array': return 'an array'
    case 'Object':
    case 'Record': return 'an object'
    default: return typeof schema.type === 'string' ? `a ${schema.type.toLowerCase()}` : 'a value'
  }
}

function explain (error: ValueError): Problem {
  const { schema, value } = error
  let message: string
  switch (error.type) {
    case ValueErrorType.ObjectRequiredProperty: message = `required: expected ${wanted(schema)}, found nothing`; break
    case ValueErrorType.ObjectAdditionalProperties: message = `unknown field; known: ${Object.keys(schema.properties).join(', ')}`; break
    // the length and not the text: a long one is of no use in a message
    case ValueErrorType.StringMinLength: message = `expected at least ${schema.minLength} characters, found ${(value as string).length}`; break
    case ValueErrorType.StringMaxLength: message = `expected at most ${schema.maxLength} characters, found ${(value as string).length}`; break
    case ValueErrorType.StringPattern: message = `expected a string that matches ${schema.pattern}, found ${found(value)}`; break
    case ValueErrorType.StringFormatUnknown: message = `the schema asks for format '${schema.format}', which is not registered: use FormatRegistry.Set of TypeBox, or a pattern`; break
    case ValueErrorType.ArrayMinItems: message = `expected at least ${schema.minItems} items, found ${(value as unknown[]).length}`; break
    case ValueErrorType.ArrayMaxItems: message = `expected at most ${schema.maxItems} items, found ${(value as unknown[]).length}`; break
    case ValueErrorType.Array:
    case ValueErrorType.Boolean:
    case ValueErrorType.Integer:
    case ValueErrorType.Literal:
    case ValueErrorType.Null:
    case ValueErrorType.Number:
    case ValueErrorType.Object:
    case ValueErrorType.String:
    case ValueErrorType.Union: message = `expected ${wanted(schema)}, found ${found(value)}`; break
    // the rare ones (multipleOf, uniqueItems, tuples …) in TypeBox's own words
    default: message = `${error.message.charAt(0).toLowerCase()}${error.message.slice(1)}, found ${found(value)}`
  }
  return { path: dotted(error.path), message }
}

/**
 * A union says only that nothing fitted. What helps is the error inside the variant that was meant: the one whose kind of
 * value it is and, among objects, the one whose literals (its `type`) are the value's.
 */
function mostUseful (error: ValueError): Problem {
  if (error.type !== ValueErrorType.Union) return explain(error)
  const meant: ValueError[][] = []
  for (const iterator of error.errors) {
    const errors = [...iterator]
    if (!errors.some((inner) => inner.path === error.path)) meant.push(errors)
  }
  const literals = meant.map((errors) => errors.filter((inner) => inner.type === ValueErrorType.Literal))
  const fewest = Math.min(...literals.map((list) => list.length))
  const closest = meant.filter((_errors, index) => literals[index]!.length === fewest)
  if (closest.length === 1 || (closest.length > 0 && fewest === 0)) return mostUseful(closest[0]![0]!)
  const first = literals[0]?.[0]
  // all variants are told apart by the same field, and the value names none of them there
  if (first !== undefined && literals.every((list) => list[0]!.path === first.path)) {
    return { path: dotted(first.path), message: `expected ${enumerate(literals.map((list) => wanted(list[0]!.schema)))}, found ${found(first.value)}` }
  }
  return explain(error)
}

/** Of the keyword anyOf beside an object's properties TypeBox checks nothing: the fields of which at least one must be there. */
function alternativesOf (schema: TSchema): readonly string[] {
  if (schema[Kind] !== 'Object' || !Array.isArray(schema.anyOf)) return []
  return schema.anyOf.flatMap((entry: { required?: string[] }) => entry.required ?? [])
}

function checkOf (schema: TSchema, compiled: TypeCheck<TSchema>): Check {
  const alternatives = alternativesOf(schema)
  return (value) => {
    if (!compiled.Check(value)) return mostUseful(compiled.Errors(value).First()!)
    if (alternatives.length > 0 && alternatives.every((name) => (value as Record<string, unknown>)[name] === undefined)) {
      return { path: alternatives[0]!, message: `required: expected ${enumerate(alternatives)}, found neither` }
    }
    return undefined
  }
}

/**
 * A check of a schema, compiled when it is first used: an agent that is never called costs nothing.
 * @throws at first use, if the schema is not one of TypeBox
 */
export function compileSchema<Schema extends TSchema> (schema: Schema): (value: unknown) => Problem | undefined {
  let check: Check | undefined
  return (value) => {
    check ??= checkOf(schema, TypeCompiler.Compile(schema) as TypeCheck<TSchema>)
    return check(value)
  }
}

function compileAll (schemas: Record<string, TSchema>): ReadonlyMap<string, Check> {
  return new Map(Object.entries(schemas).map(([name, schema]) => [name, checkOf(schema, TypeCompiler.Compile(schema))]))
}

function unknownType (type: unknown, known: ReadonlyMap<string, Check>): Problem {
  return { path: 'type', message: `expected ${enumerate([...known.keys()])}, found ${found(type)}` }
}

const eventChecks = compileAll(eventData)
const frameChecks = compileAll(clientFrames)

/** Checks the payload of an event. The path of the problem is inside data; a type that does not exist is a problem at `type`. */
export function checkEventData (type: EventType, data: unknown): Problem | undefined {
  const check = eventChecks.get(type)
  return check === undefined ? unknownType(type, eventChecks) : check(data)
}

/** Checks a frame that a client sent, by the schema of its own `type`, so that the problem names the field. */
export function checkClientFrame (value: unknown): Problem | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { path: ROOT, message: `expected an object, found ${found(value)}` }
  const type = (value as { type?: unknown }).type
  const check = typeof type === 'string' ? frameChecks.get(type) : undefined
  return check === undefined ? unknownType(type, frameChecks) : check(value)
}
