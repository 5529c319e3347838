import t from 'tap'
import { connect, get } from '../support/connect.js'
import { startApp } from '../support/start-app.js'

async function setup (t: { teardown (fn: () => unknown): void }, count: number, options: object = {}) {
  const { app, url } = await startApp(t, options)
  await app.threads.register({ userId: 'u', threadId: 't1' })
  const say = (i: number) => app.notifier.sendToThread('t1', { type: 'user_message', data: { content: `${i}` } })
  const ids: string[] = []
  for (let i = 1; i <= count; i++) ids.push((await say(i)).id)
  const read = async (offset?: string) => {
    const { status, headers, body } = await get(url, `/threads/t1/events${offset === undefined ? '' : `?offset=${encodeURIComponent(offset)}`}`, 'u')
    return { status, body, headers, seqs: Array.isArray(body) ? body.map(({ seq }: { seq: number }) => seq) : undefined, next: headers.get('stream-next-offset'), upToDate: headers.get('stream-up-to-date') }
  }
  return { app, url, say, ids, read }
}

t.test('E1: the history of a thread from an offset', async (t) => {
  const { ids, read, say, url } = await setup(t, 5)
  for (const offset of [undefined, '-1']) {
    const all = await read(offset)
    t.equal(all.status, 200)
    t.same(all.seqs, [1, 2, 3, 4, 5])
    t.equal(all.next, ids[4])
    t.equal(all.upToDate, 'true')
    t.match(all.headers.get('content-type'), /^application\/json/)
    t.equal(all.headers.get('cache-control'), 'no-store')
  }
  t.same((await read(ids[2])).seqs, [4, 5])
  const tail = await read(ids[4])
  t.same([tail.seqs, tail.next, tail.upToDate], [[], ids[4], 'true'])
  const now = await read('now')
  t.same([now.seqs, now.next, now.upToDate], [[], ids[4], 'true'])
  const { id } = await say(6)
  const further = await read(now.next!)
  t.same([further.seqs, further.next], [[6], id], 'from there on nothing is missed')
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId: 't1' })
  await tab.until(() => tab.events().length === 6)
  t.same((await read()).body, tab.events(), 'the same events as on the socket')
})

t.test('an empty thread', async (t) => {
  const { read, say } = await setup(t, 0)
  for (const offset of [undefined, '-1', 'now']) {
    const { status, body, next, upToDate } = await read(offset)
    t.same([status, body, upToDate], [200, [], 'true'])
    t.match(next, /^[0-9a-z]{12}-0000000000$/)
  }
  const { next } = await read('now')
  await say(1)
  t.same((await read(next!)).seqs, [1])
})

t.test('a long history comes in pages', async (t) => {
  const { read } = await setup(t, 2_300)
  const seqs: number[] = []
  let pages = 0
  let offset: string | undefined
  for (;;) {
    const page = await read(offset)
    seqs.push(...page.seqs!)
    pages++
    offset = page.next!
    if (page.upToDate === 'true') break
    t.ok(page.seqs!.length > 0)
  }
  t.ok(pages > 1)
  t.same(seqs, Array.from({ length: 2_300 }, (_, i) => i + 1))
})

t.test('410 where the position is not of this log', async (t) => {
  const { read, ids } = await setup(t, 30, { store: { memory: { retention: { maxEvents: 10 } } } })
  const epoch = ids[0]!.split('-')[0]!
  const gone = { status: 410, body: { statusCode: 410, code: 'FAE_ERR_CURSOR_GONE', error: 'Gone', message: /offset -1/ } }
  t.match(await read('000000000000-0000000003'), gone, 'foreign epoch')
  t.match(await read(`${epoch}-0000000031`), gone, 'ahead of the head')
  t.match(await read(ids[5]!), gone, 'retention passed')
  t.same((await read(ids[19]!)).seqs, [21, 22, 23, 24, 25, 26, 27, 28, 29, 30], 'the position before the first retained one is good')
  t.same((await read('-1')).seqs, [21, 22, 23, 24, 25, 26, 27, 28, 29, 30])
})

t.test('400 where the offset is none', async (t) => {
  const { read, url } = await setup(t, 1)
  for (const offset of ['x', '0', '-2', 'NOW', '0000000000-1', 'zzzzzzzzzzzz-00000000010', '../1', 'é']) {
    t.match(await read(offset), { status: 400, body: { statusCode: 400, code: 'FAE_ERR_CURSOR_INVALID', error: 'Bad Request' } }, offset)
  }
  for (const query of ['offset=', `offset=${'x'.repeat(65)}`, 'offset=a&offset=b']) {
    t.match(await get(url, `/threads/t1/events?${query}`, 'u'), { status: 400, body: { code: 'FAE_ERR_BAD_REQUEST', message: /^querystring is invalid at 'offset'/ } }, query)
  }
})
