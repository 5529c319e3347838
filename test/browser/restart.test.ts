import { test } from 'tap'
import { badge, fact, lastAnswer, open, row, savedLog, say, threadIdOf, until } from '../inspector/helpers.js'
import { openBrowser } from '../support/browser.js'
import { post } from '../support/connect.js'
import { endedLog, openHost, receivedBy, sayInHost, untilEvent, untilStatus } from './host.js'
import { ServerProcess } from './server-process.js'

const NETWORK = /ERR_CONNECTION|WebSocket/

test('the server is killed in the middle of an answer: the page is told that the run is lost, and goes on', async (t) => {
  const server = await ServerProcess.start(t)
  const { url } = server
  const { body: { threadId } } = await post(url, '/threads', 'ada')
  const page = (await openBrowser(t, {}, NETWORK)).pages()[0]!
  await openHost(page, url, { userId: 'ada', threadId })
  await sayInHost(page, 'Where is the station?')
  server.open('tool')
  await untilEvent(page, 'assistant_message', { text: 'It is on **page ' })

  await server.kill()
  await untilStatus(page, 'offline')
  await page.evaluate(() => { host.thread.send('Are you there?').catch((error) => { host.errors.push(String(error)) }) })
  await server.start()
  server.open('tool', 'first', 'second')
  await untilEvent(page, 'agent_completed', { status: 'lost' })
  await untilEvent(page, 'agent_completed', { status: 'success' })
  const log = await endedLog(url, threadId, 'ada', 2)
  t.same(await receivedBy(page), log, 'what the page has is the log')
  t.same(log.filter(({ type }) => type === 'user_message').length, 2, 'what was said meanwhile is said once')
  t.same(await page.evaluate(() => [host.resets, host.errors]), [0, []])
  t.equal(server.stderr, '')
})

test('the inspector, while the server is killed in the middle of an answer', async (t) => {
  const server = await ServerProcess.start(t)
  const { url } = server
  const page = (await openBrowser(t, {}, NETWORK)).pages()[0]!
  await open(page, url)
  await say(page, 'Where is the station?')
  server.open('tool')
  await lastAnswer(page).locator('.answer', { hasText: 'It is on' }).waitFor()

  await server.kill()
  await badge(page, 'offline')
  await say(page, 'Are you there?')
  await page.locator('.pending', { hasText: 'Are you there?' }).waitFor()
  await server.start()
  server.open('tool', 'first', 'second')
  await page.locator('#messages > .agent[data-status="lost"] .run-state', { hasText: 'lost with its process' }).waitFor()
  await page.locator('#messages > .agent[data-status="success"]').waitFor()
  await row(page, 'text', 'done').waitFor()
  t.equal(await lastAnswer(page).locator('.answer').innerText(), 'It is on page 14, at the end.')
  await until(async () => await page.locator('.pending').count() === 0, 'nothing to be on its way any more')
  t.same(await savedLog(page), await endedLog(url, threadIdOf(page), 'ada', 2), 'what the page has is the log')
  t.equal(await fact(page, 'missing'), 0)
  t.equal(await fact(page, 'doubled'), 0)
  t.equal(server.stderr, '')
})
