import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { buildDesk as buildBefore } from '../../examples/legacy-app/before/app.js'
import { buildDesk as buildPhase1 } from '../../examples/legacy-app/phase-1/app.js'
import { buildDesk as buildPhase2 } from '../../examples/legacy-app/phase-2/app.js'
import { buildDesk as buildPhase3 } from '../../examples/legacy-app/phase-3/app.js'
import { buildDesk as buildPhase4 } from '../../examples/legacy-app/phase-4/app.js'
import { Receiver } from '../support/connect.js'
import { brokenRules } from '../support/run-rules.js'
import { until } from '../support/delivery.js'

interface Told { type: string, [field: string]: unknown }

async function listen (t: Test, app: FastifyInstance): Promise<string> {
  t.teardown(() => app.close())
  return app.listen({ port: 0, host: '127.0.0.1' })
}

/** A browser on the desk's own socket. */
async function openChat (t: Test, url: string, threadId: string): Promise<Told[]> {
  const told: Told[] = []
  const socket = new WebSocket(`${url.replace('http', 'ws')}/chat?threadId=${threadId}`)
  t.teardown(() => { socket.terminate() })
  socket.on('message', (data) => { told.push(JSON.parse(String(data))) })
  await once(socket, 'open')
  return told
}

/** A browser on the new socket, that shows a thread of its user. */
async function watch (t: Test, url: string, userId: string, threadId: string): Promise<Receiver> {
  await fetch(`${url}/agent-events/threads`, { method: 'POST', headers: { 'content-type': 'application/json', 'x-user-id': userId }, body: JSON.stringify({ threadId }) })
  const receiver = new Receiver(new WebSocket(`${url.replace('http', 'ws')}/agent-events/ws`, 'agent-events.v1', { headers: { 'x-user-id': userId } }))
  t.teardown(() => { receiver.socket.terminate() })
  await receiver.frame('connected')
  receiver.send({ type: 'subscribe', threadId })
  await receiver.frame('subscribed')
  return receiver
}

async function ask (url: string, service: string, userId: string, threadId: string, message: string): Promise<{ status: number, body: any }> {
  const response = await fetch(`${url}/${service}`, { method: 'POST', headers: { 'content-type': 'application/json', 'x-user-id': userId }, body: JSON.stringify({ threadId, message }) })
  return { status: response.status, body: await response.json() }
}

const kinds = (told: Array<{ type: string }>): string[] => told.map(({ type }) => type)
/** What the user must see of each service, once it works. */
const COMPLETE = {
  support: ['agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'assistant_message', 'agent_completed'],
  research: ['agent_started', 'tool_executing', 'tool_completed', 'agent_completed'],
  report: ['agent_started', 'agent_thinking', 'agent_completed']
}

t.test('before: the faults are there, at a real client', async (t) => {
  const { app, manager } = await buildBefore()
  const url = await listen(t, app)
  const chat = await openChat(t, url, 't1')
  await until(() => chat.length === 1)

  t.test("a run's id is taken for a thread's, and no tool is ever shown", async (t) => {
    const { body } = await ask(url, 'support', 'ada', 't1', 'refund')
    t.equal(body.result, 'Refunds take five days.', 'the work is done')
    await until(() => chat.some(({ type }) => type === 'agent_completed'))
    t.same(kinds(chat.slice(1)), ['agent_started', 'agent_response', 'agent_completed'], 'the thinking is gone')
    t.same(manager.missed, [`No connections found for thread ${body.runId}`])
  })

  t.test('a run that fails never ends', async (t) => {
    chat.length = 0
    t.equal((await ask(url, 'support', 'ada', 't1', 'crash')).status, 500)
    await until(() => chat.length > 0)
    t.same(kinds(chat), ['agent_started'])
  })

  t.test('nothing of the registry that nobody wired', async (t) => {
    chat.length = 0
    const { body } = await ask(url, 'research', 'ada', 't1', 'tea')
    t.same(body.result, ['On tea', 'Against tea'], 'the work is done')
    // The next service answers after it: what would have come is there by then.
    await ask(url, 'report', 'ada', 't1', 'tea')
    await until(() => chat.some(({ type }) => type === 'report_ready'))
    t.same(kinds(chat), ['report_ready'], "nor of the factory's agent, whose manager has no send_message")
  })

  t.test("a thread's id that looks like a run's leads to somebody else", async (t) => {
    const other = await openChat(t, url, 'morning')
    const own = await openChat(t, url, 'morning_run_club')
    await until(() => other.length === 1 && own.length === 1)
    await ask(url, 'report', 'ada', 'morning_run_club', 'tea')
    await until(() => other.length === 2)
    t.same(kinds(other.slice(1)), ['report_ready'])
    t.equal(own.length, 1, 'and not to whoever asked')
  })
})

async function askAll (t: Test, url: string, threadId: string): Promise<void> {
  for (const [service, expected] of Object.entries(COMPLETE)) {
    const tab = await watch(t, url, 'ada', `${threadId}_${service}`)
    const { status, body } = await ask(url, service, 'ada', `${threadId}_${service}`, 'refund')
    t.equal(status, 200, JSON.stringify(body))
    const completed = await tab.frame('agent_completed')
    t.match(completed.data, { status: 'success', result: body.result })
    if (service === 'report') await tab.frame('custom')
    const run = tab.events().filter((event) => event.type !== 'custom')
    t.same(kinds(run), expected, service)
    t.same(brokenRules(tab.events()), [])
  }
}

/** A failing run and a thread whose id looks like a run's, on the master's side. */
async function askTheHardOnes (t: Test, url: string): Promise<void> {
  const tab = await watch(t, url, 'ada', 'morning_run_club')
  const other = await watch(t, url, 'bob', 'morning')
  t.equal((await ask(url, 'support', 'ada', 'morning_run_club', 'crash')).status, 500)
  t.match((await tab.frame('agent_completed')).data, { status: 'error' }, 'a run that fails ends')
  t.match((await tab.frame('tool_completed')).data, { status: 'error', tool: 'search_handbook', error: { message: 'the handbook is locked' } })
  t.equal((await ask(url, 'report', 'ada', 'morning_run_club', 'tea')).status, 200)
  await tab.frame('custom')
  t.same(brokenRules(tab.events()), [])
  other.send({ type: 'subscribe', ref: 'last', threadId: 'morning' })
  await other.frame('subscribed', ({ ref }) => ref === 'last')
  t.same(other.events(), [], 'nothing of it is shown to anybody else')
}

t.test('phase 1: off by default, and nothing changes; the shadow tells what would', async (t) => {
  const { app, registry, ownSide } = await buildPhase1()
  const url = await listen(t, app)
  const chat = await openChat(t, url, 't1')
  const tab = await watch(t, url, 'ada', 't1')
  const { body } = await ask(url, 'support', 'ada', 't1', 'refund')
  t.equal(body.side, 'legacy')
  await until(() => chat.some(({ type }) => type === 'agent_completed'))
  t.same(kinds(chat), ['agent_started', 'agent_response', 'agent_completed'])
  t.same(ownSide.manager.missed, [`No connections found for thread ${body.runId}`])
  await ask(url, 'research', 'ada', 't1', 'tea')
  await until(() => registry.differences.some(({ code }) => code === 'no_agent_completed'))
  t.match(registry.differences.filter(({ agent }) => agent === 'support'), [{ rule: 'routing', code: 'run_id_as_thread_id', type: 'agent_thinking', runId: body.runId }])
  t.same(registry.differences.filter(({ agent }) => agent === 'research').map(({ code }) => code), ['no_agent_started', 'no_agent_completed'])
  t.same(await app.notifier.history('t1'), [], 'the shadow stores nothing')
  t.same(tab.events(), [])
})

t.test('phase 1, for those whose flag is on: complete', async (t) => {
  const { app } = await buildPhase1({ useMasterRegistry: ({ userId }) => userId === 'ada' })
  const url = await listen(t, app)
  await askAll(t, url, 't')
  await askTheHardOnes(t, url)
  t.equal((await ask(url, 'support', 'bob', 't2', 'refund')).body.side, 'legacy')
})

for (const [name, build] of [['phase 2, shims', buildPhase2], ['phase 3, two services migrated', buildPhase3], ['phase 4, the rest removed', buildPhase4]] as const) {
  t.test(`${name}: complete`, async (t) => {
    const { app } = await build()
    const url = await listen(t, app)
    await askAll(t, url, 't')
    await askTheHardOnes(t, url)
    t.equal(app.agents.active().length, 0)
  })
}

t.test('phase 3: one service goes back without the others', async (t) => {
  const { app, registry } = await buildPhase3()
  const url = await listen(t, app)
  registry.useMasterRegistry = ({ agent }) => agent !== 'research'
  t.equal((await ask(url, 'research', 'ada', 't1', 'tea')).body.side, 'legacy')
  t.equal((await ask(url, 'support', 'ada', 't1', 'refund')).body.side, 'master')
})

for (const [name, build] of [['phase 1', buildPhase1], ['phase 2', buildPhase2], ['phase 3', buildPhase3]] as const) {
  t.test(`${name}: the flag on and off and on mid-traffic, nothing lost on either side`, async (t) => {
    const { app, registry } = await build()
    const url = await listen(t, app)
    const chat = await openChat(t, url, 't')
    const tab = await watch(t, url, 'ada', 't')
    const answers: Array<ReturnType<typeof ask>> = []
    for (let i = 0; i < 60; i++) {
      // Flipped while the runs before are under way.
      registry.useMasterRegistry = i % 7 < 4
      answers.push(ask(url, 'support', 'ada', 't', 'refund'))
      if (i % 5 === 0) await answers[i]
    }
    const bodies = (await Promise.all(answers)).map(({ status, body }) => {
      t.equal(status, 200)
      return body as { side: string, runId: string }
    })
    const legacy = new Set(bodies.filter(({ side }) => side === 'legacy').map(({ runId }) => runId))
    const master = bodies.length - legacy.size
    t.ok(legacy.size > 5 && master > 5, `${legacy.size} legacy, ${master} master`)

    await until(() => chat.filter(({ type }) => type === 'agent_completed').length === legacy.size)
    for (const runId of legacy) t.same(kinds(chat.filter((told) => told.run_id === runId)), ['agent_started', 'agent_response', 'agent_completed'])
    t.equal(chat.length, 3 * legacy.size, 'nothing of the other side')

    await tab.until(() => tab.events().filter(({ type }) => type === 'agent_completed').length === master)
    t.equal(tab.events().length, 6 * master, 'nothing of the other side')
    t.same(brokenRules(tab.events()), [])
  })
}

t.test('the plan names every shim that warns and every rule of the audit', async (t) => {
  const root = new URL('../../', import.meta.url)
  const [plan, ledger, rules] = await Promise.all(['docs/migration.md', 'warnings.ts', 'server/audit/rules.ts'].map((file) => readFile(new URL(file, root), 'utf8')))
  const codes = [...ledger!.matchAll(/^ \* {3}(FAE_\w+) {2}compat/gm)].map(([, code]) => code!)
  t.ok(codes.length > 10)
  for (const code of codes) t.ok(plan!.includes(`\`${code}\``), code)
  const names = [...rules!.matchAll(/^ {2}'([a-z-]+)': \{/gm)].map(([, name]) => name!)
  t.ok(names.length > 8)
  for (const name of names) t.ok(plan!.includes(`\`${name}\``), name)
})
