import t from 'tap'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import { oncePerApp } from '../../plugins/once-per-app.js'

const plugin = fp(async (app) => { oncePerApp(app, 'x') })
const REGISTERED = { code: 'FAE_ERR_ALREADY_REGISTERED', message: /^The plugin 'x' is already registered in this app/ }

t.test('a second registration anywhere in the app fails its boot (A1)', async (t) => {
  await t.rejects(async () => {
    const app = Fastify()
    await app.register(plugin)
    await app.register(plugin)
  }, REGISTERED, 'in the same scope')
  await t.rejects(async () => {
    const app = Fastify()
    await app.register(plugin)
    await app.register(async (child) => { await child.register(async (grandchild) => { await grandchild.register(plugin) }) })
  }, REGISTERED, 'in a child, which would shadow it silently')
  await t.rejects(async () => {
    const app = Fastify()
    await app.register(async (child) => { await child.register(plugin) })
    await app.register(async (sibling) => { await sibling.register(plugin) })
  }, REGISTERED, 'in a sibling, which would get another one silently')
})

t.test('two apps in one process are fine, and so are two names in one app', async (t) => {
  for (let i = 0; i < 2; i++) {
    const app = Fastify()
    await app.register(plugin)
    oncePerApp(app, 'y')
    t.throws(() => { oncePerApp(app, 'y') }, { code: 'FAE_ERR_ALREADY_REGISTERED' })
    await t.resolves(async () => { await app.ready() })
    await app.close()
  }
})
