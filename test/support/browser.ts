import { chromium, type Browser, type BrowserContext, type BrowserContextOptions } from 'playwright-core'
import tap from 'tap'

const ARGUMENTS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync']

interface Ends { teardown (fn: () => unknown): void, fail (message: string): void }

let launched: Promise<Browser> | undefined

/** One for all tests of a file, since starting it is what takes long. */
async function launch (): Promise<Browser> {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ARGUMENTS })
  tap.teardown(() => browser.close())
  return browser
}

/**
 * A real Chromium with one page and a profile of its own, closed with the test. What a page throws, logs as an error, or may
 * not do by its content security policy fails the test.
 * @param allowed messages of the console that belong to the test
 */
export async function openBrowser (t: Ends, options: BrowserContextOptions = {}, allowed = /^$/): Promise<BrowserContext> {
  const browser = await (launched ??= launch())
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  context.setDefaultTimeout(30_000)
  t.teardown(() => context.close())
  context.on('weberror', (error) => { t.fail(`the page threw ${error.error().stack}`) })
  context.on('console', (message) => {
    if (message.type() === 'error' && !allowed.test(message.text())) t.fail(`the page said: ${message.text()}`)
  })
  await context.newPage()
  return context
}
