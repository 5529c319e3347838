import t from 'tap'
import { WebSocket } from 'ws'
import { defineAgent, defineTool, Type } from '../../../index.js'
import { createClient, type AgentEvent } from '../../../client/index.js'
import { logOf, until } from '../../support/delivery.js'
import { startApp } from '../../support/start-app.js'
import { TcpProxy, type Fault } from '../../support/tcp-proxy.js'

const search = defineTool({
  name: 'search',
  description: 'Search the handbook',
  inputSchema: Type.Object({ query: Type.String() }),
  async execute ({ query }) { return { answer: query.toUpperCase() } }
})

const words = ['The', 'answer', 'is', 'forty', 'two']

const writer = defineAgent({
  name: 'writer',
  description: 'Thinks, uses a tool twice, streams its answer',
  tools: [search],
  async run ({ message }, ctx) {
    await ctx.think('Looking it up')
    const [first, second] = await Promise.all([ctx.tools.search({ query: message }), ctx.tools.search({ query: 'again' })])
    await ctx.emit('found', { count: 2 })
    await ctx.say((async function * () { for (const word of words) yield `${word} ` })())
    await ctx.say(`${first.answer} ${second.answer}`)
    return { answer: 42 }
  }
})

/** started, thinking, two calls (executing, completed), found, start and deltas and end of the answer, the last words, completed. */
const EVENTS = 1 + 1 + 4 + 1 + (words.length + 1) + 1 + 1

const faults: Array<[name: string, fault: Exclude<Fault, undefined>]> = [['cut', 'cut'], ['half-closed', 'halfClose'], ['stalled', 'stall']]

for (const [name, fault] of faults) {
  t.test(`a run whose client is ${name} after every single event in turn: the record is the log, nothing doubled (B4)`, async (t) => {
    const { app, port } = await startApp(t, {
      agents: [writer],
      events: { found: Type.Object({ count: Type.Number() }) },
      coalesceMs: 0,
      limits: { connectionsPerUser: 1_000 },
      // whoever is stalled is noticed by silence; short for the test only
      ...(fault === 'stall' && { heartbeat: { intervalMs: 40, timeoutMs: 40 } })
    })
    for (let cutAfter = 0; cutAfter <= EVENTS + 1; cutAfter++) {
      const userId = `user ${cutAfter}`
      const proxy = await TcpProxy.start(t, port)
      const { threadId } = await app.threads.register({ userId })
      let events = 0
      let isBroken = false
      proxy.onFrame = (text) => {
        if (text.startsWith('{"id":')) events++
        // 0 is the answer to the subscribe, before any event
        if (isBroken || events < cutAfter || (cutAfter === 0 && !text.includes('"subscribed"'))) return undefined
        isBroken = true
        return fault
      }
      const errors: unknown[] = []
      const client = createClient<typeof writer>({ url: proxy.url, query: { userId }, WebSocket, backoff: { initialMs: 1, maxMs: 5 }, ackMs: 1, onHandlerError: (error) => { errors.push(error) } })
      const thread = client.thread(threadId)
      const record: AgentEvent[] = []
      thread.onAny((event: AgentEvent) => { record.push(event) })
      thread.onReset(() => { errors.push('reset') })
      const run = await thread.send('what is the answer?')
      t.same(await run.result(), { answer: 42 }, `after ${cutAfter}`)
      const log = await logOf(app, threadId)
      t.equal(log.length, EVENTS + 1, 'the message and the run')
      await until(() => record.length >= log.length)
      await until(() => [...app.notifier.hub.connections.values()].some(({ user, subscriptions }) => user.userId === userId && subscriptions.get(threadId)?.acked === log.length), 'the last acknowledgement')
      t.same(record, log)
      t.same(errors, [])
      // a stalled client may still have the whole of a short run in its buffers
      if (fault !== 'stall') {
        await until(() => proxy.accepted > 1, 'the connection after the broken one')
        t.equal(proxy.accepted, 2, 'was broken once')
      }
      t.ok(isBroken)
      await client.close()
      await proxy.close()
    }
  })
}
