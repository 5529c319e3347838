import type { AgentEventsOptions, AnyAgent } from '../../index.js'
import type { AgentEvent, EventOf, EventType } from '../../schemas/index.js'
import { connect, type Receiver } from './connect.js'
import { startApp, type StartedApp } from './start-app.js'

export interface WatchedRun extends StartedApp {
  /** What the watcher got of the thread, from agent_started to agent_completed. */
  readonly events: AgentEvent[]
  readonly completed: EventOf<'agent_completed'>
  readonly tab: Receiver
  /** How execute() settled. */
  readonly result: unknown
  readonly error: (Error & { code?: string, cause?: unknown }) | undefined
  of<Type extends EventType> (type: Type): Array<EventOf<Type>>
}

/** Runs an agent once in a thread of the user 'u' that a socket watches. */
export async function watchRun (
  t: { teardown (fn: () => unknown): void },
  agent: AnyAgent,
  { input = { message: 'ping' }, options = {}, context }: { input?: unknown, options?: Partial<AgentEventsOptions>, context?: Record<string, unknown> } = {}
): Promise<WatchedRun> {
  const started = await startApp(t, { agents: [agent], ...options })
  const { threadId } = await started.app.threads.register({ userId: 'u' })
  const tab = await connect(t, started.url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  const instance = await started.app.agents.createForUser(agent.name, { userId: 'u', threadId, ...(context !== undefined && { context }) })
  let result: unknown
  let error: WatchedRun['error']
  try {
    result = await instance.execute(input)
  } catch (thrown) {
    error = thrown as Error
  }
  const completed = await tab.frame('agent_completed', (event) => event.runId === instance.runId)
  const events = tab.events(threadId)
  return { ...started, tab, result, error, completed, events, of: (type) => events.filter((event): event is EventOf<typeof type> => event.type === type) as never }
}
