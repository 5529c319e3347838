import type { AgentInfo, ToolInfo } from '../../schemas/index.js'

/** The plugins and what is registered in them, as a Mermaid flowchart. Nodes are numbered: a name may mean something to Mermaid. */
export function drawRegistry (store: string, agents: readonly AgentInfo[], tools: readonly ToolInfo[]): string {
  const toolNode = new Map(tools.map(({ name }, i) => [name, `tool${i}`]))
  const agentNode = new Map(agents.map(({ name }, i) => [name, `agent${i}`]))
  const lines = [
    'flowchart TD',
    '  app["fastify app"] --> threads["thread-registry: app.threads"]',
    `  threads --> store[("store: ${store}")]`,
    '  app --> notifier["websocket-notifier: app.notifier"]',
    '  notifier --> threads',
    '  app --> dispatcher["tool-dispatcher: app.tools"]',
    '  dispatcher --> notifier',
    '  app --> registry["agent-registry: app.agents"]',
    '  registry --> dispatcher'
  ]
  for (const [name, node] of toolNode) lines.push(`  dispatcher --> ${node}["tool: ${name}"]`)
  for (const { name, tools: used, agents: called } of agents) {
    const node = agentNode.get(name)!
    lines.push(`  registry --> ${node}["agent: ${name}"]`)
    for (const tool of used) lines.push(`  ${node} -.-> ${toolNode.get(tool)!}`)
    for (const agent of called) lines.push(`  ${node} -.-> ${agentNode.get(agent)!}`)
  }
  return lines.join('\n') + '\n'
}
