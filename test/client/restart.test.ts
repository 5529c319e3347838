import t from 'tap'
import { WebSocket } from 'ws'
import { createClient, type ClientOptions } from '../../client/index.js'
import { triage } from '../support/agents.js'
import { logOf } from '../support/delivery.js'
import { newFolder } from '../support/lmdb.js'
import { startApp } from '../support/start-app.js'
import { TcpProxy } from '../support/tcp-proxy.js'
import { until } from './helpers.js'
import { Log, step, walker } from './network.js'

t.test('the server is restarted in the middle of a run: the log goes on, and so does the client (B4, D2)', async (t) => {
  for (const transport of ['websocket', 'sse', 'polling'] as const) {
    await t.test(transport, async (t) => {
      const lmdb = await newFolder(t)
      const options = { agents: [triage, walker], store: { lmdb }, closeGraceMs: 50 }
      // fetch may open a connection and send nothing on it, which would hold the close
      const first = await startApp(t, options, { forceCloseConnections: true })
      const proxy = await TcpProxy.start(t, first.port, { plain: true })
      const { threadId } = await first.app.threads.register({ userId: 'u' })
      const errors: unknown[] = []
      const settings: ClientOptions = { url: proxy.url, query: { userId: 'u' }, WebSocket, transport, backoff: { initialMs: 2, maxMs: 20 }, onHandlerError: (error) => { errors.push(error) } }
      const client = createClient(settings)
      t.teardown(() => client.close())
      const log = new Log(client.thread(threadId))
      const run = await log.thread.send('3', { agent: 'walker' })
      await step()
      await until(() => log.ids.length >= 3)

      const closing = first.app.close()
      // taken, refused because it closes, or not even connected: it is one run in the end
      const sent = log.thread.send('ping', { agent: 'triage' })
      sent.catch(() => {})
      await closing
      proxy.isDown = true
      await until(() => client.status === 'offline' || client.status === 'connecting')
      const second = await startApp(t, options)
      proxy.port = second.port
      proxy.isDown = false

      await t.rejects(run.result(), 'the run did not survive, and that is said')
      await (await sent).completed
      const events = await logOf(second.app, threadId)
      await until(() => log.ids.length >= events.length)
      t.same(log.ids, events.map(({ id }) => id))
      t.equal(events.filter(({ type }) => type === 'agent_completed').length, 2)
      t.equal(log.resets, 0)
      t.equal(client.transport, transport)
      t.same(errors, [])
    })
  }
})
