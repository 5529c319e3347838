import t, { type Test } from 'tap'
import type { OriginsOption } from '../../routes/index.js'
import { Receiver } from '../support/connect.js'
import { startApp } from '../support/start-app.js'
import { upgrade } from '../support/upgrade.js'

const REFUSED = { status: 403, code: 'FAE_ERR_ORIGIN' }

/** How a page of this origin, or none, is answered by a server that knows its users by cookies, say. */
async function asker (t: Test, origins?: OriginsOption) {
  const { app, url, port } = await startApp(t, origins === undefined ? {} : { origins })
  return {
    app,
    port,
    ask: async (origin?: string) => {
      const answer = await upgrade(t, url, 'userId=ada', origin === undefined ? {} : { headers: { origin } })
      return answer instanceof Receiver ? { status: 101 } : { status: answer.status, code: answer.code }
    }
  }
}

t.test('a page of another site does not get a WebSocket', async (t) => {
  const { ask, app, port } = await asker(t)
  for (const origin of ['https://evil.example', `https://127.0.0.1.evil.example:${port}`, `http://127.0.0.1:${port + 1}`, 'http://127.0.0.1', 'null', '', 'about:blank', 'file://']) {
    t.same(await ask(origin), REFUSED, origin)
  }
  t.equal(app.notifier.hub.connections.size, 0)
  t.same(await ask(`http://127.0.0.1:${port}`), { status: 101 }, 'its own do')
  t.same(await ask(), { status: 101 }, 'programs send none')
})

t.test('pages that are listed', async (t) => {
  const { ask, port } = await asker(t, ['https://app.example'])
  t.same(await ask('https://app.example'), { status: 101 })
  t.same(await ask(`http://127.0.0.1:${port}`), { status: 101 }, 'its own still do')
  for (const origin of ['http://app.example', 'https://app.example:8443', 'https://app.example.evil.example', 'https://sub.app.example']) t.same(await ask(origin), REFUSED, origin)
})

t.test('all pages', async (t) => {
  const { ask } = await asker(t, '*')
  for (const origin of ['https://evil.example', 'null']) t.same(await ask(origin), { status: 101 }, origin)
})

t.test('what is no list is refused at boot', async (t) => {
  for (const origins of ['https://app.example', true, {}]) await t.rejects(startApp(t, { origins: origins as never }), { code: 'FAE_ERR_OPTION_INVALID', message: /'origins'/ })
})
