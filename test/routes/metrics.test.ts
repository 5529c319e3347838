import t from 'tap'
import { spawn } from 'node:child_process'
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import { agentEvents, defineAgent } from '../../index.js'
import { connect, post } from '../support/connect.js'
import { TRIAGE_EVENTS, triage } from '../support/agents.js'
import { startApp } from '../support/start-app.js'
import { childEnv } from '../support/child-env.js'

const failing = defineAgent({ name: 'failing', description: 'Fails', run () { throw new Error('no') } })

/** The samples of a scrape by name and labels. */
async function scrape (url: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Object.fromEntries(text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).map((line) => {
    const at = line.lastIndexOf(' ')
    return [line.slice(0, at).replace('agent_events_', ''), Number(line.slice(at + 1))]
  }))
}

t.test('metrics say what happened', async (t) => {
  const { app, url } = await startApp(t, { agents: [triage, failing], operations: true, metrics: true })
  const before = await scrape(url)
  t.match(before, { connections: 0, runs_live: 0, 'store_available{store="memory"}': 1, 'events_total{type="agent_started"}': 0, 'runs_total{status="lost"}': 0, 'closes_total{reason="slowConsumer"}': 0, append_seconds_count: 0 })
  const tab = await connect(t, url, 'u')
  const other = await connect(t, url, 'u')
  const { threadId } = await app.threads.register({ userId: 'u' })
  for (const each of [tab, other]) {
    each.send({ type: 'subscribe', threadId })
    await each.frame('subscribed')
  }
  await post(url, `/threads/${threadId}/messages`, 'u', { content: 'hi' })
  await tab.frame('agent_completed')
  await post(url, `/threads/${threadId}/messages`, 'u', { content: 'hi', agent: 'failing' })
  await tab.until(() => tab.events().filter(({ type }) => type === 'agent_completed').length === 2)
  await t.rejects(app.notifier.sendToThread(threadId, { type: 'nonsense' } as never))
  tab.send({ type: 'subscribe', threadId: app.agents.list()[0]!.name })
  await tab.frame('error')
  const lost = await connect(t, url, 'u')
  lost.send({ type: 'subscribe', threadId, cursor: 'aaaaaaaaaaaa-0000000001' })
  t.match(await lost.frame('subscribed'), { recovered: false })
  await lost.frame('agent_completed', ({ data }) => data.agent === 'failing')
  const after = await scrape(url)
  const types = ['user_message', 'user_message', ...TRIAGE_EVENTS, 'agent_started', 'agent_completed']
  for (const type of new Set(types)) t.equal(after[`events_total{type="${type}"}`], types.filter((each) => each === type).length, type)
  t.match(after, {
    connections: 3,
    threads_watched: 1,
    http_readers: 0,
    'subscriptions{state="live"}': 3,
    'lag_events{over="all"}': 0,
    'lag_events{over="worst"}': 0,
    'subscribed_total{place="recovered"}': 2,
    'subscribed_total{place="reset"}': 1,
    'runs_total{status="success"}': 1,
    'runs_total{status="error"}': 1,
    'runs_total{status="cancelled"}': 0,
    runs_live: 0
  })
  t.ok(after['append_seconds_count']! > 0 && after['append_seconds_sum']! > 0, 'appends are sampled')
  t.ok(after['delivery_seconds_count']! > 0 && after['delivery_seconds_sum']! > 0, 'deliveries are sampled')
  t.ok(after['delivery_seconds_count']! <= after['append_seconds_count']!)
  t.ok(after['append_seconds_bucket{le="+Inf"}']! < types.length + 1)
  for (const each of [tab, other, lost]) each.close()
  await Promise.all([tab, other, lost].map((each) => each.closed()))
  while ((await scrape(url))['connections'] !== 0);
  t.match(await scrape(url), { threads_watched: 0, 'subscriptions{state="live"}': 0 })
})

t.test('live runs, lost connections and HTTP readers are seen while they are there', async (t) => {
  let release = (): void => {}
  const slow = defineAgent({ name: 'slow', description: 'Waits', run: () => new Promise<void>((resolve) => { release = resolve }) })
  const { app, url } = await startApp(t, { agents: [slow], operations: true, metrics: true, limits: { maxBadFrames: 1 } })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId })
  await post(url, `/threads/${threadId}/messages`, 'u', { content: 'hi' })
  await tab.frame('agent_started')
  const stream = await fetch(`${url}/threads/${threadId}/events?offset=-1&live=sse`, { headers: { 'x-user-id': 'u' } })
  t.match(await scrape(url), { runs_live: 1, http_readers: 1 })
  await stream.body!.cancel()
  release()
  await tab.frame('agent_completed')
  tab.socket.send('nonsense')
  t.equal(await tab.closed(), 4400)
  t.match(await scrape(url), { runs_live: 0, 'closes_total{reason="badFrames"}': 1 })
})

t.test('off they cost nothing and are nowhere', async (t) => {
  const { app, url } = await startApp(t, { agents: [triage], operations: true })
  t.equal((await fetch(`${url}/metrics`)).status, 404)
  app.notifier.stats.begin = () => { throw new Error('something was timed') }
  await app.agents.run('triage', { userId: 'u', input: { message: 'x' } })
  t.equal(app.notifier.stats.events.agent_started, 0, 'events are not even counted')
})

t.test('a registry of the host, and who may read', async (t) => {
  const registry = new Registry()
  const { url } = await startApp(t, { operations: true, metrics: { registry, allow: (request) => request.headers['x-operator'] === 'yes' } })
  t.match(await (await fetch(`${url}/metrics`)).json(), { statusCode: 403, code: 'FAE_ERR_FORBIDDEN' })
  const allowed = await fetch(`${url}/metrics`, { headers: { 'x-operator': 'yes' } })
  t.match(allowed.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
  t.equal(await allowed.text(), await registry.metrics())
  const own = new Registry()
  const hidden = await startApp(t, { metrics: { registry: own } })
  t.equal((await fetch(`${hidden.url}/metrics`)).status, 404, 'without operations the door is the host\'s')
  t.match(await own.metrics(), /agent_events_connections 0/)
  for (const metrics of ['yes', null, 1]) await t.rejects(startApp(t, { operations: true, metrics: metrics as never }), { code: 'FAE_ERR_OPTION_INVALID', message: /'metrics'/ })
  await t.rejects(startApp(t, { metrics: true }), { code: 'FAE_ERR_OPTION_INVALID', message: /operations: true/ })
})

t.test('two apps in one process count for themselves', async (t) => {
  const [one, two] = [await startApp(t, { operations: true, metrics: true, agents: [triage] }), await startApp(t, { operations: true, metrics: true, agents: [triage] })]
  await one.app.agents.run('triage', { userId: 'u', input: { message: 'x' } })
  t.equal((await scrape(one.url))['runs_total{status="success"}'], 1)
  t.equal((await scrape(two.url))['runs_total{status="success"}'], 0)
})

t.test('without prom-client the error names the line to type', async (t) => {
  const hooks = `export async function resolve (specifier, context, next) {
    if (specifier === 'prom-client') throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' })
    return next(specifier, context)
  }`
  const code = `
    import { register } from 'node:module'
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)})
    const { default: agentEvents } = await import('${new URL('../../index.ts', import.meta.url).href}')
    const { default: Fastify } = await import('fastify')
    const app = Fastify()
    app.register(agentEvents, { authenticate: () => null, operations: true, metrics: true })
    await app.ready().catch((error) => { console.log(error.code, error.message) })
  `
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code], { env: childEnv })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => { output += String(chunk) })
  child.stderr.on('data', (chunk: Buffer) => { output += String(chunk) })
  await new Promise((resolve) => { child.once('close', resolve) })
  t.match(output, /^FAE_ERR_PACKAGE_MISSING .*npm i prom-client\n$/)
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(agentEvents, { authenticate: () => null })
  t.ok(await app.ready(), 'nobody else needs it')
})
