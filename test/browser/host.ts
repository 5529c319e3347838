import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { FastifyInstance } from 'fastify'
import type { Page } from 'playwright-core'
import type { AgentEvent } from '../../index.js'
import { serverLog, until } from '../inspector/helpers.js'

const entry = fileURLToPath(new URL('page.ts', import.meta.url))

/** A page at /page that uses the client as a host's bundler finds it: what is built, in pieces of which some load later. */
export async function hostPage (app: FastifyInstance): Promise<void> {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    splitting: true,
    write: false,
    outdir: '/page',
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    // not the sources, to which the project's own settings lead
    tsconfigRaw: '{}'
  })
  app.get('/page', async (_request, reply) => reply.type('text/html').send('<!doctype html><html lang="en"><title>Host</title><link rel="icon" href="data:,"><script type="module" src="/page/page.js"></script>'))
  for (const { path, text } of outputFiles) app.get(path, async (_request, reply) => reply.type('text/javascript').send(text))
}

/** Opens the page and waits until it is connected. @param query see page.ts */
export async function openHost (page: Page, url: string, query: Record<string, string>): Promise<void> {
  await page.goto(`${url}/page?${new URLSearchParams(query)}`)
  await untilStatus(page, 'live')
}

export async function untilStatus (page: Page, status: string): Promise<void> {
  await page.waitForFunction((status) => globalThis.host?.client.status === status, status)
}

/** Says something in the page's thread; resolves when the server has taken it. */
export async function sayInHost (page: Page, content: string): Promise<void> {
  await page.evaluate(async (content) => { await host.thread.send(content) }, content)
}

/** Waits for an event of this type in the page, of which this is a part. */
export async function untilEvent (page: Page, type: AgentEvent['type'], data: Record<string, string> = {}, count = 1): Promise<void> {
  await page.waitForFunction(({ type, data, count }) => host.received.filter(({ event }) => {
    const its = event.data as unknown as Record<string, unknown>
    return event.type === type && Object.entries(data).every(([name, value]) => its[name] === value)
  }).length >= count, { type, data, count })
}

export async function receivedBy (page: Page): Promise<AgentEvent[]> {
  return page.evaluate(() => host.received.map(({ event }) => event)) as Promise<AgentEvent[]>
}

/** The server's log once so many runs have ended in it. */
export async function endedLog (url: string, threadId: string, userId: string, runs = 1): Promise<AgentEvent[]> {
  let log: AgentEvent[] = []
  await until(async () => {
    log = await serverLog(url, threadId, userId)
    return log.filter(({ type }) => type === 'agent_completed').length >= runs
  }, `${runs} runs to end`)
  return log
}
