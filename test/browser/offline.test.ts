import { test } from 'tap'
import { openBrowser } from '../support/browser.js'
import { Gates, guideBehind } from '../support/guide.js'
import { startApp } from '../support/start-app.js'
import { TcpProxy } from '../support/tcp-proxy.js'
import { endedLog, hostPage, openHost, receivedBy, sayInHost, untilEvent, untilStatus } from './host.js'

/** Silent: the network takes and gives nothing, and no socket hears of it, only the page does. Cut: every socket ends, and no new one opens. */
for (const network of ['silent', 'cut'] as const) {
  test(`offline and back during a run, the network ${network}`, async (t) => {
    const gates = new Gates()
    const { app, url, port } = await startApp(t, { agents: [guideBehind(gates)], coalesceMs: 0, closeGraceMs: 100, heartbeat: { intervalMs: 60_000, timeoutMs: 60_000 } }, {}, hostPage)
    const { threadId } = await app.threads.register({ userId: 'ada' })
    const proxy = await TcpProxy.start(t, port, { plain: true })
    const browser = await openBrowser(t, {}, /ERR_INTERNET_DISCONNECTED|ERR_CONNECTION|WebSocket/)
    const page = browser.pages()[0]!
    await openHost(page, proxy.url, { userId: 'ada', threadId })
    await sayInHost(page, 'Where is the station?')
    await untilEvent(page, 'tool_executing')
    const before = (await receivedBy(page)).length

    await browser.setOffline(true)
    if (network === 'cut') {
      proxy.isDown = true
      proxy.cut()
    }
    await untilStatus(page, 'offline')
    for (const gate of ['tool', 'first', 'second']) gates.open(gate)
    await endedLog(url, threadId, 'ada')
    t.equal((await receivedBy(page)).length, before, 'nothing reaches a page that is offline')
    await page.evaluate(() => { host.thread.send('And back?').catch((error) => { host.errors.push(String(error)) }) })

    proxy.isDown = false
    await browser.setOffline(false)
    await untilEvent(page, 'agent_completed', { status: 'success' }, 2)
    await untilStatus(page, 'live')
    t.same(await receivedBy(page), await endedLog(url, threadId, 'ada', 2), 'what the page has is the log')
    t.same(await page.evaluate(() => [host.resets, host.errors]), [0, []])
  })
}
