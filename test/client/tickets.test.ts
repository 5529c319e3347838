import { once } from 'node:events'
import t from 'tap'
import { WebSocket } from 'ws'
import { createClient, type ClientOptions } from '../../client/index.js'
import { triage } from '../support/agents.js'
import { startApp } from '../support/start-app.js'
import { TcpProxy } from '../support/tcp-proxy.js'
import { hasten, until } from './helpers.js'
import { Log, walker, step } from './network.js'

interface Test { teardown (fn: () => unknown): void }

/** Takes tokens as others would: by header only, each good for a while. */
class Tokens {
  readonly issued: string[] = []
  readonly seen: string[] = []
  readonly #expiry = new Map<string, number>()

  /** @param lifeMs 0 for a stale one */
  issue (lifeMs = 60_000): string {
    const token = `token_${this.issued.length}`
    this.issued.push(token)
    this.#expiry.set(token, Date.now() + lifeMs)
    return token
  }

  authenticate = async (request: { headers: { authorization?: string } }) => {
    const token = request.headers.authorization?.replace('Bearer ', '') ?? ''
    this.seen.push(token)
    const expiresAt = this.#expiry.get(token) ?? 0
    return expiresAt > Date.now() ? { userId: 'u', expiresAt } : null
  }
}

async function setup (t: Test, { nextToken, ...options }: Partial<ClientOptions> & { nextToken?: (tokens: Tokens) => string } = {}) {
  const tokens = new Tokens()
  const server = await startApp(t, { agents: [triage, walker], authenticate: tokens.authenticate as never, longPollMs: 200, heartbeat: { intervalMs: 50, timeoutMs: 5_000 } })
  const proxy = await TcpProxy.start(t, server.port, { plain: true })
  const upgrades: string[] = []
  proxy.onRequest = (text) => {
    const [, path] = /^GET (\S*\/ws\S*)/.exec(text) ?? []
    if (path !== undefined) upgrades.push(path)
    return undefined
  }
  // a page's own, which takes no headers
  Object.assign(globalThis, { WebSocket: function (url: string, protocols: string) { return new WebSocket(url, protocols) } })
  t.teardown(() => { Reflect.deleteProperty(globalThis, 'WebSocket') })
  const errors: unknown[] = []
  const client = createClient({
    url: proxy.url,
    headers: async () => ({ authorization: `Bearer ${nextToken?.(tokens) ?? tokens.issue()}` }),
    backoff: { initialMs: 2, maxMs: 10 },
    onHandlerError: (error) => { errors.push(error) },
    ...options
  })
  t.teardown(() => client.close())
  const { threadId } = await server.app.threads.register({ userId: 'u' })
  return { server, proxy, tokens, client, errors, upgrades, thread: client.thread(threadId) }
}

t.test('a WebSocket that takes no headers shows a ticket, a new one for each connection', async (t) => {
  const { server, proxy, client, thread, tokens, upgrades, errors } = await setup(t)
  const log = new Log(thread)
  const run = await thread.send('3', { agent: 'walker' })
  for (let cuts = 1; cuts <= 3; cuts++) {
    const { length } = upgrades
    proxy.cut()
    await until(() => upgrades.length > length && client.status === 'live')
    await step()
  }
  t.equal(await run.result(), 3)
  t.same(log.ids, await log.equals(server))
  t.equal(client.transport, 'websocket')
  const tickets = upgrades.map((path) => new URL(path, proxy.url).searchParams.get('ticket'))
  t.ok(tickets.every((ticket) => ticket !== null && ticket.length > 20))
  t.equal(new Set(tickets).size, tickets.length)
  t.equal(tokens.issued.length, tickets.length, 'the headers were asked for each time')
  t.notOk(upgrades.some((path) => path.includes('token_')))
  t.same(errors, [])

  const again = new WebSocket(server.url.replace('http', 'ws') + upgrades.at(-1))
  again.on('error', () => {})
  const [, response] = await once(again, 'unexpected-response')
  t.equal(response.statusCode, 401, 'a ticket is good once')
})

t.test("a constructor of the host's gets the headers, also from a function", async (t) => {
  const { client, upgrades, tokens } = await setup(t, { WebSocket })
  t.match(await client.connect(), { userId: 'u' })
  t.same(upgrades, ['/ws'])
  t.same(tokens.seen, ['token_0'])
})

t.test('headers as an object', async (t) => {
  const tokens = new Tokens()
  const { url } = await startApp(t, { authenticate: tokens.authenticate as never })
  const client = createClient({ url, headers: { authorization: `Bearer ${tokens.issue()}` }, transport: 'polling' })
  t.teardown(() => client.close())
  t.match(await client.connect(), { userId: 'u' })
})

for (const transport of ['auto', 'sse', 'polling'] as const) {
  t.test(`a stale token, ${transport}`, async (t) => {
    t.test('is retried once with a fresh one', async (t) => {
      const { thread, tokens, errors } = await setup(t, { transport, nextToken: (tokens) => tokens.issue(tokens.issued.length === 0 ? 0 : 60_000) })
      t.same(await (await thread.send('ping')).result(), { answer: 'PING' })
      t.same(tokens.seen.slice(0, 2), ['token_0', 'token_1'])
      t.same(errors, [])
    })

    t.test('and again a stale one: closed for good', async (t) => {
      const { client, thread, tokens } = await setup(t, { transport, nextToken: (tokens) => tokens.issue(0) })
      await t.rejects(thread.send('ping'), { code: 'FAE_ERR_UNAUTHENTICATED', closeCode: 4401 })
      t.equal(client.status, 'closed')
      t.same(tokens.seen, ['token_0', 'token_1'])
    })

    t.test('expires while connected: goes on with the next, and nothing is lost', async (t) => {
      let current = ''
      const { server, client, thread, tokens, errors } = await setup(t, {
        transport,
        nextToken: (tokens) => {
          const isGood = Date.now() < expiresAt
          if (!isGood) [current, expiresAt] = [tokens.issue(500), Date.now() + 500]
          return current
        }
      })
      let expiresAt = 0
      const log = new Log(thread)
      const run = await thread.send('2', { agent: 'walker' })
      for (let tokensBefore = 1; tokensBefore <= 2; tokensBefore++) {
        await until(() => tokens.issued.length > tokensBefore)
        await step()
      }
      t.equal(await run.result(), 2)
      t.same(log.ids, await log.equals(server))
      t.not(client.status, 'closed')
      t.same(errors, [])
    })
  })
}

for (const transport of ['auto', 'sse', 'polling'] as const) {
  t.test(`headers that never come are not waited for, ${transport}`, async (t) => {
    let hanging = 1
    let issue = () => ''
    const { server, client, thread, tokens, errors } = await setup(t, {
      transport,
      connectTimeoutMs: 500,
      headers: async () => {
        if (hanging-- > 0) await new Promise(() => {})
        return { authorization: `Bearer ${issue()}` }
      }
    })
    issue = () => tokens.issue()
    client.connect().catch(() => {})
    await until(() => client.connected)

    hanging = 1
    hasten(t, 30_000)
    const log = new Log(thread)
    t.same(await (await thread.send('ping')).result(), { answer: 'PING' })
    t.same(log.ids, await log.equals(server))
    t.same(errors, [])
  })
}

t.test('no WebSocket can say 401 to a page: the fallback finds out', async (t) => {
  const { client, tokens } = await setup(t, { WebSocket, nextToken: (tokens) => tokens.issue(0) })
  await t.rejects(client.connect(), { code: 'FAE_ERR_UNAUTHENTICATED' })
  t.ok(tokens.seen.length <= 8)
})

t.test('headers that cannot be had are told, and tried again', async (t) => {
  let failures = 3
  const { client, errors } = await setup(t, {
    nextToken: (tokens) => {
      if (failures-- > 0) throw new Error('no token today')
      return tokens.issue()
    }
  })
  t.match(await client.connect(), { userId: 'u' })
  t.match(errors, [{ message: 'no token today' }, { message: 'no token today' }, { message: 'no token today' }])
})
