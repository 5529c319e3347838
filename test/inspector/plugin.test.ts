import Fastify from 'fastify'
import { test } from 'tap'
import { inspector, type InspectorOptions } from '../../inspector/index.js'

async function page (options: InspectorOptions & { prefix?: string } = {}) {
  const app = Fastify()
  await app.register(inspector, options)
  return app
}

test('the page comes with nothing inline, nothing from elsewhere, and headers that say so', async (t) => {
  const app = await page({ prefix: '/inspector', base: '/agent-events/' })
  const response = await app.inject('/inspector/')
  t.equal(response.statusCode, 200)
  t.equal(response.headers['content-type'], 'text/html; charset=utf-8')
  t.match(response.headers['content-security-policy'], /^default-src 'none'; script-src 'self'; style-src 'self';.*frame-ancestors 'self'/)
  t.notMatch(response.headers['content-security-policy'], /unsafe|http|\*/)
  t.equal(response.headers['x-content-type-options'], 'nosniff')
  t.notMatch(response.body, /<style|<script(?![^>]* src=)|\son\w+=|\sstyle=|https?:/)
  t.match(response.body, '&quot;base&quot;:&quot;/agent-events&quot;')
})

test('everything that the page names is there, and nothing else is', async (t) => {
  const app = await page({ prefix: '/inspector' })
  const { body } = await app.inject('/inspector/')
  const paths = new Set([...body.matchAll(/(?:href|src)="(assets\/[^"]+)"/g)].map(([, path]) => path!))
  t.ok(paths.has('assets/inspector/page/main.js'))
  t.ok(paths.has('assets/client/index.js'))
  t.ok(paths.has('assets/client/state/index.js'))
  for (const path of paths) {
    const { statusCode, headers, body } = await app.inject(`/inspector/${path}`)
    t.equal(statusCode, 200, path)
    t.match(headers['content-type'], path.endsWith('.js') ? 'text/javascript' : path.endsWith('.css') ? 'text/css' : 'image/svg+xml')
    t.match(headers['content-security-policy'], "default-src 'none'")
    // also what is only loaded when it is needed
    for (const [, specifier] of body.matchAll(/import\(?[^'"\n]*['"](\.[^'"]+)['"]/g)) {
      const imported = new URL(specifier!, `http://page/${path}`).pathname.slice(1)
      t.ok(paths.has(imported), `${path} imports ${imported}`)
    }
    t.notMatch(body, /sourceMappingURL/)
  }
  for (const path of ['assets/index.js', 'assets/plugins/store/memory-store.js', 'assets/../package.json', 'assets/%2e%2e/package.json', 'assets/', 'index.html']) {
    t.equal((await app.inject(`/inspector/${path}`)).statusCode, 404, path)
  }
})

test('below a prefix the page has a slash at its end, so that its own addresses are right', async (t) => {
  const app = await page({ prefix: '/a/inspector' })
  const response = await app.inject('/a/inspector?x=1')
  t.equal(response.statusCode, 302)
  t.equal(new URL(response.headers.location!, 'http://host/a/inspector').href, 'http://host/a/inspector/?x=1')
  t.equal((await (await page()).inject('/')).statusCode, 200, 'at the root there is nothing to be done')
  t.equal((await (await page({ prefix: '/' })).inject('/')).statusCode, 200)
})

test('what has not changed is not sent again', async (t) => {
  const app = await page()
  for (const url of ['/', '/assets/style.css']) {
    const first = await app.inject(url)
    const again = await app.inject({ url, headers: { 'if-none-match': first.headers.etag as string } })
    t.equal(again.statusCode, 304)
    t.equal(again.body, '')
    t.equal((await app.inject({ url, headers: { 'if-none-match': '"other"' } })).body, first.body)
  }
})

test('it lives in its scope: the authentication around it counts, and it may be there twice', async (t) => {
  const app = Fastify()
  await app.register(async (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      if (request.headers.cookie !== 'session=admin') return reply.code(401).send({})
    })
    await scope.register(inspector, { prefix: '/admin' })
  })
  await app.register(inspector, { prefix: '/open', base: '/other' })
  for (const url of ['/admin/', '/admin', '/admin/assets/inspector/page/main.js']) {
    t.equal((await app.inject(url)).statusCode, 401, url)
    t.not((await app.inject({ url, headers: { cookie: 'session=admin' } })).statusCode, 401, url)
  }
  t.equal((await app.inject('/open/')).statusCode, 200)
})

test('settings cannot leave their attribute', async (t) => {
  const app = await page({ suggestions: ['"><script>alert(1)</script>', "it's & that $& $1"] })
  const { body } = await app.inject('/')
  t.notMatch(body, '<script>alert')
  const settings = /data-settings="([^"]*)"/.exec(body)![1]!.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&')
  t.same(JSON.parse(settings).suggestions, ['"><script>alert(1)</script>', "it's & that $& $1"])
})

test('a wrong option fails the boot and says which', async (t) => {
  for (const base of ['agent-events', 'https://elsewhere.example/agent-events', '//elsewhere.example', '/\\elsewhere.example', '/a?b', 7]) {
    await t.rejects(page({ base: base as string }).then((app) => app.ready()), { code: 'FAE_ERR_OPTION_INVALID', message: /'base'/ }, String(base))
  }
  await t.rejects(page({ identify: 'cookie' as 'session' }), { code: 'FAE_ERR_OPTION_INVALID', message: /session, userId, bearer/ })
  await t.rejects(page({ suggestions: 'hello' as unknown as string[] }), { code: 'FAE_ERR_OPTION_INVALID', message: /'suggestions'/ })
})
