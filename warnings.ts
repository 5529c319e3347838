import processWarning from 'process-warning'

/*
 * The ledger of warning codes. A code that was published once must not be reused for anything else.
 *
 *   FAE_DEP001  app.notifier.sendMessage
 *   FAE_DEP002  compat: setWebSocketManager of any registry
 *   FAE_DEP003  compat: AgentRegistry, registering
 *   FAE_DEP004  compat: AgentRegistry, looking up
 *   FAE_DEP005  compat: UniversalRegistry, registering
 *   FAE_DEP006  compat: UniversalRegistry, looking up
 *   FAE_DEP007  compat: ToolRegistry, registering
 *   FAE_DEP008  compat: ToolRegistry, looking up
 *   FAE_DEP009  compat: agentInstanceFactory.create
 *   FAE_DEP010  compat: WebSocketManager, sending
 *   FAE_DEP011  compat: class-based agents with execute()
 *   FAE_WRN001  compat: a legacy agent_started or agent_completed was swallowed
 */

function deprecate (code: string, message: string): () => void {
  return processWarning.createDeprecation({ code, message })
}

export const FAE_DEP001 = processWarning.createDeprecation({
  code: 'FAE_DEP001',
  message: 'app.notifier.sendMessage(threadId, event) is deprecated. Use app.notifier.sendToThread(threadId, event).'
})

export const FAE_DEP002 = deprecate('FAE_DEP002', 'setWebSocketManager is deprecated. Leave the call out: the plugin sets the one notifier of the app itself.')
export const FAE_DEP003 = deprecate('FAE_DEP003', 'AgentRegistry.registerAgent is deprecated. Use app.agents.register(defineAgent({ … })).')
export const FAE_DEP004 = deprecate('FAE_DEP004', 'AgentRegistry.getAgent is deprecated. Use app.agents.createForUser(name, { userId, threadId }), and app.agents.list() for what there is.')
export const FAE_DEP005 = deprecate('FAE_DEP005', 'UniversalRegistry.registerAgent is deprecated. Use app.agents.register(defineAgent({ … })).')
export const FAE_DEP006 = deprecate('FAE_DEP006', 'UniversalRegistry.getAgent is deprecated. Use app.agents.createForUser(name, { userId, threadId }), and app.agents.list() for what there is.')
export const FAE_DEP007 = deprecate('FAE_DEP007', 'ToolRegistry.registerTools is deprecated. Use app.tools.register(defineTool({ … })), or list the tools in defineAgent({ tools }).')
export const FAE_DEP008 = deprecate('FAE_DEP008', 'ToolRegistry.getTool is deprecated. Call ctx.tools.<name>(input) in the agent, and app.tools.list() for what there is.')
export const FAE_DEP009 = deprecate('FAE_DEP009', 'agentInstanceFactory.create is deprecated. Use app.agents.createForUser(name, { userId, threadId }).')
export const FAE_DEP010 = deprecate('FAE_DEP010', 'WebSocketManager.sendMessage is deprecated. In an agent use ctx.think, ctx.say, ctx.tools and ctx.emit; elsewhere app.notifier.sendToThread(threadId, event).')
export const FAE_DEP011 = deprecate('FAE_DEP011', 'Agents that are objects or classes with execute() are deprecated. Use defineAgent({ name, description, run (input, ctx) { … } }).')

export const FAE_WRN001 = processWarning.createWarning({
  name: 'FastifyAgentEventsWarning',
  code: 'FAE_WRN001',
  message: 'An agent sent its own agent_started or agent_completed. It was left out: the registry emits both, once each. Remove the call.'
})
