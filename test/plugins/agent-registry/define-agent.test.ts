import t from 'tap'
import { Type } from '@sinclair/typebox'
import { defineAgent, type AgentContext } from '../../../plugins/agent-registry/define-agent.js'
import { defineTool } from '../../../plugins/tool-dispatcher/define-tool.js'

type Definition = Parameters<typeof defineAgent>[0]

const context = {} as AgentContext<[], []>

t.test('fills in the defaults and freezes', async (t) => {
  const agent = defineAgent({ name: 'hello', description: 'Says hello', run: ({ message }) => `hello ${message}` })
  t.equal(agent.name, 'hello')
  t.equal(agent.description, 'Says hello')
  t.equal(agent.version, undefined)
  t.match(agent.inputSchema, { type: 'object', required: ['message'], properties: { message: { type: 'string' } } })
  t.equal(agent.outputSchema, undefined)
  t.same(agent.tools, [])
  t.same(agent.agents, [])
  t.equal(agent.timeoutMs, undefined)
  t.equal(agent.concurrency, 'enqueue')
  t.equal(agent.onDisconnect, 'continue')
  t.same(agent.fromMessage({ content: [{ type: 'text', text: 'hi' }], text: 'hi' }), { message: 'hi' })
  t.equal(agent.run({ message: 'you' }, context), 'hello you')
  t.ok(Object.isFrozen(agent))
  t.ok(Object.isFrozen(agent.tools))
  t.ok(Object.isFrozen(agent.agents))
})

t.test('keeps what was given', async (t) => {
  const now = defineTool({ name: 'now', description: 'x', execute: () => 1 })
  const helper = defineAgent({ name: 'helper', description: 'x', run () {} })
  const inputSchema = Type.Object({ topic: Type.String() })
  const outputSchema = Type.String()
  const tools = [now, now]
  const onDisconnect = { cancelAfterMs: 0 }
  const agent = defineAgent({
    name: 'x', description: '', version: '2', inputSchema, outputSchema, tools, agents: [helper], timeoutMs: 7, concurrency: 'parallel', onDisconnect, fromMessage: ({ text }) => ({ topic: text }), run: ({ topic }) => topic
  })
  t.equal(agent.version, '2')
  t.equal(agent.inputSchema, inputSchema)
  t.equal(agent.outputSchema, outputSchema)
  t.equal(agent.tools[0], now, 'the same object')
  t.equal(agent.agents[0], helper, 'the same object')
  t.equal(agent.timeoutMs, 7)
  t.equal(agent.concurrency, 'parallel')
  t.same(agent.onDisconnect, { cancelAfterMs: 0 })
  t.same(agent.fromMessage({ content: 'a', text: 'a' }), { topic: 'a' })
  tools.pop()
  onDisconnect.cancelAfterMs = 9
  t.equal(agent.tools.length, 2, 'later changes of the list do not reach the definition')
  t.same(agent.onDisconnect, { cancelAfterMs: 0 })
  t.equal(defineAgent({ name: 'x', description: '', onDisconnect: 'continue', run () {} }).onDisconnect, 'continue')
})

t.test('run and fromMessage find the object they were written on', async (t) => {
  class Counter {
    name = 'count' as const
    description = 'Counts'
    runs = 0
    fromMessage () { return { message: String(this.runs) } }
    run () { return ++this.runs }
  }
  const { run, fromMessage } = defineAgent(new Counter())
  run({ message: '' }, context)
  t.same(fromMessage({ content: '', text: '' }), { message: '1' })
})

t.test('refuses what is no agent, and says why', async (t) => {
  const good = { name: 'x', description: 'x', run () {} }
  const one = defineTool({ name: 'same', description: 'x', execute () {} })
  const two = defineTool({ name: 'same', description: 'x', execute () {} })
  const cases: Array<[unknown, RegExp]> = [
    [undefined, /'undefined'.*expected an object/],
    [null, /expected an object/],
    [5, /expected an object/],
    [{ ...good, name: 'a:b' }, /'a:b'.*name must be/],
    [{ ...good, name: undefined }, /name must be/],
    [{ ...good, description: 5 }, /description must be a string/],
    [{ ...good, run: undefined }, /run must be a function/],
    [{ ...good, version: 1 }, /version must be a string/],
    [{ ...good, inputSchema: {} }, /inputSchema must be a TypeBox schema/],
    [{ ...good, outputSchema: {} }, /outputSchema must be a TypeBox schema/],
    [{ ...good, timeoutMs: -1 }, /timeoutMs must be a positive integer/],
    [{ ...good, timeoutMs: 2 ** 31 }, /timeoutMs must be .* at most 2147483647/],
    [{ ...good, concurrency: 'sometimes' }, /concurrency must be one of enqueue, reject, interrupt, parallel/],
    [{ ...good, onDisconnect: 'stop' }, /onDisconnect must be/],
    [{ ...good, onDisconnect: null }, /onDisconnect must be/],
    [{ ...good, onDisconnect: { cancelAfterMs: -1 } }, /onDisconnect must be/],
    [{ ...good, onDisconnect: {} }, /onDisconnect must be/],
    [{ ...good, fromMessage: 'x' }, /fromMessage must be a function/],
    [{ ...good, tools: one }, /tools must be an array/],
    [{ ...good, tools: [null] }, /tools\[0\] must come from defineTool/],
    [{ ...good, tools: [one, { name: 'y' }] }, /tools\[1\] must come from defineTool/],
    [{ ...good, tools: [one, two] }, /tools has two different entries named 'same'/],
    [{ ...good, agents: {} }, /agents must be an array/],
    [{ ...good, agents: [one] }, /agents\[0\] must come from defineAgent/],
    [{ ...good, agents: ['helper'] }, /agents\[0\] must come from defineAgent/]
  ]
  for (const [definition, message] of cases) t.throws(() => defineAgent(definition as Definition), { code: 'FAE_ERR_AGENT_INVALID', message })
})
