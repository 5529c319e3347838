import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium, type BrowserContext, type BrowserContextOptions } from 'playwright-core'

const ARGUMENTS = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

interface Ends { teardown (fn: () => unknown): void, fail (message: string): void }

/**
 * A real Chromium with a profile of its own, closed with the test. What a page throws, logs as an error, or may not do by
 * its content security policy fails the test.
 * @param allowed messages of the console that belong to the test
 */
export async function openBrowser (t: Ends, options: BrowserContextOptions = {}, allowed = /^$/): Promise<BrowserContext> {
  const profile = await mkdtemp(join(tmpdir(), 'chromium-'))
  const context = await chromium.launchPersistentContext(profile, { executablePath: '/usr/bin/chromium', args: ARGUMENTS, viewport: { width: 1280, height: 800 }, ...options })
  context.setDefaultTimeout(15_000)
  t.teardown(async () => {
    await context.close()
    await rm(profile, { recursive: true, force: true })
  })
  context.on('weberror', (error) => { t.fail(`the page threw ${error.error().stack}`) })
  context.on('console', (message) => {
    if (message.type() === 'error' && !allowed.test(message.text())) t.fail(`the page said: ${message.text()}`)
  })
  return context
}
