import type { FastifyRequest } from 'fastify'
import type { Test } from 'tap'
import { test } from 'tap'
import { openBrowser } from '../support/browser.js'
import { until } from '../inspector/helpers.js'
import { Gates, guideBehind } from '../support/guide.js'
import { startApp } from '../support/start-app.js'
import { TcpProxy } from '../support/tcp-proxy.js'
import { hostPage, openHost, receivedBy, sayInHost, untilEvent, untilStatus } from './host.js'

/** Long enough to begin with on a slow machine, short enough to wait for. */
const SHORT_MS = 4_000
const LONG_MS = 600_000

/** Who may come in, by a token that the page asks its host for; what the host gives next is up to the test. */
class Tokens {
  /** Lives of the tokens that are given next, in milliseconds; afterwards they are long. */
  readonly next: number[] = []
  given = 0
  readonly #ends = new Map<string, number>()

  give (): string {
    const token = `token_${++this.given}`
    this.#ends.set(token, Date.now() + (this.next.shift() ?? LONG_MS))
    return token
  }

  authenticate = async ({ headers }: FastifyRequest) => {
    const expiresAt = this.#ends.get(headers.authorization?.replace('Bearer ', '') ?? '') ?? 0
    return expiresAt > Date.now() ? { userId: 'ada', expiresAt } : null
  }
}

async function setup (t: Test) {
  const gates = new Gates()
  const tokens = new Tokens()
  const { app, port } = await startApp(t, { agents: [guideBehind(gates)], coalesceMs: 0, authenticate: tokens.authenticate }, {}, async (app) => {
    await app.register(hostPage)
    app.get('/token', async () => tokens.give())
  })
  const { threadId } = await app.threads.register({ userId: 'ada' })
  const proxy = await TcpProxy.start(t, port, { plain: true })
  const upgrades: string[] = []
  proxy.onRequest = (request) => {
    const [, path] = /^GET (\/ws\S*)/.exec(request) ?? []
    if (path !== undefined) upgrades.push(path)
    return undefined
  }
  const page = (await openBrowser(t, {}, /401|ERR_CONNECTION|WebSocket/)).pages()[0]!
  const log = async () => app.notifier.history(threadId)
  return { gates, tokens, proxy, upgrades, page, log, threadId }
}

test('the token expires in the middle of a run: the page asks for another one and goes on', async (t) => {
  const { gates, tokens, proxy, upgrades, page, log, threadId } = await setup(t)
  tokens.next.push(SHORT_MS)
  await openHost(page, proxy.url, { token: '', threadId })
  await sayInHost(page, 'Where is the station?')
  await untilEvent(page, 'tool_executing')
  t.equal(upgrades.length, 1, 'all of that with the first token')
  await until(() => upgrades.length === 2, 'the next connection')
  await untilStatus(page, 'live')
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  await untilEvent(page, 'agent_completed')
  t.same(await receivedBy(page), await log(), 'what the page has is the log')
  t.equal(tokens.given, 2)
  t.notMatch(upgrades.join(), 'token', 'tokens are shown in headers only')
  t.same(await page.evaluate(() => [host.resets, host.errors]), [0, []])
})

test('a stale token is retried once with another one', async (t) => {
  const { gates, tokens, proxy, page, log, threadId } = await setup(t)
  await openHost(page, proxy.url, { token: '', threadId })
  await sayInHost(page, 'Where is the station?')
  await untilEvent(page, 'tool_executing')
  tokens.next.push(0)
  proxy.cut()
  await until(() => tokens.given === 3, 'the stale token and another one')
  await untilStatus(page, 'live')
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  await untilEvent(page, 'agent_completed')
  t.same(await receivedBy(page), await log(), 'what the page has is the log')
  t.same(await page.evaluate(() => [host.resets, host.errors]), [0, []])
})

test('a token that stays stale ends it, and a page that is signed in again has the whole log', async (t) => {
  const { gates, tokens, proxy, page, log, threadId } = await setup(t)
  await openHost(page, proxy.url, { token: '', threadId })
  await sayInHost(page, 'Where is the station?')
  await untilEvent(page, 'tool_executing')
  tokens.next.push(0, 0)
  proxy.cut()
  await untilStatus(page, 'closed')
  t.equal(await page.evaluate(() => (host.client.error as { code?: string } | undefined)?.code), 'FAE_ERR_UNAUTHENTICATED')
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  await until(async () => (await log()).at(-1)?.type === 'agent_completed', 'the run to end without the page')
  t.equal(tokens.given, 3, 'it is not asked for a third time')

  await page.reload()
  await untilEvent(page, 'agent_completed')
  t.same(await receivedBy(page), await log(), 'what the page has is the log')
})
