import { test } from 'tap'
import { openBrowser } from '../support/browser.js'
import { post } from '../support/connect.js'
import { illegible, nameless, overflow } from '../support/look.js'
import { badge, open, row, say, startInspected, threadIdOf, until, untilRun } from './helpers.js'

const LONG = 'Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenfabrik'.repeat(3)

test('at 360 pixels both views fit, also with texts that do not break', async (t) => {
  const { url, gates } = await startInspected(t)
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const page = (await openBrowser(t, { viewport: { width: 360, height: 740 } })).pages()[0]!
  await open(page, url)
  t.equal(await overflow(page), 'none', 'empty')
  const { body: { threadId } } = await post(url, '/threads', 'ada', { threadId: LONG.slice(0, 100), metadata: { title: LONG } })
  await page.goto(`${url}/inspector/#/thread/${encodeURIComponent(threadId)}`)
  await page.reload()
  await say(page, `${LONG}\n\n    ${LONG}\n| a | b |\n`)
  await untilRun(page, 'success')
  for (const summary of await page.locator('.row summary').all()) await summary.click()
  await page.locator('.detail pre').last().waitFor()
  t.equal(await overflow(page), 'none', 'a run with everything open')
  t.ok(await page.getByRole('button', { name: 'Send' }).isVisible())

  t.equal(await page.getByRole('link', { name: 'New thread' }).isVisible(), false, 'threads are folded away')
  await page.locator('#threads-fold > summary').click()
  t.equal(await overflow(page), 'none', 'the list of threads')
  await page.getByRole('link', { name: 'New thread' }).click()
  await page.getByRole('heading', { level: 1, name: 'New thread' }).waitFor()
  t.equal(await page.getByRole('link', { name: 'New thread' }).isVisible(), false, 'and again, once one is chosen')

  await page.getByRole('link', { name: 'Operator' }).click()
  await page.locator('#connections tbody tr').first().waitFor()
  t.equal(await overflow(page), 'none', 'the view of operators')
})

test('at 360 pixels the answer is followed, and who goes on to the log below stays there', async (t) => {
  const { url, gates } = await startInspected(t)
  const page = (await openBrowser(t, { viewport: { width: 360, height: 740 } })).pages()[0]!
  await open(page, url)
  for (let said = 1; said <= 3; said++) {
    await say(page, `Where is the station?${'\nPlease.'.repeat(8)}`)
    await row(page, 'tool', 'running').nth(0).waitFor()
    if (said === 3) break
    await page.getByRole('button', { name: 'Cancel the run' }).click()
    await untilRun(page, 'cancelled')
  }
  const isSeen = (selector: string) => page.locator(selector).last().evaluate((element) => {
    const { top, bottom } = element.getBoundingClientRect()
    return top >= 0 && bottom <= innerHeight + 1
  })
  /** Until it is drawn again, as it is ten times a second while a run is at work. */
  const redrawn = async () => {
    const time = page.locator('#messages > .agent:last-child .run-time')
    const before = await time.textContent()
    await until(async () => await time.textContent() !== before, 'the time to go on')
  }
  await until(() => isSeen('#messages .tick-row'), 'the end of the timeline to be seen')
  await page.evaluate(() => { scrollTo(0, document.documentElement.scrollHeight) })
  await redrawn()
  await redrawn()
  t.ok(await isSeen('#log'))
  await page.getByRole('button', { name: 'Drop the connection' }).click()
  gates.open('tool')
  await page.locator('#log .seam').waitFor()
})

test('everything can be done with the keyboard, and one sees where one is', async (t) => {
  const { url, gates } = await startInspected(t)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  /** Tabs on until something holds the focus; what holds it on the way must show it. */
  const tabTo = async (what: string) => {
    for (let steps = 0; steps < 60; steps++) {
      await page.keyboard.press('Tab')
      const focused = await page.evaluate(() => {
        const element = document.activeElement as HTMLElement
        const drawn = [element, element.nextElementSibling, element.closest('.composer')].filter((candidate) => candidate !== null).map((candidate) => getComputedStyle(candidate))
        const { width, height } = element.getBoundingClientRect()
        return {
          name: element.getAttribute('aria-label') ?? element.textContent?.trim(),
          value: (element as HTMLInputElement).value,
          id: element.id,
          isBody: element === document.body,
          isSeen: width > 0 && height > 0 && drawn.some(({ outlineStyle, outlineWidth }) => outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2)
        }
      })
      if (!focused.isBody) t.ok(focused.isSeen, `the focus is seen on ${focused.id || focused.name}`)
      if ([focused.id, focused.name, focused.value].includes(what)) return
    }
    t.fail(`${what} cannot be reached`)
  }

  await page.evaluate(() => { (document.activeElement as HTMLElement).blur() })
  await page.keyboard.press('Shift+Tab')
  await tabTo('skip')
  await page.keyboard.press('Enter')
  t.equal(await page.evaluate(() => document.activeElement?.id), 'user-main')
  await tabTo('message')
  await page.keyboard.type('Where is')
  await page.keyboard.press('Shift+Enter')
  await page.keyboard.type('the station?')
  await page.keyboard.press('Enter')
  await row(page, 'tool', 'running').waitFor()
  t.equal(await page.locator('.bubble').innerText(), 'Where is\nthe station?')

  await tabTo('full')
  await page.keyboard.press('ArrowRight')
  await page.keyboard.press('ArrowRight')
  t.ok(await page.getByRole('radio', { name: 'Paused' }).isChecked())
  await page.keyboard.press('ArrowLeft')
  await page.keyboard.press('ArrowLeft')
  t.ok(await page.getByRole('radio', { name: 'Full speed' }).isChecked())
  await tabTo('drop')
  await page.keyboard.press('Space')
  gates.open('tool')
  gates.open('first')
  await page.locator('#log .seam').waitFor()
  await row(page, 'text', 'streaming').waitFor()

  await page.locator('#skip').focus()
  await page.keyboard.press('Enter')
  await tabTo('Cancel the run')
  await page.keyboard.press('Tab')
  t.equal(await page.evaluate(() => document.activeElement?.tagName), 'SUMMARY', 'the lines of the timeline follow')
  await page.keyboard.press('Enter')
  await page.locator('.detail pre', { hasText: 'Reading the map' }).waitFor()
  await page.keyboard.press('Shift+Tab')
  await page.keyboard.press('Enter')
  await untilRun(page, 'cancelled')

  await page.locator('#skip').focus()
  await tabTo('to-operator')
  await page.keyboard.press('Enter')
  await page.locator('#connections tbody tr').first().waitFor()
  await tabTo('poll')
  await page.keyboard.press('Space')
  t.equal(await page.getByRole('button', { name: 'Pause' }).getAttribute('aria-pressed'), 'true')
})

test('light and dark, each legible; the choice stays', async (t) => {
  const { url, gates } = await startInspected(t)
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  const grounds = new Set<string>()
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme })
    await page.goto(`${url}/inspector/#/new`)
    t.same(await illegible(page), [], `${colorScheme}, empty`)
    await say(page, 'Where is the station? `code`')
    await untilRun(page, 'success')
    await page.getByRole('radio', { name: 'Offline' }).check()
    await badge(page, 'offline')
    await say(page, 'And back?')
    await page.locator('.pending').waitFor()
    t.same(await illegible(page), [], `${colorScheme}, offline`)
    await page.getByRole('radio', { name: 'Full speed' }).check()
    await until(async () => await page.locator('#messages > .agent[data-status="success"]').count() === 2, 'both answers')
    for (const summary of await page.locator('.row summary').all()) await summary.click()
    await page.mouse.move(0, 0)
    t.same(await illegible(page), [], `${colorScheme}, two runs`)
    await page.evaluate(() => { for (const row of document.querySelectorAll<HTMLElement>('#log-list [data-type]')) row.dataset['arrival'] = 'caught up' })
    t.same(await illegible(page), [], `${colorScheme}, all of it caught up`)
    await page.goto(`${url}/inspector/#/operator`)
    await page.locator('#connections tbody tr').first().waitFor()
    t.same(await illegible(page), [], `${colorScheme}, operators`)
    grounds.add(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor))
  }
  t.equal(grounds.size, 2)
  await page.evaluate(() => { document.documentElement.style.setProperty('--muted', '#555') })
  t.not((await illegible(page)).length, 0, 'what is not legible would be found')

  // it was dark by the system last
  const theme = page.getByRole('button', { name: 'Theme' })
  t.equal(await theme.textContent(), 'Theme: system')
  await theme.click()
  t.equal(await theme.textContent(), 'Theme: light')
  t.equal(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor), [...grounds][0])
  await page.reload()
  t.equal(await theme.textContent(), 'Theme: light')
  t.equal(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor), [...grounds][0])
})

test('people who ask for less motion get none', async (t) => {
  const { url } = await startInspected(t)
  const page = (await openBrowser(t, { reducedMotion: 'reduce' })).pages()[0]!
  await open(page, url)
  await say(page, 'Where is the station?')
  await row(page, 'tool', 'running').waitFor()
  const moving = () => page.evaluate(() => document.getAnimations().length)
  t.equal(await moving(), 0)
  await page.emulateMedia({ reducedMotion: 'no-preference' })
  await until(async () => await moving() > 0, 'the running bar to move for everybody else')
})

test('every control has a name, and headings have an order', async (t) => {
  const { url, gates } = await startInspected(t)
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  await say(page, 'Where is the station?')
  await untilRun(page, 'success')
  t.match(threadIdOf(page), /^thread_/)
  for (const hash of ['', '#/operator']) {
    if (hash !== '') await page.goto(`${url}/inspector/${hash}`)
    const problems = await page.evaluate(() => {
      const visible = (element: Element) => element.checkVisibility()
      const controls = [...document.querySelectorAll('button, a[href], input, select, textarea, summary')].filter(visible)
      const small = controls.filter((control) => {
        const { width, height } = control.getBoundingClientRect()
        return width < 24 || height < 24
      }).map(({ outerHTML }) => outerHTML)
      const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id)
      const doubled = ids.filter((id, at) => ids.indexOf(id) !== at)
      const lost = [...document.querySelectorAll('[aria-labelledby]')].map((element) => element.getAttribute('aria-labelledby')!).filter((id) => !ids.includes(id))
      return { small, doubled, lost, mains: [...document.querySelectorAll('main')].filter(visible).length, firsts: [...document.querySelectorAll('h1')].filter(visible).length }
    })
    t.same(problems, { small: [], doubled: [], lost: [], mains: 1, firsts: 1 })
    t.same(await nameless(page), [], 'as the browser tells them to who cannot see them')
  }
  await page.getByRole('button', { name: 'Theme' }).evaluate((button) => { button.textContent = '' })
  t.same(await nameless(page), ['button '], 'one without a name would be found')
})
