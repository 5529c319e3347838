import { test } from 'tap'
import { openBrowser } from '../support/browser.js'
import { Gates, guideBehind } from '../support/guide.js'
import { freePort } from '../support/redis-server.js'
import { startApp } from '../support/start-app.js'
import { endedLog, hostPage, openHost, receivedBy, sayInHost, untilEvent, untilStatus } from './host.js'

test('reloads during a run: the page goes on where it was, and nothing is missing', async (t) => {
  const gates = new Gates()
  const { app, url } = await startApp(t, { agents: [guideBehind(gates)], coalesceMs: 0 }, {}, hostPage)
  const { threadId } = await app.threads.register({ userId: 'ada' })
  const page = (await openBrowser(t)).pages()[0]!
  await openHost(page, url, { userId: 'ada', threadId, kept: '' })
  await sayInHost(page, 'Where is the station?')
  await untilEvent(page, 'tool_executing', { phase: 'start' })
  const last = (await receivedBy(page)).at(-1)!
  await page.waitForFunction((id) => Object.values(localStorage).includes(id), last.id)

  await page.reload()
  await untilStatus(page, 'live')
  gates.open('tool')
  await untilEvent(page, 'assistant_message')
  t.same((await receivedBy(page)).filter(({ seq }) => seq <= last.seq).map(({ seq }) => seq), Array.from({ length: last.seq }, (_, at) => at + 1), 'what was kept does not come again')

  // at any moment: a cursor that was not kept yet may bring some of them again
  gates.open('first')
  await page.reload()
  gates.open('second')
  await page.reload()
  await untilEvent(page, 'agent_completed')
  const received = await receivedBy(page)
  const log = await endedLog(url, threadId, 'ada')
  const byId = new Map(received.map((event) => [event.id, event]))
  t.same([...byId.values()], log, 'what the loads have together is the log, in its order')
  t.same(received, received.map(({ id }) => byId.get(id)), 'and what came twice was the same')
  t.same(await page.evaluate(() => [host.resets, host.errors]), [0, []])
})

test('a kept cursor of another life of the log: the page is told to begin anew', async (t) => {
  const gates = new Gates()
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const options = { agents: [guideBehind(gates)], coalesceMs: 0 }
  const port = await freePort()
  const first = await startApp(t, options, {}, hostPage, port)
  await first.app.threads.register({ userId: 'ada', threadId: 't' })
  const page = (await openBrowser(t, {}, /ERR_|WebSocket/)).pages()[0]!
  await openHost(page, first.url, { userId: 'ada', threadId: 't', kept: '' })
  await sayInHost(page, 'Where is the station?')
  await untilEvent(page, 'agent_completed')
  const { id } = (await receivedBy(page)).at(-1)!
  await page.waitForFunction((id) => Object.values(localStorage).includes(id), id)
  await first.app.close()

  // memory: all is forgotten, and the same thread begins again
  const second = await startApp(t, options, {}, hostPage, port)
  await second.app.threads.register({ userId: 'ada', threadId: 't' })
  await page.reload()
  await page.waitForFunction(() => host.resets === 1)
  await sayInHost(page, 'And now?')
  await untilEvent(page, 'agent_completed')
  t.same(await receivedBy(page), await endedLog(second.url, 't', 'ada'), 'nothing of the other log is left')
})
