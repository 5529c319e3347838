import t from 'tap'
import { Kind, Type, type TSchema } from '@sinclair/typebox'
import { compileSchema } from '../../schemas/validate.js'
import { MessageBody, RegisterThread } from '../../schemas/index.js'

t.test('compileSchema compiles at first use', async (t) => {
  const check = compileSchema({ [Kind]: 'NoSuchKind' } as unknown as TSchema)
  t.throws(() => check({}), 'only now')
  const once = compileSchema(Type.Object({ a: Type.Number() }))
  t.equal(once({ a: 1 }), undefined)
  t.equal(once({ a: 2 }), undefined)
  t.same(once({ a: '2' }), { path: 'a', message: 'expected a number, found "2"' })
})

t.test('says what was expected and what was found', async (t) => {
  const cases: Array<[TSchema, unknown, string, string]> = [
    [Type.String(), 5, '(root)', 'expected a string, found number 5'],
    [Type.String(), 5n, '(root)', 'expected a string, found bigint 5'],
    [Type.String(), () => 1, '(root)', 'expected a string, found a function'],
    [Type.String(), Symbol('x'), '(root)', 'expected a string, found a symbol'],
    [Type.Number(), Infinity, '(root)', 'expected a number, found number Infinity'],
    [Type.Boolean(), {}, '(root)', 'expected a boolean, found an object'],
    [Type.Null(), undefined, '(root)', 'expected a null, found nothing'],
    [Type.Literal(5), 6, '(root)', 'expected 5, found number 6'],
    [Type.Array(Type.Number()), {}, '(root)', 'expected an array, found an object'],
    [Type.Array(Type.Number()), [1, 'x'], '1', 'expected a number, found "x"'],
    [Type.Array(Type.Number(), { minItems: 2 }), [1], '(root)', 'expected at least 2 items, found 1'],
    [Type.Array(Type.Number(), { maxItems: 1 }), [1, 2], '(root)', 'expected at most 1 items, found 2'],
    [Type.String({ minLength: 2 }), 'x', '(root)', 'expected at least 2 characters, found 1'],
    [Type.String({ maxLength: 1 }), 'secret', '(root)', 'expected at most 1 characters, found 6'],
    [Type.String({ pattern: '^a$' }), 'b', '(root)', 'expected a string that matches ^a$, found "b"'],
    [Type.String(), ['x'], '(root)', 'expected a string, found an array of 1'],
    [Type.Number({ multipleOf: 2 }), 3, '(root)', 'expected number to be a multiple of 2, found number 3'],
    [Type.Record(Type.String(), Type.Number()), 1, '(root)', 'expected an object, found number 1'],
    [Type.Record(Type.String(), Type.Number()), { a: 'x' }, 'a', 'expected a number, found "x"'],
    [Type.Object({ a: Type.Unknown() }), {}, 'a', 'required: expected a value, found nothing'],
    [Type.Object({ a: Type.Any() }), {}, 'a', 'required: expected a value, found nothing'],
    [Type.Object({ a: Type.Intersect([Type.String(), Type.Unknown()]) }), {}, 'a', 'required: expected a value, found nothing'],
    [Type.Object({ a: Type.Record(Type.String(), Type.Number()) }), {}, 'a', 'required: expected an object, found nothing'],
    [Type.Object({ a: Type.Union([Type.String(), Type.String({ minLength: 1 }), Type.Null()]) }), {}, 'a', 'required: expected a string or a null, found nothing'],
    [Type.Object({ a: Type.Date() }), {}, 'a', 'required: expected a date, found nothing'],
    [Type.Object({ 'a/b~c': Type.Object({ d: Type.Number() }) }), { 'a/b~c': { d: 'x' } }, 'a/b~c.d', 'expected a number, found "x"'],
    [Type.Object({}, { additionalProperties: false }), { a: 1 }, 'a', 'unknown field; known: '],
    [Type.Tuple([Type.Number()]), [], '(root)', 'expected tuple to have 1 elements, found an array of 0'],
    [Type.Object({ a: Type.Literal('x'.repeat(3)) }), { a: 'y'.repeat(100) }, 'a', `expected "xxx", found "${'y'.repeat(60)}…"`]
  ]
  for (const [schema, value, path, message] of cases) t.same(compileSchema(schema)(value), { path, message }, message)
})

t.test('an unregistered format is said to be the reason', async (t) => {
  const problem = compileSchema(Type.Object({ at: Type.String({ format: 'moon-phase' }) }))({ at: 'full' })
  t.match(problem, { path: 'at', message: /format 'moon-phase', which is not registered/ })
})

t.test('a union gives the error inside the variant that was meant', async (t) => {
  const shape = compileSchema(Type.Union([
    Type.Object({ type: Type.Literal('circle'), radius: Type.Number() }),
    Type.Object({ type: Type.Literal('square'), side: Type.Number(), style: Type.Literal('plain') }),
    Type.String()
  ]))
  t.equal(shape('x'), undefined)
  t.equal(shape({ type: 'circle', radius: 1 }), undefined)
  t.same(shape({ type: 'circle', radius: 'x' }), { path: 'radius', message: 'expected a number, found "x"' })
  t.same(shape({ type: 'square', side: 'x', style: 'plain' }), { path: 'side', message: 'expected a number, found "x"' })
  t.same(shape(5), { path: '(root)', message: 'expected an object or a string, found number 5' })

  const told = compileSchema(Type.Union([
    Type.Object({ kind: Type.Literal('a') }),
    Type.Object({ kind: Type.Literal('b') })
  ]))
  t.same(told({ kind: 'c' }), { path: 'kind', message: 'expected "a" or "b", found "c"' })

  const untold = compileSchema(Type.Union([Type.Object({ a: Type.Literal(1) }), Type.Object({ b: Type.Literal(1) })]))
  t.same(untold({ a: 2, b: 2 }), { path: '(root)', message: 'expected an object, found an object' })

  const plain = compileSchema(Type.Union([Type.Object({ a: Type.Number() }), Type.Object({ b: Type.Number() })]))
  t.same(plain({ a: 'x' }), { path: 'a', message: 'expected a number, found "x"' })
})

t.test('alternatives beside the properties are checked', async (t) => {
  const body = compileSchema(MessageBody)
  t.same(body({}), { path: 'content', message: 'required: expected content or input, found neither' })
  t.equal(body({ content: 'x' }), undefined)
  t.equal(body({ input: 0 }), undefined)
  t.equal(compileSchema(Type.Object({}, { anyOf: [{}] }))({}), undefined, 'an alternative that asks for nothing')
  t.equal(compileSchema(RegisterThread)({}), undefined)
  t.match(compileSchema(RegisterThread)({ id: 'x' }), { path: 'id', message: 'unknown field; known: threadId, metadata, agent' })
})
