import t, { type Test } from 'tap'
import { setMaxListeners } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { stream, type Offset } from '@durable-streams/client'
import type { FastifyInstance } from 'fastify'
import { defineAgent } from '../../index.js'
import type { AgentEvent } from '../../schemas/index.js'
import { logOf, until } from '../support/delivery.js'
import { PlainEventSource } from '../support/event-stream.js'
import { newFolder } from '../support/lmdb.js'
import { startApp } from '../support/start-app.js'

const headers = { 'x-user-id': 'u' }
const PAUSE_MS = 2

interface Reader { events: AgentEvent[], error?: unknown }

/** The published client of Durable Streams. */
function durableStreams (url: string, live: 'long-poll' | 'sse', signal: AbortSignal, offset: Offset = '-1'): Reader {
  const reader: Reader = { events: [] }
  // An abort while it waits to come back is not heard by it: it would ask for ever.
  const fetchUntilAborted: typeof fetch = async (...args) => signal.aborted ? new Response(null, { status: 410 }) : fetch(...args)
  const read = async (): Promise<void> => {
    const response = await stream<AgentEvent>({ url, headers, live, offset, signal, json: true, fetch: fetchUntilAborted, warnOnHttp: false, backoffOptions: { initialDelay: 5, maxDelay: 50, multiplier: 1.3 } })
    response.subscribeJson(({ items }) => { reader.events.push(...items) })
    await response.closed
  }
  read().catch((error) => { if (!signal.aborted) reader.error = error })
  return reader
}

/** What anybody writes who only has fetch. */
function fetchPolling (url: string, signal: AbortSignal): Reader {
  const reader: Reader = { events: [] }
  const read = async (): Promise<void> => {
    for (let offset = '-1'; !signal.aborted;) {
      let answer: Response
      try {
        answer = await fetch(`${url}?live=long-poll&offset=${offset}`, { headers, signal })
        if (answer.status !== 503) {
          if (!answer.ok) throw Object.assign(new Error(`status ${answer.status}`), { isFinal: true })
          if (answer.status === 200) reader.events.push(...await answer.json() as AgentEvent[])
          offset = answer.headers.get('stream-next-offset')!
          continue
        }
      } catch (error) {
        if ((error as { isFinal?: true }).isFinal) throw error
      }
      await setTimeout(5)
    }
  }
  read().catch((error) => { reader.error = error })
  return reader
}

/** First the app: whoever aborts a fetch opens its next connection already, and Node lets such a one wait for a minute. */
async function close (t: Test, app: FastifyInstance, readers: AbortController): Promise<void> {
  await app.close()
  readers.abort()
  t.same([app.notifier.hub.streams.size, app.notifier.hub.feeds.size], [0, 0], 'every listener is freed')
}

const talker = defineAgent({
  name: 'talker',
  description: 'Says one thing after the other',
  async run (_input, ctx) {
    for (let i = 0; i < 60; i++) {
      await ctx.think(`${i}`)
      await setTimeout(PAUSE_MS, undefined, { signal: ctx.signal })
    }
    await ctx.say('the end')
  }
})

t.test('a live run to its end, and through a restart of the server', async (t) => {
  const folder = await newFolder(t)
  const open = (port = 0) => startApp(t, { store: { lmdb: folder }, agents: [talker], longPollMs: 200 }, {}, undefined, port)
  let { app, url, port } = await open()
  await app.threads.register({ userId: 'u', threadId: 't1' })
  const events = `${url}/threads/t1/events`
  const over = new AbortController()
  setMaxListeners(0, over.signal)
  t.teardown(() => { over.abort() })
  const source = new PlainEventSource(t, `${events}?live=sse&offset=-1`, headers)
  const readers: Record<string, Reader> = {
    '@durable-streams/client, long-poll': durableStreams(events, 'long-poll', over.signal),
    '@durable-streams/client, sse': durableStreams(events, 'sse', over.signal),
    'fetch polling': fetchPolling(events, over.signal),
    EventSource: source
  }
  const ends = (type: AgentEvent['type'], count: number) => until(() => Object.values(readers).every(({ events, error }) => error !== undefined || events.filter((event) => event.type === type).length >= count),
    () => `${count} ${type}: ${JSON.stringify(Object.entries(readers).map(([name, { events, error }]) => [name, events.length, String(error)]))}`, 30_000)
  const run = () => app.agents.run(talker, { userId: 'u', threadId: 't1', input: { message: 'x' } })

  await run()
  await ends('agent_completed', 1)
  const cut = run().catch(() => {})
  await ends('agent_started', 2)
  const before = Object.values(readers).map(({ events }) => events.length)
  await until(() => Object.values(readers).every(({ events }, i) => events.length > before[i]! + 10), 'the middle of the second run', 30_000)
  await app.close()
  await cut
  ;({ app, url, port } = await open(port))
  t.equal(events, `${url}/threads/t1/events`)
  await run()
  await ends('agent_completed', 3)

  const log = await logOf(app, 't1')
  t.ok(log.length > 130)
  for (const [name, { events, error }] of Object.entries(readers)) {
    t.equal(error, undefined)
    t.same(events.map(({ seq }) => seq), log.map(({ seq }) => seq), `${name}: every event once, in order`)
    t.same(events, log)
  }
  t.ok(source.streams.length > 1, 'the EventSource came back')
  await close(t, app, over)
  source.close()
})

t.test('the client of Durable Streams resumes from any event, and reads what is there', async (t) => {
  const { app, url } = await startApp(t, { longPollMs: 200 })
  await app.threads.register({ userId: 'u', threadId: 't1' })
  for (let i = 1; i <= 5; i++) await app.notifier.sendToThread('t1', { type: 'user_message', data: { content: `${i}` } })
  const log = await logOf(app, 't1')
  const events = `${url}/threads/t1/events`
  const over = new AbortController()
  setMaxListeners(0, over.signal)
  t.teardown(() => { over.abort() })
  const all = await stream<AgentEvent>({ url: events, headers, live: false, warnOnHttp: false })
  t.same(await all.json(), log)
  t.equal(all.offset, log[4]!.id)
  for (const live of ['long-poll', 'sse'] as const) {
    const reader = durableStreams(events, live, over.signal, log[1]!.id)
    await until(() => reader.events.length >= 3, 'the rest', 30_000)
    t.same(reader.events, log.slice(2), live)
  }
  await t.rejects(stream({ url: events, headers, live: false, offset: '000000000000-0000000001', warnOnHttp: false }), { status: 410 } as object as Error)
  await t.rejects(stream({ url: `${url}/threads/none/events`, headers, live: 'sse', offset: '-1', warnOnHttp: false }), { status: 404 } as object as Error)
  await close(t, app, over)
})

t.test('a log that moved on under the client of Durable Streams ends in a 410, never in a hole', async (t) => {
  const { app, url } = await startApp(t, { store: { memory: { retention: { maxEvents: 10 } } }, longPollMs: 200 })
  await app.threads.register({ userId: 'u', threadId: 't1' })
  const say = (content: string) => app.notifier.sendToThread('t1', { type: 'user_message', data: { content } })
  await say('1')
  const over = new AbortController()
  setMaxListeners(0, over.signal)
  t.teardown(() => { over.abort() })
  for (const live of ['long-poll', 'sse'] as const) {
    const reader = durableStreams(`${url}/threads/t1/events`, live, over.signal, 'now')
    await until(() => app.notifier.hub.streams.size === 1, 'the reader', 30_000)
    // In one turn, before anything of it is read.
    await Promise.all(Array.from({ length: 30 }, (_, i) => say(`${i}`)))
    await until(() => reader.error !== undefined, () => `the end of ${live}: ${reader.events.length} events`, 30_000)
    t.match(reader.error, { status: 410 }, live)
    t.same(reader.events, [])
  }
  await close(t, app, over)
})
