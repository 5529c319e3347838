import t from 'tap'
import { WebSocket } from 'ws'
import { createClient, type Client } from '../../../client/index.js'
import { initialState, reduce, reset, type ThreadState } from '../../../client/state/index.js'
import { triage } from '../../support/agents.js'
import { startApp } from '../../support/start-app.js'
import { until } from '../helpers.js'

const plain = (state: ThreadState) => JSON.parse(JSON.stringify(state))

t.test('a page that watched a run and one that came later show the same', async (t) => {
  const { app, url } = await startApp(t, { agents: [triage] })
  const { threadId } = await app.threads.register({ userId: 'u' })
  function watch (): { client: Client<typeof triage>, state: () => ThreadState<typeof triage> } {
    const client = createClient<typeof triage>({ url, query: { userId: 'u' }, WebSocket })
    t.teardown(() => client.close())
    let state = initialState<typeof triage>()
    const thread = client.thread(threadId)
    thread.onReset(() => { state = reset(state) })
    thread.onAny((event) => { state = reduce(state, event) })
    return { client, state: () => state }
  }

  const live = watch()
  for (const content of ['ping', 'pong']) await (await live.client.thread(threadId).send(content, { agent: 'triage' })).result()
  await app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', partId: 'p', phase: 'full', text: 'Bye' } })
  await until(() => live.state().messages.length === 5)
  const later = watch()
  await until(() => later.state().cursor === live.state().cursor)
  t.same(plain(later.state()), plain(live.state()))

  const [question, answer] = live.state().messages
  t.match(question, { role: 'user', parts: [{ type: 'text', text: 'ping' }] })
  t.match(answer, {
    role: 'assistant',
    runId: question!.runId!,
    parts: [
      { type: 'thinking', text: 'Looking it up', state: 'done' },
      { type: 'tool', tool: 'search', state: 'ok', args: { query: 'ping' }, output: { answer: 'PING' } },
      { type: 'text', text: 'PING', state: 'done' }
    ]
  })
  t.match(live.state().runs, [{ agent: 'triage', status: 'success', result: { answer: 'PING' } }, { status: 'success', result: { answer: 'PONG' } }])
})
