import t from 'tap'
import { seqsOf, setup, until, upTo } from './helpers.js'

t.test('replay', async (t) => {
  t.test('of a thread of which nothing was handed out costs nothing', async (t) => {
    const { server, client } = await setup(t)
    server.count('t', 3)
    const thread = client.thread('t')
    // subscribes, without anybody listening
    await (await thread.send('hi')).runId
    const head = server.log('t').events.length
    thread.replay()
    const seqs = seqsOf(thread)
    thread.replay()
    await until(() => seqs.length === head)
    t.same(seqs, upTo(head))
    t.equal(server.frames.filter(({ type }) => type === 'subscribe').length, 1)
  })

  t.test('hands everything out again, after a reset, in order and each once', async (t) => {
    const { server, client } = await setup(t)
    server.count('t', 3)
    const thread = client.thread('t')
    const got: (number | 'reset')[] = []
    thread.onReset(() => { got.push('reset') })
    thread.onAny(({ seq }) => { got.push(seq) })
    await until(() => got.length === 3)
    thread.replay()
    server.count('t')
    await until(() => got.length === 8)
    t.same(got, [1, 2, 3, 'reset', 1, 2, 3, 4])
    await until(() => thread.status === 'live')
    t.equal(thread.complete, true)
  })

  t.test('while a slow listener is at work: what it has in hand is settled first and moves nothing', async (t) => {
    const { server, client } = await setup(t)
    server.count('t', 2)
    const thread = client.thread('t')
    const got: (number | 'reset')[] = []
    let finish: (() => void) | undefined
    thread.onReset(() => { got.push('reset') })
    thread.onAny(async ({ seq }) => {
      got.push(seq)
      if (finish === undefined) await new Promise<void>((resolve) => { finish = resolve })
    })
    await until(() => finish)
    thread.replay()
    finish!()
    await until(() => got.length === 4)
    t.same(got, [1, 'reset', 1, 2])
  })

  t.test('a slow reset listener does not undo the place: what is in hand when the connection is lost comes once', async (t) => {
    const { server, client } = await setup(t)
    server.count('t', 2)
    const thread = client.thread('t')
    const got: number[] = []
    let isReset: (() => void) | undefined
    let finish: (() => void) | undefined
    thread.onReset(() => new Promise<void>((resolve) => { isReset = resolve }))
    thread.onAny(async ({ seq }) => {
      got.push(seq)
      if (isReset !== undefined && seq === 1) await new Promise<void>((resolve) => { finish = resolve })
    })
    await until(() => got.length === 2)
    thread.replay()
    await until(() => thread.cursor !== undefined)
    isReset!()
    await until(() => finish)
    for (const peer of server.peers) peer.socket.terminate()
    await until(() => server.frames.filter(({ type }) => type === 'subscribe').length === 3)
    await until(() => thread.status !== 'connecting' && thread.status !== 'offline')
    finish!()
    server.count('t')
    await until(() => got.includes(3))
    t.same(got, [1, 2, 1, 2, 3])
  })

  t.test('without a connection it happens with the next one', async (t) => {
    const { server, client } = await setup(t)
    server.count('t', 2)
    const thread = client.thread('t')
    const seqs = seqsOf(thread)
    await until(() => seqs.length === 2)
    thread.onStatus((status) => { if (status === 'offline') thread.replay() })
    for (const peer of server.peers) peer.socket.terminate()
    await until(() => seqs.length === 4)
    t.same(seqs, [1, 2, 1, 2])
  })

  t.test('of a closed thread does nothing', async (t) => {
    const { client } = await setup(t)
    const thread = client.thread('t')
    thread.close()
    thread.replay()
    t.equal(thread.status, 'closed')
  })
})

t.test('release closes what nobody uses', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const off = thread.onAny(() => {})
  t.equal(thread.release(), false, 'somebody listens')
  off()
  const run = await thread.send('hi')
  t.equal(thread.release(), false, 'somebody waits for a run')
  server.complete('t', run.runId)
  await run.completed
  const iterator = thread[Symbol.asyncIterator]()
  await iterator.next()
  t.equal(thread.release(), false, 'somebody iterates')
  await iterator.return!()
  t.equal(thread.release(), true)
  t.equal(thread.status, 'closed')
  t.equal(thread.release(), true, 'again')
  t.not(client.thread('t'), thread)
})
