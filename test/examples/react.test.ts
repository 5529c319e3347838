import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import type { Locator, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { createClient, type AgentEvent, type Client } from '../../client/index.js'
import { initialState, reduce } from '../../client/state/index.js'
import { openBrowser } from '../support/browser.js'
import { get } from '../support/connect.js'
import { illegible, overflow } from '../support/look.js'
import { pack } from '../support/packed.js'
import { TcpProxy } from '../support/tcp-proxy.js'

/*
 * The example as its reader has it: copied out of the repository, with the packed package and what it names installed by
 * npm, built by Vite, and used in a browser.
 */

// npm downloads a hundred packages
t.comment('timeout=600000')

const PATH = `${dirname(process.execPath)}:${process.env['PATH']}`
const NETWORK = /ERR_|WebSocket|Failed to load/

const { folder, tarball } = await pack(t)
const project = join(folder, 'react')

/** Resolves with what it said when it has ended well. */
async function npm (...args: string[]): Promise<string> {
  const run = promisify(execFile)('npm', args, { cwd: project, env: { PATH } })
  const { stdout } = await run.catch((error: Error & { stdout: string, stderr: string }) => { throw new Error(`npm ${args.join(' ')}: ${error.stdout}${error.stderr}`) })
  return stdout
}

/** Runs a script in the background until the test ends. @returns the address that it says */
async function start (t: { teardown (fn: () => unknown): void }, args: readonly string[], port: number): Promise<string> {
  // in a group of its own, because npm starts others
  const child = spawn('npm', args, { cwd: project, env: { PATH, PORT: String(port) }, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  const closed = once(child, 'close')
  t.teardown(async () => {
    if (child.exitCode === null) process.kill(-child.pid!, 'SIGKILL')
    await closed
  })
  let said = ''
  return new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text
        const [address] = said.match(/http:\/\/[\w.[\]:]+:\d+/) ?? []
        if (address !== undefined) resolve(address)
      })
    }
    closed.then(([code]) => { reject(new Error(`npm ${args.join(' ')} ended with ${code}: ${said}`)) })
  })
}

await cp('examples/react', project, { recursive: true, filter: (path) => !/node_modules|dist$/.test(path) })
// what must not compile: each line that does is an error of the build
await writeFile(join(project, 'src/wrong.ts'), `
  import type { ToolPart } from 'fastify-agent-events/client/state'
  import { client, type Agents } from './client.js'
  // @ts-expect-error no such agent
  client.thread('t').send('hi', { agent: 'clark' })
  // @ts-expect-error no such tool
  export const tool: ToolPart<Agents>['tool'] = 'search_handbooks'
  // @ts-expect-error a parcel has a number
  export const args: Extract<ToolPart<Agents>, { tool: 'track_parcel', state: 'ok' }>['args'] = { parcel: '1042' }
`)
await npm('install', '--no-save', '--no-audit', '--no-fund', '--prefer-offline', tarball)
await npm('run', 'build')

t.test('of the server, only types are in the page', async (t) => {
  const files = await readdir(join(project, 'dist/assets'))
  const scripts = await Promise.all(files.filter((file) => file.endsWith('.js')).map((file) => readFile(join(project, 'dist/assets', file), 'utf8')))
  const page = scripts.join('\n')
  t.match(page, 'Parcels by bicycle')
  for (const text of ['We ride in any weather', 'Asks the couriers', 'inputSchema', '"node:']) t.notMatch(page, text)
})

interface Opened { page: Page, threadId: string, log (): Promise<AgentEvent[]> }

/** @param address of the page, if it is not the server's own */
async function open (t: Test, url: string, address = url): Promise<Opened> {
  const page = (await openBrowser(t, {}, NETWORK)).pages()[0]!
  await page.goto(address)
  await status(page, 'Live')
  const threadId = decodeURIComponent(new URL(page.url()).hash.slice(1))
  await listen(page, threadId)
  return { page, threadId, log: async () => (await get(url, `/agent-events/threads/${threadId}/events`, 'ada')).body }
}

interface Window { client: Client, received: AgentEvent[] }

/** Keeps what the page's client hands out, beside what the page does with it. */
async function listen (page: Page, threadId: string): Promise<void> {
  await page.evaluate((threadId) => {
    const own = globalThis as unknown as Window
    own.received = []
    const thread = own.client.thread(threadId)
    thread.onReset(() => { own.received = [] })
    thread.onAny((event) => { own.received.push(event) })
    thread.replay()
  }, threadId)
}

const received = (page: Page): Promise<AgentEvent[]> => page.evaluate(() => (globalThis as unknown as Window).received)

const status = (page: Page, text: string): Promise<void> => page.locator('header').getByRole('status').filter({ hasText: text }).waitFor()
const answers = (page: Page): Locator => page.getByRole('listitem', { name: 'Clerk' })
const cancelButton = (page: Page): Locator => page.getByRole('button', { name: 'Cancel' })

/** Resolves when the clerk is at work. */
async function ask (page: Page, question: string): Promise<void> {
  const before = await answers(page).count()
  await page.getByLabel('Your question').fill(question)
  await page.keyboard.press('Enter')
  await answers(page).nth(before).locator('.working').waitFor()
}

/** Every run that the page knows of has ended. */
async function rest (page: Page, answered: number): Promise<void> {
  await answers(page).nth(answered - 1).and(page.locator('[aria-busy="false"]')).waitFor()
  await cancelButton(page).waitFor({ state: 'detached' })
}

/** The texts of the conversation as they are on the page. */
async function shown (page: Page): Promise<string[]> {
  return (await page.getByRole('listitem').locator('.text, .step > summary, p.step, .end').allInnerTexts()).map((text) => text.replace(/\s+/g, ' ').trim())
}

/** The same, from the log. */
function expected (log: readonly AgentEvent[]): string[] {
  const { messages, runs } = log.reduce((state, event) => reduce(state, event), initialState())
  return messages.flatMap(({ role, runId, parts }) => [
    ...parts.map((part) => {
      if (part.type === 'text' || part.type === 'thinking') return part.text
      if (part.type !== 'tool' || part.durationMs === undefined) throw new Error(`a part nobody expected: ${JSON.stringify(part)}`)
      const summary = part.error?.message ?? (part.tool === 'track_parcel' ? `${part.args.parcel} is at ${part.output.place}` : `${part.output.length} found`)
      return `${part.tool} ${summary} ${(part.durationMs / 1_000).toFixed(1)} s`
    }),
    ...role === 'assistant' && runs.some((run) => run.runId === runId && run.status === 'cancelled') ? ['You cancelled this.'] : []
  ])
}

/** The browser has got exactly what the server has stored, and the page shows it. */
async function equal (t: Test, { page, log }: Opened): Promise<void> {
  const stored = await log()
  t.equal(stored.at(-1)?.type, 'agent_completed')
  t.same(await received(page), stored, `${stored.length} events, each once and in order`)
  t.same(await shown(page), expected(stored))
}

t.test('in a browser', async (t) => {
  const url = await start(t, ['start'], 0)
  const { port } = new URL(url)

  t.test('a run, a reload in the middle of the next one, and a third that is cancelled', async (t) => {
    const opened = await open(t, url)
    const { page, threadId, log } = opened
    await page.getByRole('button', { name: 'Where is parcel 1042?' }).click()
    await cancelButton(page).waitFor()
    await page.locator('.tool[data-state="running"]', { hasText: 'asking' }).waitFor()
    await rest(page, 1)
    await equal(t, opened)
    t.ok((await received(page)).filter(({ type }) => type === 'assistant_message').length > 5, 'the answer was streamed')
    t.same((await shown(page)).at(-1), 'Your parcel is at the old bridge. It reaches you after Harbour, then Market, then Station.')
    await page.getByRole('status').filter({ hasText: /^Your parcel is at the old bridge/ }).waitFor({ state: 'attached' })

    await ask(page, 'Is parcel 9999 delivered or returned in the rain?')
    await page.reload()
    await status(page, 'Live')
    await listen(page, threadId)
    await rest(page, 2)
    await equal(t, opened)
    t.equal((await shown(page)).at(-1), 'I cannot find parcel 9999. Is the number right? You may send anything back within 30 days; the courier picks it up. Delivery takes two days, by bicycle. We ride in any weather.')

    await ask(page, 'Is parcel 1042 delivered or returned in the rain?')
    await cancelButton(page).click()
    await rest(page, 3)
    await equal(t, opened)
    t.match((await log()).at(-1), { type: 'agent_completed', data: { status: 'cancelled' } })
    t.equal(new URL(page.url()).hash, `#${threadId}`)

    await page.getByRole('link', { name: 'New chat' }).click()
    await page.getByRole('heading', { name: 'Ask the clerk' }).waitFor()
    t.not(new URL(page.url()).hash, `#${threadId}`)
  })

  t.test('offline: what happens elsewhere meanwhile, and what one wants to say oneself, come when it is back', async (t) => {
    const proxy = await TcpProxy.start(t, Number(port), { plain: true })
    const opened = await open(t, url, proxy.url)
    const { page, threadId } = opened
    await ask(page, 'Where is parcel 1042?')
    proxy.isDown = true
    proxy.cut()
    await status(page, 'Offline')
    await page.getByText('You are offline.').waitFor()
    await page.getByLabel('Your question').fill('Do you ride in the rain?')
    await page.getByRole('button', { name: 'Send' }).click()
    await page.locator('.unsent', { hasText: 'Do you ride in the rain?' }).waitFor()

    // the same person at another device
    const other = createClient({ url: `${url}/agent-events`, WebSocket })
    t.teardown(() => other.close())
    const before = (await received(page)).length
    await (await other.thread(threadId).send('How do I return something?')).result()
    t.equal((await received(page)).length, before, 'nothing reaches a page that is offline')
    t.equal(await answers(page).count(), 1)

    proxy.isDown = false
    await status(page, 'Live')
    await rest(page, 3)
    await page.locator('.unsent').waitFor({ state: 'detached' })
    await equal(t, opened)
    t.same((await page.getByRole('listitem', { name: 'You' }).allInnerTexts()), ['Where is parcel 1042?', 'How do I return something?', 'Do you ride in the rain?'])
  })

  t.test('the network is switched off in the developer tools and on again', async (t) => {
    const opened = await open(t, url)
    const { page, log } = opened
    await ask(page, 'Where is parcel 2077?')
    await page.context().setOffline(true)
    for (const deadline = Date.now() + 30_000; (await log()).at(-1)?.type !== 'agent_completed';) {
      if (Date.now() > deadline) throw new Error('the run did not end')
    }
    await page.context().setOffline(false)
    await rest(page, 1)
    await equal(t, opened)
  })

  t.test('it looks well: legible in light and dark, no wider than a telephone, every control with a name', async (t) => {
    const { page } = await open(t, url)
    const grounds = new Set<string>()
    for (const [at, colorScheme] of (['light', 'dark'] as const).entries()) {
      await page.emulateMedia({ colorScheme })
      t.same(await illegible(page), [], `${colorScheme}, before`)
      await ask(page, 'Is parcel 9999 returned in the rain?')
      t.same(await illegible(page), [], `${colorScheme}, at work`)
      await rest(page, at + 1)
      for (const summary of await answers(page).nth(at).locator('summary').all()) await summary.click()
      t.same(await illegible(page), [], `${colorScheme}, after`)
      grounds.add(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor))
    }
    t.equal(grounds.size, 2)
    await page.setViewportSize({ width: 360, height: 640 })
    t.equal(await overflow(page), 'none')
    t.same(await page.evaluate(() => [...document.querySelectorAll('button, a, input, summary')].filter((control) => ((control.getAttribute('aria-label') ?? control.textContent) || '').trim() === '').length), 0)
    t.ok(await page.locator('main').evaluate((main) => main.scrollTop > -1 && main.scrollHeight > main.clientHeight), 'it stays at its end')
  })

  t.test('where nobody serves the agents, the page says so', async (t) => {
    const gone = await TcpProxy.start(t, 0)
    const { port } = new URL(gone.url)
    await gone.close()
    const vite = await start(t, ['run', 'dev'], Number(port))
    const page = (await openBrowser(t, {}, NETWORK)).pages()[0]!
    await page.goto(vite)
    await page.getByRole('alert').filter({ hasText: 'Is the server running?' }).waitFor()
    t.pass()
  })

  t.test('with Vite in front, as in development', async (t) => {
    const vite = await start(t, ['run', 'dev'], Number(port))
    const opened = await open(t, url, vite)
    await ask(opened.page, 'Where is parcel 1042?')
    await rest(opened.page, 1)
    await equal(t, opened)
  })
})
