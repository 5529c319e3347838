import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import t from 'tap'
import { connect } from '../support/connect.js'
import { startApp } from '../support/start-app.js'

const cases = [
  { what: 'nobody at our door', path: '/ours/ws', status: 401 },
  { what: 'nowhere', path: '/nowhere', status: 404 }
]

for (const { what, path, status } of cases) {
  t.test(`an upgrade that is not one does not hold up the close: ${what}`, async (t) => {
    const { app, port, url } = await startApp(t, { prefix: '/ours' })
    const tab = await connect(t, `${url}/ours`, 'ada')
    const peer = connectTcp(port, '127.0.0.1')
    t.teardown(() => { peer.destroy() })
    peer.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`)
    const [answer] = await once(peer, 'data', { signal: AbortSignal.timeout(10_000) })
    t.match(String(answer), new RegExp(`^HTTP/1.1 ${status} `))
    // The peer stays where it is and says nothing more.
    await Promise.all([app.close(), once(peer, 'close', { signal: AbortSignal.timeout(10_000) })])
    t.equal(await tab.closed(), 1012, 'who is really connected gets its code')
  })
}
