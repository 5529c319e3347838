import type { Test } from 'tap'
import { legacyEvents } from '../../../plugins/compat/index.js'
import { connect, type Receiver } from '../../support/connect.js'
import { startApp, type StartedApp } from '../../support/start-app.js'
import type { AgentEventsOptions } from '../../../index.js'

/** An app that takes legacy messages, with one thread of the user 'u' that a socket watches. */
export async function startLegacy (t: Test, options: Partial<AgentEventsOptions> = {}): Promise<StartedApp & { tab: Receiver }> {
  const started = await startApp(t, { events: { ...legacyEvents }, closeGraceMs: 0, ...options })
  return { ...started, tab: await watchThread(t, started, 'u', 'thread_1') }
}

export async function watchThread (t: Test, { app, url }: StartedApp, userId: string, threadId: string): Promise<Receiver> {
  await app.threads.register({ userId, threadId })
  const tab = await connect(t, url, userId)
  tab.send({ type: 'subscribe', threadId })
  await tab.frame('subscribed')
  return tab
}

/** What a tab has of a thread once this custom event, sent last, is there: nothing else is under way. */
export async function settled (tab: Receiver, runId: string): Promise<string[]> {
  await tab.frame('agent_completed', (event) => event.runId === runId)
  return tab.events().filter((event) => event.runId === runId).map(({ type }) => type)
}
