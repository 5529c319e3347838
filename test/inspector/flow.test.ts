import { test } from 'tap'
import { openBrowser } from '../support/browser.js'
import { connect, get, post } from '../support/connect.js'
import { badge, fact, lastAnswer, open, row, savedLog, say, serverLog, startInspected, threadIdOf, until, untilRun } from './helpers.js'

test('send, watch the thought, the tool and the answer as they come; the page has the log of the server', async (t) => {
  const { url, gates } = await startInspected(t)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  t.ok(await page.getByRole('heading', { name: 'Watch an agent at work' }).isVisible())

  await say(page, 'Where is the station?')
  await untilRun(page, 'running')
  const threadId = threadIdOf(page)
  t.match(threadId, /^thread_/)
  t.match(await row(page, 'thinking', 'done').textContent(), /Thought: Reading the map/)
  t.match(await row(page, 'tool', 'running').textContent(), /Tool: look_up/)
  t.equal(await row(page, 'text').count(), 0, 'no answer yet')
  await page.getByRole('status').filter({ hasText: 'guide is at work' }).waitFor({ state: 'attached' })

  gates.open('tool')
  await row(page, 'tool', 'ok').waitFor()
  await row(page, 'text', 'streaming').waitFor()
  await lastAnswer(page).locator('.answer', { hasText: 'It is on' }).waitFor()
  t.ok(await page.getByRole('button', { name: 'Cancel the run' }).isVisible())
  gates.open('first')
  await lastAnswer(page).locator('.answer strong', { hasText: 'page 21' }).waitFor()
  gates.open('second')
  await untilRun(page, 'success')
  t.equal(await lastAnswer(page).locator('.answer').innerText(), 'It is on page 21, at the end.')
  t.equal(await row(page, 'text', 'done').count(), 1)
  t.equal(await page.getByRole('button', { name: 'Cancel the run' }).count(), 0)
  await page.getByRole('status').filter({ hasText: 'guide: success' }).waitFor({ state: 'attached' })

  await row(page, 'tool').locator('summary').click()
  await row(page, 'tool').locator('.detail pre').last().waitFor()
  t.match(await row(page, 'tool').locator('.detail').innerText(), /Arguments[^]*"question": "Where is the station\?"[^]*Output[^]*"page": 21/)

  const bars = await page.locator('.row .bar').evaluateAll((bars) => bars.map((bar) => {
    const { left, right } = bar.getBoundingClientRect()
    const track = bar.parentElement!.getBoundingClientRect()
    return left >= track.left - 2 && right <= track.right + 2 && right > left
  }))
  t.same(bars, [true, true, true], 'every bar is drawn inside of its track')

  const log = await serverLog(url, threadId)
  t.equal(log.at(-1)!.type, 'agent_completed')
  t.same(await savedLog(page), log)
  t.same(await page.locator('#log [data-id]').evaluateAll((rows) => rows.map((row) => (row as HTMLElement).dataset.id)), log.map(({ id }) => id))
  t.equal(await fact(page, 'missing'), 0)
  t.equal(await fact(page, 'doubled'), 0)
})

test('threads: one begins with its first message, the list leads back to it, and a reload shows the same', async (t) => {
  const { url, gates } = await startInspected(t)
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  t.same((await get(url, '/threads', 'ada')).body.threads, [], 'looking makes no thread')

  await page.getByRole('button', { name: 'Where is the station?' }).click()
  await untilRun(page, 'success')
  const first = threadIdOf(page)
  await page.getByRole('link', { name: 'New thread' }).click()
  await page.getByRole('heading', { level: 1, name: 'New thread' }).waitFor()
  t.equal(await page.evaluate(() => document.activeElement?.id), 'message', 'ready to type')
  await say(page, 'And the harbour?')
  await untilRun(page, 'success')
  const second = threadIdOf(page)
  t.not(second, first)

  const list = page.getByRole('navigation', { name: 'Threads' })
  await list.getByRole('link', { name: 'And the harbour?' }).waitFor()
  t.equal(await list.locator('[aria-current="page"] .thread-title').textContent(), 'And the harbour?')
  await list.getByRole('link', { name: 'Where is the station?' }).click()
  await page.locator('.bubble', { hasText: 'Where is the station?' }).waitFor()
  t.equal(await page.locator('.bubble').count(), 1, 'the other thread is gone from the page')
  await untilRun(page, 'success')
  t.same(await savedLog(page), await serverLog(url, first))
  t.match(await page.title(), 'Where is the station?')

  await page.reload()
  await untilRun(page, 'success')
  t.equal(threadIdOf(page), first)
  t.equal(await page.getByLabel('You are').inputValue(), 'ada')
  t.same(await savedLog(page), await serverLog(url, first))
  await until(async () => await page.locator('.thread-facts').count() === 2, 'both threads')

  // somebody else has threads of their own
  await page.getByLabel('You are').fill('ben')
  await page.getByLabel('You are').press('Enter')
  await badge(page, 'live')
  await until(async () => await page.locator('.thread-facts').count() === 0, 'no thread of ada')
  t.equal(await page.locator('#messages > li').count(), 0)
})

test('what another one says in the thread appears by itself', async (t) => {
  const { url, gates } = await startInspected(t)
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const { body: { threadId } } = await post(url, '/threads', 'ada', { threadId: 'shared/thread #1', metadata: { title: 'Shared' } })
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url, 'ada', `#/thread/${encodeURIComponent(threadId)}`)
  await post(url, `/threads/${encodeURIComponent(threadId)}/messages`, 'ada', { content: 'From elsewhere' })
  await page.locator('.bubble', { hasText: 'From elsewhere' }).waitFor()
  await untilRun(page, 'success')
  t.same(await savedLog(page), await serverLog(url, encodeURIComponent(threadId)))
  t.equal(await page.locator('#thread-id').textContent(), threadId)
})

test('cancel: the run ends at once, and the focus is not lost', async (t) => {
  const { url } = await startInspected(t)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  await say(page, 'Never mind')
  await row(page, 'tool', 'running').waitFor()
  const watcher = await connect(t, url, 'ada')
  watcher.send({ type: 'subscribe', ref: '1', threadId: threadIdOf(page) })
  await page.getByRole('button', { name: 'Cancel the run' }).click()
  const { data } = await watcher.frame('agent_completed')
  t.equal(data.status, 'cancelled')
  await untilRun(page, 'cancelled')
  await row(page, 'tool', 'cancelled').waitFor()
  t.equal(await page.evaluate(() => document.activeElement?.id), 'message')
  t.same(await savedLog(page), await serverLog(url, threadIdOf(page)))
})

test('what the server refuses is said, and what was typed is not lost', async (t) => {
  const { app, url } = await startInspected(t)
  const page = (await openBrowser(t, {}, /404/)).pages()[0]!
  await open(page, url)
  await say(page, 'First')
  await row(page, 'tool', 'running').waitFor()
  await app.threads.delete(threadIdOf(page))
  await page.getByRole('alert').getByText('FAE_ERR_THREAD_NOT_FOUND').waitFor()
  await page.getByRole('button', { name: 'Close this message' }).click()
  await say(page, 'Still there?')
  await page.getByRole('alert').getByText('FAE_ERR_THREAD_NOT_FOUND').waitFor()
  t.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'Still there?')
})

test('texts of agents stay texts', async (t) => {
  const { url, gates } = await startInspected(t)
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const nasty = '<img src=x onerror=alert(1)> <script>alert(2)</script> [a](javascript:alert(3)) `<b>`'
  const page = (await openBrowser(t)).pages()[0]!
  page.on('dialog', (dialog) => { t.fail(`a script ran: ${dialog.message()}`) })
  const { body: { threadId } } = await post(url, '/threads', 'ada', { metadata: { title: nasty } })
  await open(page, url, 'ada', `#/thread/${threadId}`)
  await say(page, nasty)
  await untilRun(page, 'success')
  t.equal(await page.locator('.bubble').innerText(), nasty)
  t.equal(await page.locator('#user-view :is(img, script, b)').count(), 0)
  t.equal(await page.locator('a[href^="javascript"]').count(), 0)
})
