import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { FAE_ERR_OPTION_INVALID } from '../../errors.js'
import { oncePerApp } from '../once-per-app.js'
import { LONGEST_TIMER_MS, checkIntegers } from '../options.js'
import type {} from '../tool-dispatcher/index.js'
import { Tracing, type TracingOptions } from '../tool-dispatcher/tracing.js'
import type { AnyAgent } from './define-agent.js'
import { MasterAgentRegistry } from './master-agent-registry.js'
import type { RunnerLimits } from './runner.js'

export interface AgentRegistryOptions extends Partial<RunnerLimits> {
  /** @default [] */
  agents?: readonly AnyAgent[]
  /** Who answers when neither the message nor the thread names an agent. @default the first one registered */
  defaultAgent?: string
  /**
   * Spans of OpenTelemetry, one for each run and one for each tool call; needs the package @opentelemetry/api. Without
   * arguments, results and messages unless `{ content: true }`. @default false
   */
  tracing?: boolean | TracingOptions
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Know agents, create them for users, run them, clean up after them. */
    readonly agents: MasterAgentRegistry
  }
}

async function plugin (app: FastifyInstance, { agents = [], defaultAgent, tracing, ...limits }: AgentRegistryOptions): Promise<void> {
  checkIntegers(limits, ['runsPerUser'], 1)
  checkIntegers(limits, ['runTimeoutMs', 'createdTimeoutMs'], 1, LONGEST_TIMER_MS)
  checkIntegers(limits, ['coalesceMs', 'closeGraceMs', 'unknownAgentMs'], 0, LONGEST_TIMER_MS)
  oncePerApp(app, 'fastify-agent-events/agent-registry')
  const registry = new MasterAgentRegistry(app.threads, app.tools, {
    runTimeoutMs: limits.runTimeoutMs ?? 600_000,
    createdTimeoutMs: limits.createdTimeoutMs ?? 60_000,
    runsPerUser: limits.runsPerUser ?? 1_000,
    coalesceMs: limits.coalesceMs ?? 30,
    closeGraceMs: limits.closeGraceMs ?? 5_000,
    unknownAgentMs: limits.unknownAgentMs ?? 30_000
  }, app.log.child({ plugin: 'agent-registry' }), defaultAgent, await Tracing.load(tracing))
  registry.setNotifier(app.notifier)
  if (!Array.isArray(agents)) throw new FAE_ERR_OPTION_INVALID('agents', 'expected a list of agents')
  for (const agent of agents) registry.register(agent)
  app.addHook('onReady', async () => {
    // Agents may have been registered since.
    if (defaultAgent !== undefined && !registry.list().some(({ name }) => name === defaultAgent)) throw new FAE_ERR_OPTION_INVALID('defaultAgent', `no agent is registered as '${defaultAgent}'`)
  })
  app.decorate('agents', { getter: () => registry })
  app.addHook('preClose', () => registry.close())
}

const agentRegistry = fp(plugin, {
  fastify: '5.x',
  name: 'fastify-agent-events/agent-registry',
  dependencies: ['fastify-agent-events/tool-dispatcher'],
  decorators: { fastify: ['threads', 'notifier', 'tools'] }
})
export default agentRegistry
export { agentRegistry, MasterAgentRegistry }
export { defineAgent } from './define-agent.js'
export type { Agent, AgentContext, AgentInstance, AnyAgent, ConversationMessage, CreateOptions, InputOf, OutputOf } from './define-agent.js'
export type { LiveRun, SendMessage } from './master-agent-registry.js'
export type { RunnerLimits } from './runner.js'
export type { TracingOptions } from '../tool-dispatcher/tracing.js'
