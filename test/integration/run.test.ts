import t from 'tap'
import { startApp } from '../support/start-app.js'
import { connect, post } from '../support/connect.js'
import { triage, TRIAGE_EVENTS } from '../support/agents.js'

t.test('a message comes back as its events', async (t) => {
  const { url } = await startApp(t, { agents: [triage] })
  await post(url, '/threads', 'u', { threadId: 't1' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId: 't1' })
  tab.send({ type: 'send', ref: '1', threadId: 't1', content: 'ping' })
  await tab.frame('agent_completed')
  t.same(tab.events().map(({ type }) => type), ['user_message', ...TRIAGE_EVENTS])
})
