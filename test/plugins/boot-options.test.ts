import Fastify from 'fastify'
import t from 'tap'
import agentEvents, { type AgentEventsOptions } from '../../index.js'
import { search, triage } from '../support/agents.js'

const authenticate = () => ({ userId: 'u' })

t.test('an option that is wrong fails the boot with a code, and names itself', async (t) => {
  const wrong: Array<[unknown, string, RegExp]> = [
    [{ store: { memory: { retention: { maxEvents: 'x' } } } }, 'FAE_ERR_OPTION_INVALID', /maxEvents/],
    [{ store: { memory: { retention: { maxEvents: -1 } } } }, 'FAE_ERR_OPTION_INVALID', /maxEvents/],
    [{ store: { memory: { retention: { maxEvent: 1 } } } }, 'FAE_ERR_OPTION_INVALID', /retention\.maxEvent'.*unknown/],
    [{ store: 'disk' }, 'FAE_ERR_OPTION_INVALID', /store/],
    [{ limits: { framesPerSec: 1 } }, 'FAE_ERR_OPTION_INVALID', /limits\.framesPerSec/],
    [{ heartbeat: { interval: 1 } }, 'FAE_ERR_OPTION_INVALID', /heartbeat\.interval/],
    [{ lane: { maxEvents: 0 } }, 'FAE_ERR_OPTION_INVALID', /maxEvents/],
    [{ events: { x: { type: 'string' } } }, 'FAE_ERR_OPTION_INVALID', /events\.x/],
    [{ authorize: 5 }, 'FAE_ERR_OPTION_INVALID', /authorize/],
    [{ agents: triage }, 'FAE_ERR_OPTION_INVALID', /agents/],
    [{ agents: [{}] }, 'FAE_ERR_AGENT_INVALID', /defineAgent/],
    [{ agents: [search] }, 'FAE_ERR_AGENT_INVALID', /defineAgent/],
    [{ tools: search }, 'FAE_ERR_OPTION_INVALID', /tools/],
    [{ tools: [triage] }, 'FAE_ERR_TOOL_INVALID', /defineTool/],
    [{ agents: [triage], defaultAgent: 'nope' }, 'FAE_ERR_OPTION_INVALID', /defaultAgent.*nope/]
  ]
  for (const [options, code, message] of wrong) {
    const app = Fastify()
    app.register(agentEvents, { authenticate, ...options as Partial<AgentEventsOptions> })
    await t.rejects(Promise.resolve(app.ready()), { code, message }, JSON.stringify(options))
    await app.close().catch(() => {})
  }
})

t.test('an agent that is registered later may be the default', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(agentEvents, { authenticate, store: { memory: {} }, defaultAgent: 'triage' })
  app.agents.register(triage)
  await app.ready()
  t.match(app.agents.list(), [{ name: 'triage', default: true }])
})
