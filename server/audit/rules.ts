/*
 * What the audit says: one rule each, with why events can be lost there and what to do.
 */

export type Severity = 'high' | 'medium' | 'low'

export interface Rule { readonly severity: Severity, readonly why: string, readonly advice: string }

export const rules = {
  'several-registries': {
    severity: 'high',
    why: 'Each keeps agents or tools that the others do not know: what is wired to one reaches nobody who uses another.',
    advice: 'Register everything with one: app.agents.register(). Until then put the facades of fastify-agent-events/compat in their place, which all delegate to it.'
  },
  'unwired-registry': {
    severity: 'high',
    why: 'Nothing ever gives it a WebSocket manager: whatever its agents and tools send goes nowhere.',
    advice: 'Register its agents and tools with app.agents and app.tools: their runs cannot start without a notifier.'
  },
  'factory-bypass': {
    severity: 'high',
    why: 'This agent is made past every registry: nobody gives it a manager, counts it, ends it or cleans up after it.',
    advice: 'Register its definition and let app.agents.createForUser(name, { userId, threadId }) make it.'
  },
  'run-id-as-thread-id': {
    severity: 'high',
    why: "A run's id is used where a thread's belongs: no connection is found under it.",
    advice: 'Pass both, in fields of their own; a run resolves to its thread by look-up: app.threads.resolveRun(runId).'
  },
  'run-id-parsing': {
    severity: 'high',
    why: "A run's id is taken apart to find its thread: a thread whose own id looks alike leads to somebody else's.",
    advice: 'Look it up: app.threads.resolveRun(runId). Ids are never parsed for meaning.'
  },
  'unknown-manager-method': {
    severity: 'high',
    why: 'No WebSocket manager here has this method: the call throws, and the event is gone.',
    advice: 'Use ctx in an agent and app.notifier.sendToThread elsewhere. The WebSocketManager of fastify-agent-events/compat has both spellings meanwhile.'
  },
  'missing-terminal-event': {
    severity: 'high',
    why: 'What is begun here does not end on every way out: the user waits for ever.',
    advice: 'Let the registry say it: a run of app.agents has exactly one agent_completed, a tool call exactly one tool_completed, whatever happens.'
  },
  'direct-send': {
    severity: 'medium',
    why: 'This event goes past the registry: nothing checks it, keeps it for a reconnect or puts it in order.',
    advice: 'In an agent use ctx.think, ctx.say, ctx.tools and ctx.emit; elsewhere app.notifier.sendToThread(threadId, event).'
  },
  'fire-and-forget': {
    severity: 'medium',
    why: 'Nobody learns whether this was sent: a failure is silent, and what follows may overtake it.',
    advice: 'Await it, or use ctx, whose events are stored in call order whether awaited or not.'
  }
} as const satisfies Record<string, Rule>

export type RuleName = keyof typeof rules
