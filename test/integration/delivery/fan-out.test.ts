import type { Socket } from 'node:net'
import t from 'tap'
import { connect } from '../../support/connect.js'
import { turn } from '../../support/delivery.js'
import { startApp } from '../../support/start-app.js'

const WATCHERS = 150
const EVENTS = 100

t.test('many watchers: events that come faster than they can be written share writes, each watcher gets each once and in order', async (t) => {
  const { app, url } = await startApp(t, { limits: { connectionsPerUser: WATCHERS } })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tabs = []
  for (let i = 0; i < WATCHERS; i++) {
    const tab = await connect(t, url, 'u')
    tab.send({ type: 'subscribe', threadId })
    await tab.frame('subscribed')
    tabs.push(tab)
  }
  const [reading, ...others] = tabs.map(({ socket }) => (socket as unknown as { _socket: Socket })._socket)
  let chunks = 0
  reading!.on('data', () => { chunks++ })
  // They share this process: what they would do with the events is not to slow the server down.
  for (const socket of others) socket.pause()
  for (let i = 0; i < EVENTS; i++) {
    await app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: String(i) } })
    await turn()
  }
  for (const socket of others) socket.resume()
  const expected = Array.from({ length: EVENTS }, (_, i) => i + 1)
  for (const tab of tabs) {
    await tab.until(() => tab.events().length >= EVENTS, 'all events', 30_000)
    t.same(tab.events().map(({ seq }) => seq), expected)
  }
  t.ok(chunks < EVENTS / 2, `${EVENTS} events came in ${chunks} pieces`)
  await app.notifier.sendToThread(threadId, { type: 'user_message', data: { content: 'later' } })
  for (const tab of tabs) await tab.until(() => tab.events().length > EVENTS, 'an event after the rest')
})
