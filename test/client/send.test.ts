import t from 'tap'
import type { AgentEvent } from '../../client/index.js'
import type { CancelFrame, SendFrame } from '../../schemas/index.js'
import { seqsOf, setup, until, upTo } from './helpers.js'

t.test('send starts a run, and its handle tells how it ended', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const run = await thread.send('hi', { agent: 'triage', input: { topic: 'x' } })
  t.equal(run.runId, 'run_1')
  t.match(server.frames.find((frame) => frame.type === 'send'), { threadId: 't', content: 'hi', agent: 'triage', input: { topic: 'x' }, clientMessageId: /^.{20,}$/ })
  server.complete('t', run.runId)
  t.match(await run.completed, { type: 'agent_completed', runId: 'run_1' })
  t.same(await run.result(), { answer: 42 })
  t.same(await run.result(), { answer: 42 }, 'as often as one likes')
})

t.test('a run that did not succeed: result rejects with the code of the failure', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  for (const [outcome, expected] of [
    [{ status: 'error', error: { code: 'MODEL_DOWN', message: 'try later' } }, { code: 'MODEL_DOWN', message: 'try later', threadId: 't' }],
    [{ status: 'error' }, { code: 'FAE_ERR_RUN_FAILED' }],
    [{ status: 'timeout' }, { code: 'FAE_ERR_RUN_TIMEOUT' }],
    [{ status: 'lost' }, { code: 'FAE_ERR_RUN_LOST', message: 'The run ended as lost' }],
    [{ status: 'cancelled', reason: 'changed my mind' }, { code: 'FAE_ERR_RUN_CANCELLED', message: 'changed my mind' }]
  ] as const) {
    const run = await thread.send('hi')
    server.complete('t', run.runId, outcome)
    await t.rejects(run.result(), { name: 'AgentEventsError', ...expected })
    t.equal((await run.completed).data.status, outcome.status)
  }
})

t.test('the end may come before the answer to the send', async (t) => {
  const { server, client } = await setup(t)
  server.intercept = (peer, frame) => {
    if (frame.type !== 'send') return false
    server.complete('t', 'run_1')
    return false
  }
  const run = await client.thread('t').send('hi')
  t.same(await run.result(), { answer: 42 })
})

t.test('a run whose end nobody has seen is not finished: not when the connection is lost, nor when its place in the log is', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const seqs = seqsOf(thread)
  const run = await thread.send('hi')
  let isSettled = false
  for (const promise of [run.completed, run.result()]) promise.finally(() => { isSettled = true }).catch(() => {})
  server.peers[0]!.socket.terminate()
  server.append('t', 'assistant_message', { agent: 'triage', messageId: 'm', partId: 'p', phase: 'full', text: '42' }, run.runId)
  await until(() => server.peers.length === 2 && seqs.length === 2)
  t.equal(isSettled, false)
  server.restart('t', 'k3xw9q00zzzz', 1)
  await until(() => thread.cursor === 'k3xw9q00zzzz-0000000001')
  t.equal(isSettled, false)
  server.complete('t', run.runId)
  t.same(await run.result(), { answer: 42 })
})

t.test('only the latest ends are remembered, and a waiting one is found among many', async (t) => {
  const { server, client } = await setup(t)
  const run = await client.thread('t').send('hi')
  for (let i = 0; i < 100; i++) server.complete('t', `other_${i}`)
  server.complete('t', run.runId)
  t.same(await run.result(), { answer: 42 })
})

t.test('result() may be awaited inside a listener', async (t) => {
  const { server, client } = await setup(t)
  const thread = client.thread('t')
  const results: unknown[] = []
  server.intercept = (peer, frame) => {
    if (frame.type !== 'send') return false
    server.complete('t', server.accept(peer, frame))
    return true
  }
  thread.on('custom', async () => {
    const run = await thread.send('more')
    results.push(await run.result())
  })
  server.count('t')
  await until(() => results.length === 1)
})

t.test('cut before the answer: sent again with the same clientMessageId, and it is one run', async (t) => {
  for (const isStored of [true, false]) {
    await t.test(isStored ? 'the answer was lost' : 'the message was lost', async (t) => {
      const { server, client } = await setup(t)
      let cuts = 1
      server.intercept = (peer, frame) => {
        if (frame.type !== 'send' || cuts-- <= 0) return false
        if (isStored) server.complete('t', server.accept({ ...peer, say: () => {} }, frame))
        peer.socket.terminate()
        return true
      }
      const thread = client.thread('t')
      const events: AgentEvent[] = []
      thread.onAny((event) => { events.push(event) })
      const run = await thread.send('hi')
      const sends = server.frames.filter((frame): frame is SendFrame => frame.type === 'send')
      t.equal(sends.length, 2)
      t.equal(sends[0]!.clientMessageId, sends[1]!.clientMessageId)
      t.equal(server.runs.size, 1)
      if (!isStored) server.complete('t', run.runId)
      t.same(await run.result(), { answer: 42 })
      t.same(events.map((event) => event.type), ['user_message', 'agent_completed'])
    })
  }
})

t.test('the same clientMessageId twice is one run; sends without a connection wait for it', async (t) => {
  const { client } = await setup(t)
  const thread = client.thread('t')
  const [a, b, c] = await Promise.all([
    thread.send('hi', { clientMessageId: 'm1' }),
    thread.send('hi', { clientMessageId: 'm1' }),
    thread.send([{ type: 'text', text: 'hi' }])
  ])
  t.equal(a.runId, b.runId)
  t.not(a.runId, c.runId)
})

t.test('a refused send rejects, and is not told a second time', async (t) => {
  const { server, client, errors } = await setup(t)
  server.intercept = (peer, frame) => {
    if (frame.type !== 'send' && frame.type !== 'subscribe') return false
    peer.say({ type: 'error', ref: frame.ref!, threadId: 't', code: 'FAE_ERR_THREAD_NOT_FOUND', message: 'not found' })
    return true
  }
  const thread = client.thread('t')
  await t.rejects(thread.send('hi'), { code: 'FAE_ERR_THREAD_NOT_FOUND', threadId: 't' })
  t.equal(thread.status, 'closed')
  t.same(errors, [])
})

t.test('what the server would not take is not sent, since it would end the connection', async (t) => {
  const { server, client } = await setup(t)
  server.maxPayload = 1_000
  const thread = client.thread('t')
  await t.rejects(thread.send('ü'.repeat(600)), { code: 'FAE_ERR_EVENT_TOO_LARGE' })
  t.ok((await thread.send('ü'.repeat(100))).runId)
  t.notOk(server.frames.some((frame) => frame.type === 'send' && String(frame.content).length === 600))
})

t.test('what is no JSON rejects', async (t) => {
  const { client } = await setup(t)
  await t.rejects(client.thread('t').send('hi', { input: { n: 1n } }), TypeError)
})

t.test('cancel', async (t) => {
  t.test('resolves when the run has ended, through a cut as well', async (t) => {
    const { server, client } = await setup(t)
    const run = await client.thread('t').send('hi')
    let cuts = 1
    server.intercept = (peer, frame) => {
      if (frame.type !== 'cancel') return false
      if (cuts-- > 0) peer.socket.terminate()
      else server.complete('t', frame.runId, { status: 'cancelled' })
      return true
    }
    await run.cancel()
    t.match(server.frames.filter((frame): frame is CancelFrame => frame.type === 'cancel').map((frame) => frame.runId), ['run_1', 'run_1'])
    await t.rejects(run.result(), { code: 'FAE_ERR_RUN_CANCELLED' })
    await run.cancel()
  })

  t.test('of a run that the server says has ended', async (t) => {
    const { server, client } = await setup(t)
    server.intercept = (peer, frame) => {
      if (frame.type !== 'cancel') return false
      peer.say({ type: 'error', ref: frame.ref!, code: 'FAE_ERR_RUN_ENDED', message: 'ended' })
      return true
    }
    await client.thread('t').cancel('run_of_old')
  })

  t.test('of a run that is not known', async (t) => {
    const { server, client, errors } = await setup(t)
    const thread = client.thread('t')
    server.intercept = (peer, frame) => {
      if (frame.type !== 'cancel') return false
      peer.say({ type: 'error', ref: frame.ref!, code: 'FAE_ERR_RUN_NOT_FOUND', message: 'not found' })
      return true
    }
    await t.rejects(thread.cancel('run_of_somebody'), { code: 'FAE_ERR_RUN_NOT_FOUND' })
    const run = await thread.send('hi')
    await t.rejects(run.cancel(), { code: 'FAE_ERR_RUN_NOT_FOUND' })
    server.complete('t', run.runId)
    t.same(await run.result(), { answer: 42 }, 'the handle still learns how it ended')
    t.same(errors, [])
  })
})

t.test('a closed thread or client: what waits for a run rejects, what nobody awaits is not unhandled', async (t) => {
  const { client } = await setup(t)
  const [a, b] = await Promise.all([client.thread('a').send('hi'), client.thread('b').send('hi')])
  client.thread('a').close()
  await t.rejects(a.result(), { code: 'FAE_ERR_CLIENT_CLOSED', threadId: 'a' })
  await client.close()
  await t.rejects(b.completed, { code: 'FAE_ERR_CLIENT_CLOSED' })
})

t.test('async iteration', async (t) => {
  t.test('in order; an event is processed when the next one is asked for', async (t) => {
    const { server, client } = await setup(t)
    const thread = client.thread('t')
    const seqs = seqsOf(thread)
    server.count('t', 5)
    const got: number[] = []
    for await (const event of thread) {
      got.push(event.seq)
      await new Promise((resolve) => { setImmediate(resolve) })
      t.same(seqs, upTo(event.seq), 'nobody is ahead')
      t.equal(Number(thread.cursor!.slice(-10)), event.seq - 1)
      if (event.seq === 5) break
    }
    t.same(got, upTo(5))
    await until(() => Number(thread.cursor!.slice(-10)) === 5, 'leaving the loop settles the last one')
    server.count('t')
    await until(() => seqs.length === 6)
    t.same(got.length, 5)
  })

  t.test('two at once both get everything; next() may be called ahead', async (t) => {
    const { server, client } = await setup(t)
    const thread = client.thread('t')
    const a = thread[Symbol.asyncIterator]()
    const b = thread[Symbol.asyncIterator]()
    const ahead = [a.next(), a.next(), a.next()]
    const first = b.next()
    server.count('t', 3)
    t.equal((await first).value.seq, 1)
    t.equal((await b.next()).value.seq, 2)
    t.equal((await b.next()).value.seq, 3)
    t.same((await Promise.all(ahead)).map(({ value }) => value.seq), [1, 2, 3])
    t.same(await a.return!(), { done: true, value: undefined })
    t.same(await a.next(), { done: true, value: undefined })
  })

  t.test('a send before the loop loses nothing', async (t) => {
    const { server, client } = await setup(t)
    const thread = client.thread('t')
    const run = await thread.send('hi')
    server.complete('t', run.runId)
    await run.completed
    const types: string[] = []
    for await (const event of thread) {
      types.push(event.type)
      if (event.type === 'agent_completed') break
    }
    t.same(types, ['user_message', 'agent_completed'])
  })

  t.test('ends when the thread is closed, throws when it is refused', async (t) => {
    const { server, client, errors } = await setup(t)
    const thread = client.thread('t')
    const iterator = thread[Symbol.asyncIterator]()
    server.count('t')
    await iterator.next()
    const next = iterator.next()
    thread.close()
    t.same(await next, { done: true, value: undefined })
    t.same(await thread[Symbol.asyncIterator]().next(), { done: true, value: undefined })

    server.intercept = (peer, frame) => {
      peer.say({ type: 'error', ref: (frame as SendFrame).ref, code: 'FAE_ERR_THREAD_NOT_FOUND', message: 'not found' })
      return true
    }
    await t.rejects(async () => { for await (const event of client.thread('nowhere')) t.fail(`got ${event.type}`) }, { code: 'FAE_ERR_THREAD_NOT_FOUND' })
    t.same(errors, [])
  })
})

t.test('a server that is closing: the message is sent again to the one after it, with the same clientMessageId', async (t) => {
  const { server, client, errors } = await setup(t)
  server.intercept = (peer, frame) => {
    if (frame.type !== 'send' || server.peers.length > 1) return false
    peer.say({ type: 'error', ref: frame.ref, threadId: 't', code: 'FAE_ERR_SERVER_CLOSING', message: 'closing' })
    peer.say({ type: 'goaway', reconnectInMs: 1 })
    peer.socket.close(1012)
    return true
  }
  const run = await client.thread('t').send('hi')
  server.complete('t', run.runId)
  t.same(await run.result(), { answer: 42 })
  const sends = server.frames.filter((frame): frame is SendFrame => frame.type === 'send')
  t.equal(sends.length, 2)
  t.equal(sends[0]!.clientMessageId, sends[1]!.clientMessageId)
  t.same(errors, [])
})
