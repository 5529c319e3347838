import { Type, type TLiteral, type TUnion } from '@sinclair/typebox'

type Literals<Values extends readonly string[]> = { -readonly [Index in keyof Values]: TLiteral<Values[Index]> }

/** A union of string literals: one of these words and nothing else. */
export function oneOf<const Values extends readonly string[]> (values: Values, options?: { description?: string }): TUnion<Literals<Values>> {
  return Type.Union(values.map((value) => Type.Literal(value)), options) as unknown as TUnion<Literals<Values>>
}
