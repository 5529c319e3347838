import { test, type Test } from 'tap'
import Fastify from 'fastify'
import agentEvents, { type AgentEvent } from 'fastify-agent-events'
import { createTriage } from '../../server/agents/triage/index.js'

async function ask (t: Test, message: string, options: Parameters<typeof createTriage>[0] = {}) {
  const triage = createTriage(options)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(agentEvents, { agents: [triage], authenticate: async () => ({ userId: 'u' }) })
  await app.ready()
  await app.threads.register({ userId: 'u', threadId: 't' })
  const result = await app.agents.run(triage, { userId: 'u', threadId: 't', input: { message } })
  return { result, events: await app.notifier.history('t', { limit: 1000 }) }
}

const typesOf = (events: readonly AgentEvent[]) => events.map(({ type }) => type).filter((type, index, all) => type !== all[index - 1])

test('a question is answered from the documents, with sources', async (t) => {
  const { result, events } = await ask(t, 'How do I resume after a reconnect?')
  t.match(result.answer, /cursor/)
  t.match(result.sources[0], { path: 'docs/threads-and-cursors.md', heading: /resume/ })
  t.strictSame(typesOf(events).slice(0, 4), ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed'])
  t.strictSame(typesOf(events).slice(-2), ['assistant_message', 'agent_completed'])
  t.strictSame([...new Set(events.flatMap((event) => event.type === 'tool_completed' ? [event.data.tool] : []))], ['search_docs', 'read_section'])

  const streamed = events.flatMap((event) => event.type === 'assistant_message' ? [event.data] : [])
  t.equal(streamed[0]?.phase, 'start')
  t.equal(streamed.at(-1)?.phase, 'end')
  t.ok(streamed.length > 2, 'it comes in pieces')
  t.equal(streamed.map(({ text }) => text).join(''), result.answer)
})

test('a question that nothing answers is still looked up, and the topics are named', async (t) => {
  const docsDir = t.testdir({ 'a.md': '# Gardening\n\nWater the roses.' })
  const { result, events } = await ask(t, 'zxqv', { docsDir })
  t.match(result.answer, /nothing about “zxqv”.*Gardening/)
  t.strictSame(result.sources, [])
  t.strictSame(typesOf(events), ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'assistant_message', 'agent_completed'])
})

test('a folder that is not there is said in the log and answered from nothing', async (t) => {
  const warnings: unknown[] = []
  const log = { info () {}, warn: (...args: unknown[]) => { warnings.push(args) } }
  const { result } = await ask(t, 'ping', { docsDir: '/nowhere/at/all', log: log as never })
  t.match(result.answer, /--docs/)
  t.match(JSON.stringify(warnings), /\/nowhere\/at\/all does not exist/)
})

test('read_section reads nothing that the index does not hold', async (t) => {
  const triage = createTriage({ docsDir: t.testdir({ docs: { 'a.md': '# A\n\ntext' }, 'secret.md': '# Secret\n\nsecret' }) + '/docs' })
  const readSection = triage.tools[1]
  const ctx = { signal: new AbortController().signal } as Parameters<typeof readSection.execute>[1]
  t.strictSame(await readSection.execute({ path: 'a.md', heading: 'A' }, ctx), { text: 'text' })
  for (const path of ['../secret.md', './a.md', '/etc/passwd', 'a.md/../../secret.md']) {
    await t.rejects(async () => await readSection.execute({ path, heading: 'Secret' }, ctx), { message: /There is no section/ })
  }
})
