import { readdir } from 'node:fs/promises'
import { test } from 'tap'
import { openBrowser } from '../support/browser.js'
import { ReaderProject, readProjectFile, snippetsOf } from '../support/readme.js'
import { badge, lastAnswer, say, untilRun } from './helpers.js'

test('the app of docs/inspector.md shows the pages to who has a session, and the operator\'s view to operators', async (t) => {
  const snippets = snippetsOf(await readProjectFile('docs/inspector.md'))
  t.same(snippets.map(({ name }) => name), ['app.mjs', 'start'], 'every snippet is run here')
  const project = await ReaderProject.create(t, snippets)
  await project.save('app.mjs')
  await project.startShell('start')
  const url = `http://localhost:${project.port}`
  for (const path of ['/inspector/', '/inspector/assets/style.css']) t.equal((await fetch(url + path)).status, 401, 'nobody without a session')

  for (const [session, isOperator] of [['c7e2', true], ['f19b', false]] as const) {
    const browser = await openBrowser(t, {}, isOperator ? /^$/ : /40[13]/)
    await browser.addCookies([{ name: 'session', value: session, url }])
    const page = browser.pages()[0]!
    await page.goto(`${url}/inspector`)
    await badge(page, 'live')
    await say(page, 'hi')
    await untilRun(page, 'success')
    t.equal(await lastAnswer(page).locator('.answer').innerText(), 'Hello, you said: hi')
    await page.getByRole('link', { name: 'Operator' }).click()
    if (isOperator) await page.locator('#connections tbody tr', { hasText: 'ada' }).waitFor()
    else await page.getByRole('heading', { name: 'This is for operators' }).waitFor()
  }
})

test('docs/inspector.md shows pictures that are there', async (t) => {
  const page = await readProjectFile('docs/inspector.md')
  const pictures = [...page.matchAll(/[("]([^("]+\.png)[)"]/g)].map(([, path]) => path!)
  t.same(pictures.sort(), (await readdir('docs')).filter((name) => /^inspector.*\.png$/.test(name)).sort(), 'all there are')
  for (const picture of pictures) t.match((await readProjectFile(`docs/${picture}`)).slice(1, 4), 'PNG')
})
