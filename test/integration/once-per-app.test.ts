import t from 'tap'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import agentEvents, { agentRegistry, routes, threadRegistry, toolDispatcher, websocketNotifier } from '../../index.js'
import { connect, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { triage, TRIAGE_EVENTS } from '../support/agents.js'

const authenticate = async () => ({ userId: 'u' })

type Register = (scope: FastifyInstance) => unknown

/** In the order in which one needs the other. */
const PLUGINS: ReadonlyArray<readonly [name: string, Register]> = [
  ['thread-registry', (scope) => scope.register(threadRegistry)],
  ['websocket-notifier', (scope) => scope.register(websocketNotifier)],
  ['tool-dispatcher', (scope) => scope.register(toolDispatcher)],
  ['agent-registry', (scope) => scope.register(agentRegistry)],
  ['routes', (scope) => scope.register(routes, { authenticate, prefix: '/x' })]
]

async function boot (register: (app: FastifyInstance) => unknown): Promise<unknown> {
  const app = Fastify()
  try {
    await register(app)
    await app.ready()
    return undefined
  } catch (error) {
    return error
  } finally {
    await app.close()
  }
}

const child = (fill: Register): FastifyPluginAsync => async (scope) => { await fill(scope) }

for (const [index, [name, register]] of PLUGINS.entries()) {
  const refused = { code: 'FAE_ERR_ALREADY_REGISTERED', message: new RegExp(`'fastify-agent-events/${name}'`) }
  const needed = async (app: FastifyInstance) => { for (const [, before] of PLUGINS.slice(0, index)) await before(app) }

  t.test(`A1: a second ${name} fails at boot`, async (t) => {
    t.match(await boot(async (app) => {
      await needed(app)
      await register(app)
      await register(app)
    }), refused, 'same scope')
    t.match(await boot(async (app) => {
      await needed(app)
      await register(app)
      await app.register(child(register))
    }), refused, 'child')
    t.match(await boot(async (app) => {
      await needed(app)
      await app.register(child(register))
      await app.register(child(register))
    }), refused, 'sibling')
    t.match(await boot(async (app) => {
      await needed(app)
      await app.register(child(register))
      await register(app)
    }), refused, 'parent after child')
    t.equal(await boot(async (app) => {
      await needed(app)
      await app.register(child(register))
    }), undefined, 'once in a child is fine')
  })
}

t.test('A1: a second umbrella fails at boot', async (t) => {
  const refused = { code: 'FAE_ERR_ALREADY_REGISTERED' }
  const umbrella: Register = (scope) => scope.register(agentEvents, { authenticate })
  const other: Register = (scope) => scope.register(agentEvents, { authenticate, prefix: '/other' })
  t.match(await boot(async (app) => { await umbrella(app); await other(app) }), refused, 'same scope')
  t.match(await boot(async (app) => { await umbrella(app); await app.register(child(other)) }), refused, 'child')
  t.match(await boot(async (app) => { await app.register(child(umbrella)); await app.register(child(other)) }), refused, 'sibling')
  t.match(await boot(async (app) => { await umbrella(app); await app.register(agentRegistry) }), refused, 'a part beside the whole')
  t.equal(await boot(async (app) => { await app.register(child(umbrella)) }), undefined)
})

t.test('A1: two apps in one process', async (t) => {
  const apps = await Promise.all([startApp(t, { agents: [triage] }), startApp(t, { agents: [triage] })])
  t.not(apps[0].app.agents, apps[1].app.agents)
  const tabs = await Promise.all(apps.map(async ({ url }, i) => {
    await post(url, '/threads', 'u', { threadId: 'same' })
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId: 'same' })
    tab.send({ type: 'send', ref: '1', threadId: 'same', content: `app ${i}` })
    return tab
  }))
  for (const [i, tab] of tabs.entries()) {
    t.same((await tab.frame('agent_completed')).data.result, { answer: `APP ${i}` })
    t.same(tab.events().map(({ type }) => type), ['user_message', ...TRIAGE_EVENTS])
  }
  await apps[0].app.close()
  await apps[1].app.agents.run(triage, { userId: 'u', threadId: 'same', input: { message: 'still here' } })
})

t.test('a decorator cannot be reassigned', async (t) => {
  const { app } = await startApp(t)
  const open = app as unknown as Record<string, unknown>
  for (const name of ['threads', 'notifier', 'tools', 'agents']) {
    const before = open[name]
    t.throws(() => { open[name] = {} }, TypeError, name)
    t.equal(open[name], before)
    t.throws(() => { app.decorate(name, null) }, { code: 'FST_ERR_DEC_AFTER_START' })
  }
  t.match(await boot(async (other) => {
    await other.register(threadRegistry)
    const untyped: { decorate (name: string, value: unknown): unknown } = other
    untyped.decorate('threads', {})
  }), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
})
