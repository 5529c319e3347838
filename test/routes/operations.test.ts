import t from 'tap'
import { defineAgent } from '../../index.js'
import { connect } from '../support/connect.js'
import { RedisServer } from '../support/redis-server.js'
import { startApp } from '../support/start-app.js'

t.test('/health reaches a host only with operations', async (t) => {
  for (const options of [{}, { operations: false }]) {
    const { url } = await startApp(t, options)
    t.equal((await fetch(`${url}/health`)).status, 404)
  }
  const { url } = await startApp(t, { operations: true })
  const before = await fetch(`${url}/health`)
  t.equal(before.status, 200, 'without a user')
  t.match(await before.json(), { status: 'ok', store: 'memory', connections: 0 })
  await connect(t, url, 'u')
  t.match(await (await fetch(`${url}/health`)).json(), { connections: 1 })
})

t.test('everything lives under the prefix', async (t) => {
  for (const [prefix, at] of [[undefined, '/agent-events'], ['/x', '/x'], ['/x/y/', '/x/y'], ['/', '']] as const) {
    const { url } = await startApp(t, { operations: true, debug: true, ...(prefix === undefined ? { prefix: undefined as never } : { prefix }) })
    for (const path of ['/health', '/threads', '/agents', '/debug/registry']) {
      t.equal((await fetch(url + at + path, { headers: { 'x-user-id': 'u' } })).status, 200, at + path)
      if (at !== '') t.equal((await fetch(url + path, { headers: { 'x-user-id': 'u' } })).status, 404)
    }
    const tab = await connect(t, url + at, 'u')
    t.ok(await tab.frame('connected'))
  }
  for (const prefix of ['x', 5, null]) await t.rejects(startApp(t, { prefix: prefix as never }), { code: 'FAE_ERR_OPTION_INVALID', message: /'prefix'/ })
})

t.test('/ready says whether work can be done, and why not', async (t) => {
  for (const return503OnClosing of [false, true]) {
    let release = (): void => {}
    const slow = defineAgent({ name: 'slow', description: 'Waits', run: () => new Promise<void>((resolve) => { release = resolve }) })
    const { app, url } = await startApp(t, { operations: true, agents: [slow] }, { return503OnClosing })
    const ready = await fetch(`${url}/ready`)
    t.equal(ready.status, 200)
    t.strictSame(await ready.json(), { status: 'ready', store: 'memory' })
    const running = app.agents.run('slow', { userId: 'u', input: { message: 'x' } })
    while (app.agents.active()[0]?.state !== 'running') await new Promise((resolve) => { setImmediate(resolve) })
    const closed = app.close()
    let answer = await fetch(`${url}/ready`)
    while (answer.status === 200) answer = await fetch(`${url}/ready`)
    t.equal(answer.status, 503, 'a run still has its grace, nothing new may come')
    if (!return503OnClosing) t.match(await answer.json(), { status: 'closing', reason: /shutting down/ })
    release()
    await running
    await closed
  }
})

t.test('/ready while the store is away, and when it is back', async (t) => {
  const redis = await RedisServer.start(t)
  const { app, url } = await startApp(t, { operations: true, metrics: true, store: { redis: redis.url } })
  const status = async (): Promise<number> => (await fetch(`${url}/ready`)).status
  const until = async (wanted: number): Promise<void> => {
    for (const deadline = Date.now() + 20_000; await status() !== wanted && Date.now() < deadline;) await new Promise((resolve) => { setTimeout(resolve, 20) })
  }
  await until(200)
  t.equal(await status(), 200)
  await redis.kill()
  await until(503)
  const answer = await fetch(`${url}/ready`)
  t.equal(answer.status, 503)
  t.match(await answer.json(), { status: 'unavailable', reason: /^the redis store is not available: .+/ })
  t.match(await (await fetch(`${url}/metrics`)).text(), 'agent_events_store_available{store="redis"} 0')
  t.equal((await fetch(`${url}/health`)).status, 200, 'alive all the same')
  await redis.start()
  await until(200)
  t.equal(await status(), 200)
  t.ok(app.threads.store.availability.available)
})
