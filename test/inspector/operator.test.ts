import { test } from 'tap'
import { inspector } from '../../inspector/index.js'
import { readConfig } from '../../server/config.js'
import { buildServer } from '../../server/server.js'
import { openBrowser } from '../support/browser.js'
import { connect, post } from '../support/connect.js'
import { RedisServer } from '../support/redis-server.js'
import { startApp } from '../support/start-app.js'
import { OPERATOR, SECRET, hs256, inSeconds } from '../server/fixtures/tokens.js'
import { Gates, guideBehind } from '../support/guide.js'
import { badge, open, row, savedLog, say, startInspected, threadIdOf, until, untilRun } from './helpers.js'

test('connections, threads and mappings, as they change', async (t) => {
  const { url, gates } = await startInspected(t)
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url)
  await say(page, 'Where is the station?')
  await row(page, 'tool', 'running').waitFor()
  const threadId = threadIdOf(page)
  await page.getByRole('link', { name: 'Operator' }).click()
  const connections = page.locator('#connections tbody tr')
  await connections.first().waitFor()
  t.equal(await connections.count(), 1)
  t.match(await connections.innerText(), /ada[^]*live/)
  t.equal(await page.locator('#watched tbody code').first().getAttribute('title'), threadId)
  t.match(await page.locator('#watched tbody').innerText(), /guide running/)
  t.match(await page.locator('.mapping').getAttribute('aria-label'), '1 user, 1 connection, 1 thread.')
  t.equal(await page.locator('.mapping-line').count(), 2, 'user to connection, connection to thread')
  t.equal(await page.locator('.mapping-line.run').count(), 1, 'a run is at work there')

  await post(url, '/threads', 'dora', { threadId: 'unwatched' })
  await post(url, '/threads/unwatched/messages', 'dora', { content: 'And the harbour?' })
  await page.locator('#watched tbody', { hasText: 'dora' }).waitFor()
  t.equal(await page.locator('.mapping-line.run').count(), 2, 'from the user to the thread where nobody watches')

  const ben = await connect(t, url, 'ben <b>')
  await connections.nth(1).waitFor()
  t.match(await connections.nth(1).innerText(), 'ben <b>')
  t.match(await page.locator('#totals').innerText(), /^2\s+connections\s+2\s+users/)
  ben.close()
  await until(async () => await connections.count() === 1, 'ben to be gone')
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  await until(async () => await page.locator('.mapping-line.run').count() === 0, 'the run to be over')

  await page.getByRole('button', { name: 'Pause' }).click()
  await connect(t, url, 'cleo')
  const other = await page.context().newPage()
  await open(other, url, 'ada', '#/operator')
  await other.locator('#connections tbody tr', { hasText: 'cleo' }).waitFor()
  t.equal(await connections.count(), 1, 'another page has asked meanwhile, this one has not')
  t.match(await page.locator('#operator-note').textContent(), 'Paused')
  await page.getByRole('button', { name: 'Pause' }).click()
  await connections.nth(1).waitFor()
})

test('of many processes it says on which one each connection is', async (t) => {
  const redis = await RedisServer.start(t)
  const store = { redis: redis.url }
  const { url, app } = await startInspected(t, { store })
  const other = await startApp(t, { store, debug: true })
  await connect(t, other.url, 'ben')
  const page = (await openBrowser(t)).pages()[0]!
  await open(page, url, 'ada', '#/operator')
  const nodes = page.locator('#connections tbody td[data-head="Node"] code')
  await nodes.nth(1).waitFor()
  t.same((await nodes.evaluateAll((cells) => cells.map((cell) => cell.getAttribute('title')))).sort(), [app, other.app].map(({ threads }) => threads.store.node).sort())
  await page.locator('#operator-note', { hasText: 'What 2 of 2 processes know' }).waitFor()
})

test('where the debug endpoints are off, it says how to have them, and the rest works', async (t) => {
  const { url, gates } = await startInspected(t, { debug: false })
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const page = (await openBrowser(t, {}, /404/)).pages()[0]!
  await open(page, url)
  await page.getByRole('link', { name: 'Operator' }).click()
  await page.getByRole('heading', { name: 'The debug endpoints are off' }).waitFor()
  t.match(await page.locator('#operator-notice').innerText(), 'debug: true')
  t.notOk(await page.locator('#operator-body').isVisible())
  await page.getByRole('link', { name: 'Conversation' }).click()
  await say(page, 'Where is the station?')
  await untilRun(page, 'success')
})

test('behind the session of a host: its cookie opens everything, without it there is no page', async (t) => {
  const gates = new Gates()
  for (const gate of ['tool', 'first', 'second']) gates.open(gate)
  const isSignedIn = (cookie: string | undefined) => cookie === 'session=ada'
  const { url } = await startApp(t, {
    prefix: '/agent-events',
    agents: [guideBehind(gates)],
    authenticate: (request) => isSignedIn(request.headers.cookie) ? { userId: 'ada' } : null,
    debug: () => false
  }, {}, async (app) => {
    app.get('/login', async (_request, reply) => reply.header('set-cookie', 'session=ada; Path=/; HttpOnly; SameSite=Strict').type('text/html').send('<!doctype html><link rel="icon" href="data:,"><a href="/inspector">in</a>'))
    await app.register(async (scope) => {
      scope.addHook('onRequest', async (request, reply) => {
        if (!isSignedIn(request.headers.cookie)) return reply.code(401).type('text/html').send('<!doctype html>Sign in')
      })
      await scope.register(inspector, { prefix: '/inspector' })
    })
  })
  const page = (await openBrowser(t, {}, /40[134]|HTTP Authentication failed/)).pages()[0]!
  await page.goto(`${url}/inspector`)
  t.equal(await page.locator('body').innerText(), 'Sign in')
  await page.goto(`${url}/login`)
  await page.getByRole('link', { name: 'in' }).click()
  await badge(page, 'live')
  await page.waitForURL('**/inspector/#/new')
  t.notOk(await page.getByLabel('You are').isVisible(), 'the host knows who it is')
  await say(page, 'Where is the station?')
  await untilRun(page, 'success')
  await page.getByRole('link', { name: 'Operator' }).click()
  await page.getByRole('heading', { name: 'This is for operators' }).waitFor()
  await page.context().clearCookies()
  await page.getByRole('link', { name: 'Conversation' }).click()
  await page.getByRole('radio', { name: 'Offline' }).check()
  await page.getByRole('radio', { name: 'Full speed' }).check()
  await page.getByRole('alert').getByText('does not know you').waitFor()
})

test('the standalone server shows it at /, also to people with tokens', async (t) => {
  const app = await buildServer(readConfig({ LOG_LEVEL: 'silent', STORE: 'memory', AUTH: 'jwt', JWT_SECRET: SECRET, OPERATOR_TOKEN: OPERATOR }, {}))
  t.teardown(() => app.close())
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const token = hs256({ sub: 'ada' })
  const page = (await openBrowser(t, {}, /40[13]/)).pages()[0]!
  await page.goto(url)
  await page.getByRole('alert').getByText('asks for a token').waitFor()
  await page.getByLabel('Token', { exact: true }).fill(token)
  await page.getByLabel('Token', { exact: true }).press('Enter')
  await badge(page, 'live')
  await page.getByRole('button', { name: 'How do I resume after a reconnect?' }).click()
  await untilRun(page, 'success')
  await page.getByRole('button', { name: 'Drop the connection' }).click()
  await badge(page, 'live')
  await page.getByRole('link', { name: 'Operator' }).click()
  await page.getByRole('heading', { name: 'This is for operators' }).waitFor()
  await page.getByLabel("Operator's token").fill(OPERATOR)
  await page.getByLabel("Operator's token").press('Enter')
  await page.locator('#connections tbody tr', { hasText: 'ada' }).waitFor()
  t.notMatch(page.url(), token)
  t.equal(await page.evaluate(() => localStorage.length), 0, 'no token outlives its tab')
})

test('a token that expires: the page asks for another one, and goes on in the same thread', async (t) => {
  const app = await buildServer(readConfig({ LOG_LEVEL: 'silent', STORE: 'memory', AUTH: 'jwt', JWT_SECRET: SECRET }, {}))
  t.teardown(() => app.close())
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const headers = { authorization: `Bearer ${hs256({ sub: 'ada' })}`, 'content-type': 'application/json' }
  const ask = async (path: string, body?: unknown) => (await fetch(url + path, { headers, ...body !== undefined && { method: 'POST', body: JSON.stringify(body) } })).json()
  const { threadId } = await ask('/threads', {}) as { threadId: string }
  await ask(`/threads/${threadId}/messages`, { content: 'How do I resume after a reconnect?' })
  const page = (await openBrowser(t, {}, /40[13]/)).pages()[0]!
  await page.goto(`${url}/#/thread/${threadId}`)
  const token = page.getByLabel('Token', { exact: true })
  const paste = async (expiresInSeconds: number) => {
    await token.fill(hs256({ sub: 'ada', exp: inSeconds(expiresInSeconds) }))
    await token.press('Enter')
    await badge(page, 'live')
  }
  await paste(5)
  await badge(page, 'closed')
  await page.getByRole('alert').getByText('asks for a token').waitFor()

  await paste(600)
  await page.getByRole('alert').getByText('asks for a token').waitFor({ state: 'detached' })
  await untilRun(page, 'success')
  t.equal(threadIdOf(page), threadId)
  t.same(await savedLog(page), await ask(`/threads/${threadId}/events`))
})
