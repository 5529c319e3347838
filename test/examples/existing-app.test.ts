import { once } from 'node:events'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { buildForum, type ForumOptions } from '../../examples/existing-app/app.js'
import { get, post, Receiver } from '../support/connect.js'

const RUN = ['user_message', 'agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'assistant_message', 'agent_completed']

interface Line { level: number, msg: string }

async function startForum (t: Test, options: ForumOptions) {
  const lines: Line[] = []
  const stream = { write: (line: string) => { lines.push(JSON.parse(line) as Line) } }
  const app = await buildForum({ ...options, logger: { level: 'info', stream } })
  t.teardown(() => app.close())
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, url, ours: url + (options.prefix ?? '/agent-events'), loud: () => lines.filter(({ level }) => level >= 40).map(({ msg }) => msg) }
}

/** A socket of the forum's own, which sends back what it gets. */
async function openEcho (t: Test, url: string): Promise<{ socket: WebSocket, echoes: string[], say (text: string): Promise<void> }> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/echo`)
  t.teardown(() => { socket.terminate() })
  const echoes: string[] = []
  socket.on('message', (data) => { echoes.push(String(data)) })
  await once(socket, 'open')
  return {
    socket,
    echoes,
    async say (text) {
      const answered = once(socket, 'message', { signal: AbortSignal.timeout(10_000) })
      socket.send(text)
      await answered
    }
  }
}

/** Sends the user id as the forum wants it: in a header. */
async function connectAs (t: Test, ours: string, userId: string): Promise<Receiver> {
  const receiver = new Receiver(new WebSocket(`${ours.replace('http', 'ws')}/ws`, 'agent-events.v1', { headers: { 'x-user-id': userId } }))
  t.teardown(() => { receiver.socket.terminate() })
  await receiver.frame('connected')
  return receiver
}

async function runOver (receiver: Receiver, threadId: string, content: string) {
  receiver.send({ type: 'subscribe', ref: 's', threadId })
  await receiver.frame('subscribed', (frame) => frame.threadId === threadId)
  receiver.send({ type: 'send', ref: 'm', threadId, content, clientMessageId: 'c1' })
  await receiver.frame('accepted', (frame) => frame.threadId === threadId)
  const completed = await receiver.frame('agent_completed', (event) => event.threadId === threadId)
  return { completed, events: receiver.events(threadId) }
}

const cases: ForumOptions[] = [{ sockets: 'before' }, { sockets: 'after' }, { sockets: 'before', prefix: '/assistants' }, { sockets: 'after', prefix: '/assistants' }]

for (const options of cases) {
  t.test(`the forum's sockets ${options.sockets}, prefix ${options.prefix ?? 'by default'}`, async (t) => {
    t.test("the forum's Ajv settings hold on its routes", async (t) => {
      const { url } = await startForum(t, options)
      const made = await post(url, '/threads', 'ada', { title: 'Bread', stars: '4', colour: 'blue' })
      t.equal(made.status, 201)
      t.same(made.body, { title: 'Bread', stars: 4 }, 'an unlisted field is dropped, a text becomes a number')
      const blank = await post(url, '/threads', 'ada', { title: '  ' })
      t.equal(blank.status, 400)
      t.match(blank.body, { forum: 'sorry', reason: /notBlank/ }, 'its own keyword')
    })

    t.test('and do not damage our bodies', async (t) => {
      const { url, ours } = await startForum(t, options)
      const metadata = { list: ['a'], deep: { number: '1' }, flag: 'true' }
      const thread = await post(ours, '/threads', 'ada', { threadId: 't1', metadata })
      t.equal(thread.status, 201)
      t.same(thread.body.metadata, metadata)
      const content = [{ type: 'text', text: '7' }, { type: 'file', mediaType: 'image/png', url: 'https://example.com/a.png', filename: 'a.png' }]
      t.equal((await post(ours, '/threads/t1/messages', 'ada', { content })).status, 202)
      const receiver = await connectAs(t, ours, 'ada')
      receiver.send({ type: 'subscribe', threadId: 't1' })
      t.same((await receiver.frame('user_message')).data.content, content)
      const coerced = await post(ours, '/threads/t1/messages', 'ada', { content: 7 })
      t.equal(coerced.status, 400, 'a number is not made a text')
      t.match(coerced.body, { code: 'FAE_ERR_BAD_REQUEST', message: /body is invalid at .*content/ })
      t.equal((await get(url, '/threads', 'ada')).body.length, 0)
    })

    t.test("the forum's error handler answers its errors and never ours", async (t) => {
      const { url, ours } = await startForum(t, options)
      await post(url, '/threads', 'ada', { title: 'Bread' })
      const twice = await post(url, '/threads', 'ada', { title: 'Bread' })
      t.equal(twice.status, 409)
      t.same(twice.body, { forum: 'sorry', reason: "'Bread' is there already" })

      const unknown = await get(ours, '/threads/nowhere', 'ada')
      t.equal(unknown.status, 404)
      t.match(unknown.body, { statusCode: 404, code: 'FAE_ERR_THREAD_NOT_FOUND', error: 'Not Found' })
      const nobody = await fetch(`${ours}/threads`)
      t.equal(nobody.status, 401)
      t.match(await nobody.json(), { code: 'FAE_ERR_UNAUTHENTICATED' })
      const notJson = await fetch(`${ours}/threads`, { method: 'POST', headers: { 'content-type': 'application/json', 'x-user-id': 'ada' }, body: '{' })
      t.equal(notJson.status, 400)
      t.match(await notJson.json(), { statusCode: 400, code: /^(FAE|FST)_ERR_/ })

      const socket = new WebSocket(`${ours.replace('http', 'ws')}/ws`, 'agent-events.v1')
      const [, response] = await once(socket, 'unexpected-response')
      t.equal(response.statusCode, 401, 'refused before the upgrade')
      t.match(JSON.parse(String(Buffer.concat(await response.toArray()))), { code: 'FAE_ERR_UNAUTHENTICATED' })
    })

    t.test("/health and /threads are the forum's", async (t) => {
      const { url, ours } = await startForum(t, options)
      await post(url, '/threads', 'ada', { title: 'Bread' })
      await post(ours, '/threads', 'ada', { threadId: 't1' })
      t.same((await get(url, '/health', 'ada')).body, { forum: 'open', topics: 1 })
      t.same((await get(url, '/threads', 'ada')).body, [{ title: 'Bread', stars: 0 }])
      t.same((await get(ours, '/threads', 'ada')).body.threads.map(({ threadId }: { threadId: string }) => threadId), ['t1'])
      t.equal((await get(ours, '/health', 'ada')).status, 404, 'ours is off in an app of others')
      t.equal((await get(url, '/agents', 'ada')).status, 404, 'nothing of ours outside the prefix')
    })

    t.test('both kinds of socket work, one after the other and at once', async (t) => {
      const { app, url, ours, loud } = await startForum(t, options)
      await post(url, '/threads', 'ada', { title: 'Rye bread' })
      for (const threadId of ['t1', 't2', 't3']) await post(ours, '/threads', 'ada', { threadId })

      const echo = await openEcho(t, url)
      await echo.say('hello')
      const receiver = await connectAs(t, ours, 'ada')
      const { completed, events } = await runOver(receiver, 't1', 'bread')
      t.same(events.map(({ type }) => type), RUN)
      t.match(completed.data, { status: 'success', result: { found: 1 } })
      t.equal(events.flatMap((event) => event.type === 'assistant_message' ? [event.data.text] : []).join(''), 'Rye bread')

      const words = Array.from({ length: 50 }, (_, i) => `word ${i}`)
      const [again] = await Promise.all([
        runOver(receiver, 't2', 'rye'),
        (async () => { for (const word of words) await echo.say(word) })(),
        ...Array.from({ length: 5 }, async () => {
          const another = await openEcho(t, url)
          await another.say('me too')
          t.same(another.echoes, ['me too'])
        })
      ])
      t.same(again.events.map(({ type }) => type), RUN)
      // What a host does that tells all its visitors something.
      const told = once(echo.socket, 'message', { signal: AbortSignal.timeout(10_000) })
      for (const client of app.websocketServer.clients) client.send('to all')
      await told
      await runOver(receiver, 't3', 'rye')
      t.same(echo.echoes, ['hello', ...words, 'to all'], 'nothing of ours reached the socket of the forum')
      const kinds = new Set<string>(['connected', 'subscribed', 'accepted', ...RUN])
      t.same(receiver.frames.filter(({ type }) => !kinds.has(type)), [], 'and nothing of the forum ours')
      t.same(loud(), options.sockets === 'before' ? ['the app\'s own @fastify/websocket takes larger frames than fastify-agent-events asks for'] : [], 'nothing else to complain about in the log')
    })

    t.test('closing is clean', async (t) => {
      const { app, url, ours } = await startForum(t, options)
      await post(ours, '/threads', 'ada', { threadId: 't1' })
      const echo = await openEcho(t, url)
      const receiver = await connectAs(t, ours, 'ada')
      await runOver(receiver, 't1', 'bread')
      const [, closed] = await Promise.all([once(echo.socket, 'close'), receiver.closed(), app.close()])
      t.ok(receiver.frames.some(({ type }) => type === 'goaway'), 'told to come back')
      t.equal(closed, 1012)
      await app.close()
      t.equal(app.server.listening, false)
    })
  })
}
