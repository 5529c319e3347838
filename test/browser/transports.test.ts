import { test } from 'tap'
import { openBrowser } from '../support/browser.js'
import { Gates, guideBehind } from '../support/guide.js'
import { startApp } from '../support/start-app.js'
import { TcpProxy } from '../support/tcp-proxy.js'
import { endedLog, hostPage, openHost, receivedBy, sayInHost, untilEvent } from './host.js'

test('WebSocket blocked, streams held back as well, and all of it free again: one run, carried by each in turn', async (t) => {
  const gates = new Gates()
  const { app, url, port } = await startApp(t, { agents: [guideBehind(gates)], coalesceMs: 0 }, {}, hostPage)
  const { threadId } = await app.threads.register({ userId: 'ada' })
  const proxy = await TcpProxy.start(t, port, { plain: true })
  const blocked = new Set<'upgrades' | 'streams'>()
  proxy.onRequest = (request) => {
    if (blocked.has('upgrades') && /^GET \/ws/.test(request)) return 'cut'
    // as proxies do that gather an answer before they pass it on
    return blocked.has('streams') && /^GET \S*live=sse/.test(request) ? 'stall' : undefined
  }
  const page = (await openBrowser(t, {}, /ERR_|WebSocket/)).pages()[0]!
  const untilTransport = (transport: string) => page.waitForFunction((transport) => host.client.transport === transport, transport)
  await openHost(page, proxy.url, { userId: 'ada', threadId })
  await untilTransport('websocket')
  await sayInHost(page, 'Where is the station?')
  await untilEvent(page, 'tool_executing')

  blocked.add('upgrades')
  proxy.cut()
  await untilTransport('sse')
  gates.open('tool')
  await untilEvent(page, 'assistant_message', { phase: 'start' })

  blocked.add('streams')
  proxy.cut()
  await untilTransport('polling')
  t.equal(await page.evaluate(() => host.client.status), 'degraded', 'the page is told that it is slower')
  gates.open('first')
  await untilEvent(page, 'assistant_message', { phase: 'delta' })

  blocked.clear()
  await untilTransport('websocket')
  gates.open('second')
  await untilEvent(page, 'agent_completed')

  t.same(await receivedBy(page), await endedLog(url, threadId, 'ada'), 'what the page has is the log')
  const carriers = await page.evaluate(() => host.received.map(({ transport }) => transport))
  t.same(carriers.filter((transport, at) => transport !== carriers[at - 1]), ['websocket', 'sse', 'polling', 'websocket'])
  t.same(await page.evaluate(() => [host.resets, host.errors]), [0, []])
})
