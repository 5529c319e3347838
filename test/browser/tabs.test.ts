import { test } from 'tap'
import { until } from '../inspector/helpers.js'
import { openBrowser } from '../support/browser.js'
import { get } from '../support/connect.js'
import { Gates, guideBehind } from '../support/guide.js'
import { startApp } from '../support/start-app.js'
import { endedLog, hostPage, openHost, receivedBy, sayInHost, untilEvent } from './host.js'

test('two tabs on one thread: both get everything, each acknowledges for itself, and one may go', async (t) => {
  const gates = new Gates()
  const { app, url } = await startApp(t, { agents: [guideBehind(gates)], coalesceMs: 0, debug: true }, {}, hostPage)
  const { threadId } = await app.threads.register({ userId: 'ada' })
  const browser = await openBrowser(t)
  const one = browser.pages()[0]!
  const other = await browser.newPage()
  await openHost(one, url, { userId: 'ada', threadId })
  await openHost(other, url, { userId: 'ada', threadId })

  await sayInHost(one, 'Where is the station?')
  for (const tab of [one, other]) await untilEvent(tab, 'tool_executing')
  await sayInHost(other, 'And back?')
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const log = await endedLog(url, threadId, 'ada', 2)
  for (const tab of [one, other]) {
    await untilEvent(tab, 'agent_completed', {}, 2)
    t.same(await receivedBy(tab), log, 'what the tab has is the log')
  }
  const unacknowledged = async () => {
    const { connections } = (await get(url, '/debug/websocket/connections', 'ada')).body as { connections: Array<{ threads: Array<{ unacknowledged: number }> }> }
    return connections.map(({ threads }) => threads[0]?.unacknowledged)
  }
  await until(async () => String(await unacknowledged()) === '0,0', 'both to have acknowledged everything')

  await other.close()
  await until(async () => (await unacknowledged()).length === 1, 'the other to be gone')
  await sayInHost(one, 'Thanks')
  await untilEvent(one, 'agent_completed', {}, 3)
  t.same(await receivedBy(one), await endedLog(url, threadId, 'ada', 3))
  t.same(await one.evaluate(() => [host.resets, host.errors]), [0, []])
})
