import t from 'tap'
import { Type } from '@sinclair/typebox'
import { defineTool, type ToolContext } from '../../../plugins/tool-dispatcher/define-tool.js'

type Definition = Parameters<typeof defineTool>[0]

const context = {} as ToolContext

t.test('fills in the defaults and freezes', async (t) => {
  const tool = defineTool({ name: 'now', description: 'The time', execute: () => 42 })
  t.equal(tool.name, 'now')
  t.equal(tool.description, 'The time')
  t.match(tool.inputSchema, { type: 'object', properties: {} })
  t.equal(tool.outputSchema, undefined)
  t.equal(tool.timeoutMs, undefined)
  t.equal(tool.execute({}, context), 42)
  t.ok(Object.isFrozen(tool))
})

t.test('keeps what was given', async (t) => {
  const inputSchema = Type.Object({ a: Type.Number() })
  const outputSchema = Type.Object({ b: Type.Number() })
  const tool = defineTool({ name: 'x', description: '', inputSchema, outputSchema, timeoutMs: 5, execute: ({ a }) => ({ b: a }) })
  t.equal(tool.inputSchema, inputSchema)
  t.equal(tool.outputSchema, outputSchema)
  t.equal(tool.timeoutMs, 5)
  t.same(tool.execute({ a: 1 }, context), { b: 1 })
})

t.test('execute finds the object it was written on', async (t) => {
  class Counter {
    name = 'count' as const
    description = 'Counts'
    count = 0
    execute () { return ++this.count }
  }
  const counter = new Counter()
  const { execute } = defineTool(counter)
  execute({}, context)
  execute({}, context)
  t.equal(counter.count, 2)
})

t.test('A6: refuses what is no tool, and says why', async (t) => {
  const good = { name: 'x', description: 'x', execute () {} }
  const cases: Array<[unknown, RegExp]> = [
    [undefined, /'undefined'.*expected an object/],
    [null, /expected an object/],
    ['x', /expected an object/],
    [{ ...good, name: '' }, /name must be/],
    [{ ...good, name: 'a b' }, /'a b'.*name must be/],
    [{ ...good, name: 'x'.repeat(65) }, /name must be/],
    [{ ...good, name: undefined }, /name must be/],
    [{ ...good, description: undefined }, /description must be a string/],
    [{ ...good, execute: 'x' }, /execute must be a function/],
    [{ ...good, inputSchema: { type: 'object' } }, /inputSchema must be a TypeBox schema/],
    [{ ...good, inputSchema: null }, /inputSchema must be a TypeBox schema/],
    [{ ...good, outputSchema: 5 }, /outputSchema must be a TypeBox schema/],
    [{ ...good, timeoutMs: 0 }, /timeoutMs must be a positive integer/],
    [{ ...good, timeoutMs: 1.5 }, /timeoutMs must be a positive integer/],
    [{ ...good, timeoutMs: '5' }, /timeoutMs must be a positive integer/],
    [{ ...good, timeoutMs: 2 ** 31 }, /timeoutMs must be .* at most 2147483647/]
  ]
  for (const [definition, message] of cases) t.throws(() => defineTool(definition as Definition), { code: 'FAE_ERR_TOOL_INVALID', message })
})
