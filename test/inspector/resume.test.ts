import { test } from 'tap'
import { openBrowser } from '../support/browser.js'
import { get, post } from '../support/connect.js'
import { badge, fact, lastAnswer, open, readAs, row, savedLog, say, serverLog, startInspected, threadIdOf, until, untilRun } from './helpers.js'

test('offline during a run: the run goes on, and the page catches up with nothing missing and nothing twice', async (t) => {
  const { url, gates } = await startInspected(t)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  await say(page, 'Where is the station?')
  await row(page, 'tool', 'running').waitFor()
  const threadId = threadIdOf(page)
  await readAs(page, 'Offline')
  await badge(page, 'offline')
  const before = await fact(page, 'received')

  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  await until(async () => (await serverLog(url, threadId)).at(-1)?.type === 'agent_completed', 'the run to end without the page')
  t.equal(await fact(page, 'received'), before, 'nothing reaches a page that is offline')
  t.equal(await row(page, 'tool', 'running').count(), 1, 'and it does not believe that the run has ended')

  await readAs(page, 'Full speed')
  await badge(page, 'live')
  await untilRun(page, 'success')
  const log = await serverLog(url, threadId)
  t.same(await savedLog(page), log)
  t.equal(await fact(page, 'received'), log.length)
  t.equal(await fact(page, 'caught'), log.length - before)
  t.equal(await fact(page, 'missing'), 0)
  t.equal(await fact(page, 'doubled'), 0)
  t.match(await page.locator('#log .seam').textContent(), new RegExp(`^connection 2 over .*, resumed after ${before}$`))
  t.match(await lastAnswer(page).locator('.ticks').getAttribute('aria-label'), `${log.length - before} of them caught up after a reconnect`)
  await until(async () => (await page.getByRole('status').textContent())?.includes(`${log.length - before} events caught up, 0 missing`), 'the return to be announced')
})

test('the browser itself is offline during a run', async (t) => {
  const { url, gates } = await startInspected(t, { heartbeat: { intervalMs: 1_000, timeoutMs: 20_000 } })
  const browser = await openBrowser(t, {}, /ERR_INTERNET_DISCONNECTED|WebSocket/)
  const page = browser.pages()[0]!
  await open(page, url)
  await say(page, 'Where is the station?')
  await row(page, 'tool', 'running').waitFor()
  await browser.setOffline(true)
  await badge(page, 'offline')
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const threadId = threadIdOf(page)
  await until(async () => (await serverLog(url, threadId)).at(-1)?.type === 'agent_completed', 'the run to end without the page')
  t.equal(await row(page, 'tool', 'running').count(), 1, 'the page does not know yet')
  await browser.setOffline(false)
  await untilRun(page, 'success')
  t.same(await savedLog(page), await serverLog(url, threadId))
  t.equal(await fact(page, 'missing'), 0)
  t.equal(await fact(page, 'doubled'), 0)
})

test('a dropped connection comes back by itself, in the middle of an answer', async (t) => {
  const { url, gates } = await startInspected(t)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  await say(page, 'Where is the station?')
  gates.open('tool')
  await lastAnswer(page).locator('.answer', { hasText: 'It is on' }).waitFor()
  for (const gate of ['first', 'second']) {
    await page.getByRole('button', { name: 'Drop the connection' }).click()
    gates.open(gate)
    await badge(page, 'live')
  }
  await untilRun(page, 'success')
  t.equal(await lastAnswer(page).locator('.answer').innerText(), 'It is on page 21, at the end.')
  t.same(await savedLog(page), await serverLog(url, threadIdOf(page)))
  t.equal(await fact(page, 'missing'), 0)
  t.equal(await fact(page, 'doubled'), 0)
})

test('paused: the server sees what is not acknowledged, and reading on gives everything in order', async (t) => {
  const { url, gates } = await startInspected(t)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  await say(page, 'Where is the station?')
  await row(page, 'tool', 'running').waitFor()
  const threadId = threadIdOf(page)
  const before = await fact(page, 'received')
  await readAs(page, 'Paused')
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const unacknowledged = async () => {
    const { body } = await get(url, '/debug/websocket/connections', 'ada')
    return body.connections[0].threads.find((thread: { threadId: string }) => thread.threadId === threadId)?.unacknowledged
  }
  await until(async () => (await serverLog(url, threadId)).at(-1)?.type === 'agent_completed', 'the run to end')
  const log = await serverLog(url, threadId)
  await page.locator('#line-detail', { hasText: `${log.length - before} events held back` }).waitFor()
  t.equal(await fact(page, 'received'), before)
  // what was read before is acknowledged a little later
  await until(async () => await unacknowledged() === log.length - before, 'the server to see what is not acknowledged')
  t.ok(await page.locator('#badge[data-status="live"]').isVisible(), 'the connection itself is alive')

  await readAs(page, 'Slow')
  await until(async () => await fact(page, 'received') > before, 'the first of them')
  await readAs(page, 'Full speed')
  await untilRun(page, 'success')
  t.same(await savedLog(page), log)
  await until(async () => await unacknowledged() === 0, 'everything to be acknowledged')
})

test('a message that is sent offline waits, and starts one run', async (t) => {
  const { url, gates } = await startInspected(t)
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  await say(page, 'First')
  await untilRun(page, 'success')
  await readAs(page, 'Offline')
  await badge(page, 'offline')
  await say(page, 'Second')
  await page.locator('.pending', { hasText: 'Second' }).waitFor()
  t.match(await page.locator('.pending').innerText(), 'on its way')
  await readAs(page, 'Full speed')
  await until(async () => await page.locator('#messages > .agent[data-status="success"]').count() === 2, 'the second answer')
  t.equal(await page.locator('.pending').count(), 0)
  t.same(await savedLog(page), await serverLog(url, threadIdOf(page)))
})

test('what was lost by retention is said: the page begins anew, and its log says where', async (t) => {
  const { url, gates } = await startInspected(t, { store: { memory: { retention: { maxEvents: 8 } } } })
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  // A connection that takes long is an event stream meanwhile: there the lost place is a 410.
  const page = (await openBrowser(t, {}, /status of 410/)).pages()[0]!
  await open(page, url)
  await say(page, 'First')
  await untilRun(page, 'success')
  const threadId = threadIdOf(page)
  await readAs(page, 'Offline')
  await badge(page, 'offline')
  for (const content of ['Second', 'Third']) {
    const { body: { runId } } = await post(url, `/threads/${threadId}/messages`, 'ada', { content })
    await until(async () => {
      const last = (await serverLog(url, threadId)).at(-1)
      return last?.type === 'agent_completed' && last.runId === runId
    }, 'the run to end')
  }
  await readAs(page, 'Full speed')
  await page.locator('#log .seam', { hasText: 'its place was lost: read anew' }).waitFor()
  await untilRun(page, 'success')
  const log = await serverLog(url, threadId)
  t.ok(log[0]!.seq > 1)
  await until(async () => await fact(page, 'received') === log.length, 'what the server still has')
  t.same(await savedLog(page), log)
  await page.locator('#log .seam', { hasText: `1 to ${log[0]!.seq - 1} are no longer kept` }).waitFor()
  await page.getByRole('status').filter({ hasText: 'The place in the log was lost' }).waitFor({ state: 'attached' })
})

test('two tabs read one thread, each by itself; one that goes leaves the other alone', async (t) => {
  const { url, gates } = await startInspected(t)
  const browser = await openBrowser(t)
  const one = browser.pages()[0]!
  const other = await browser.newPage()
  await open(one, url)
  await say(one, 'Where is the station?')
  await row(one, 'tool', 'running').waitFor()
  await other.goto(one.url())
  await row(other, 'tool', 'running').waitFor()
  await readAs(other, 'Offline')
  await badge(other, 'offline')
  gates.open('tool')
  await row(one, 'tool', 'ok').waitFor()
  t.equal(await row(other, 'tool', 'running').count(), 1)
  gates.open('first')
  await readAs(other, 'Full speed')
  await row(other, 'tool', 'ok').waitFor()
  gates.open('second')
  for (const page of [one, other]) {
    await untilRun(page, 'success')
    t.same(await savedLog(page), await serverLog(url, threadIdOf(one)))
    t.equal(await fact(page, 'doubled'), 0)
    t.equal(await fact(page, 'missing'), 0)
  }
  await other.close()
  await say(one, 'And back?')
  await until(async () => await one.locator('#messages > .agent[data-status="success"]').count() === 2, 'the second answer')
  t.same(await savedLog(one), await serverLog(url, threadIdOf(one)))
})
