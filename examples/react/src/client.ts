import { createClient } from 'fastify-agent-events/client'
import type { agents } from '../server.js' // a type: nothing of the server reaches the page

export type Agents = typeof agents

/** One for the whole page. It connects when a component shows a thread, and reconnects by itself. */
export const client = createClient<Agents>({ url: '/agent-events' })
// for the browser's console: client.thread(location.hash.slice(1)).onAny(console.log)
Object.assign(window, { client })

/** A thread of yours: this one, or without an id a new one. Its id is kept in the page's address, so that a reload shows it again. */
export async function openThread (id: string): Promise<string> {
  const response = await fetch('/agent-events/threads', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(id === '' ? {} : { threadId: id })
  })
  const { threadId, message } = await response.json()
  if (!response.ok) throw new Error(message)
  history.replaceState(null, '', `#${threadId}`)
  return threadId
}
