import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { FAE_ERR_OPTION_INVALID } from '../../errors.js'
import { oncePerApp } from '../once-per-app.js'
import { LONGEST_TIMER_MS, checkIntegers } from '../options.js'
import type {} from '../websocket-notifier/index.js'
import type { AnyTool } from './define-tool.js'
import { ToolDispatcher } from './tool-dispatcher.js'

export interface ToolDispatcherOptions {
  /** @default [] */
  tools?: readonly AnyTool[]
  /** For tools that name no timeoutMs of their own. @default 60_000 */
  toolTimeoutMs?: number
}

declare module 'fastify' {
  interface FastifyInstance {
    /** All tools of the app. */
    readonly tools: ToolDispatcher
  }
}

async function plugin (app: FastifyInstance, { tools = [], toolTimeoutMs = 60_000 }: ToolDispatcherOptions): Promise<void> {
  checkIntegers({ toolTimeoutMs }, ['toolTimeoutMs'], 1, LONGEST_TIMER_MS)
  oncePerApp(app, 'fastify-agent-events/tool-dispatcher')
  const dispatcher = new ToolDispatcher(toolTimeoutMs)
  if (!Array.isArray(tools)) throw new FAE_ERR_OPTION_INVALID('tools', 'expected a list of tools')
  for (const tool of tools) dispatcher.register(tool)
  app.decorate('tools', { getter: () => dispatcher })
}

const toolDispatcher = fp(plugin, {
  fastify: '5.x',
  name: 'fastify-agent-events/tool-dispatcher',
  dependencies: ['fastify-agent-events/websocket-notifier'],
  decorators: { fastify: ['notifier'] }
})
export default toolDispatcher
export { toolDispatcher, ToolDispatcher }
export { defineTool } from './define-tool.js'
export type { AnyTool, Tool, ToolContext } from './define-tool.js'
