import t from 'tap'
import { setTimeout } from 'node:timers/promises'
import { frames, newRoot, requestAnimationFrame } from './page.js'
import { Component, StrictMode, createElement, memo, version, type ComponentType, type ReactNode } from 'react'
import { createRoot, hydrateRoot } from 'react-dom/client'
import { renderToString } from 'react-dom/server'
import { WebSocket } from 'ws'
import { createClient, type Client } from '../../../client/index.js'
import { useThread, type ThreadView } from '../../../client/react/index.js'
import { defineAgent, type AgentEventsOptions } from '../../../index.js'
import { triage } from '../../support/agents.js'
import { startApp } from '../../support/start-app.js'
import { setup as setupWire, until } from '../helpers.js'

interface Test { teardown (fn: () => unknown): unknown }

/** Says so many pieces, each in an event of its own and over several frames. */
const talker = defineAgent({
  name: 'talker',
  description: 'Talks',
  async run ({ message }, ctx) {
    await ctx.say((async function * () {
      for (let at = 0; at < Number(message); at++) {
        await setTimeout(1)
        yield `${at} `
      }
    })())
  }
})

const sleeper = defineAgent({
  name: 'sleeper',
  description: 'Sleeps until it is cancelled',
  run: (_, ctx) => new Promise<void>((resolve, reject) => { ctx.signal.addEventListener('abort', () => { reject(ctx.signal.reason) }) })
})

const agents = [triage, talker, sleeper] as const
type Agents = typeof agents

/** A listening app, a thread in it, and a client whose frames are counted as they leave. */
async function setup (t: Test, options: Partial<AgentEventsOptions> = {}) {
  const { app, url } = await startApp(t, { agents: [...agents], ...options })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const sent: string[] = []
  class CountedWebSocket extends WebSocket {
    override send (data: any, ...rest: any[]) {
      sent.push(JSON.parse(String(data)).type)
      super.send(data, ...rest as [])
    }
  }
  const client = createClient<Agents>({ url, query: { userId: 'u' }, WebSocket: CountedWebSocket, ackMs: 5 })
  t.teardown(() => client.close())
  return { app, url, threadId, client, sentFrames: (type: string) => sent.filter((one) => one === type).length }
}

/** What a component saw in its last render, and in which frame each of its renders was. */
class Seen {
  // unset only until the first render
  view!: ThreadView<Agents>
  readonly renders: { frame: number, view: ThreadView<Agents> }[] = []

  get text (): string { return this.view === undefined ? '' : textOf(this.view) }
  readonly render = (view: ThreadView<Agents>) => {
    this.view = view
    this.renders.push({ frame: frames.count, view })
  }
}

const textOf = ({ messages }: Pick<ThreadView<Agents>, 'messages'>) => messages.flatMap(({ parts }) => parts.map((part) => part.type === 'text' ? part.text : `[${part.type}]`)).join('|')

function Show ({ client, threadId, seen }: { client: Client<Agents>, threadId: string, seen: Seen }) {
  const view = useThread(client, threadId)
  seen.render(view)
  return createElement('p', null, `${view.status}: ${textOf(view)}`)
}

function mount (t: Test, node: ReactNode) {
  const element = newRoot()
  const root = createRoot(element)
  root.render(node)
  let isMounted = true
  const unmount = () => { if (isMounted) root.unmount(); isMounted = false }
  t.teardown(unmount)
  return { element, render: (next: ReactNode) => { root.render(next) }, unmount }
}

t.comment(`React ${version}`)

t.test('a component sends, shows what happens, and is rendered once per frame at most', async (t) => {
  const { client, threadId } = await setup(t, { coalesceMs: 0 })
  const seen = new Seen()
  const { element } = mount(t, createElement(Show, { client, threadId, seen }))
  await until(() => seen.view?.status === 'live')
  t.same(seen.renders[0]!.view.messages, [])
  let events = 0
  client.thread(threadId).onAny(() => { events++ })
  const { send } = seen.view
  await (await send('300', { agent: 'talker' })).completed
  await until(() => seen.view.runs[0]?.status === 'success')
  t.match(element.textContent, /^live: 300\|0 1 2 .* 298 299 $/)
  t.equal(seen.view.cursor, client.thread(threadId).cursor)
  t.equal(seen.view.send, send, 'send is the same function in every render')
  t.ok(events > 300, `${events} events`)
  // the first render is no frame's; after that each frame has one at most
  const inFrames = seen.renders.slice(1).map(({ frame }) => frame)
  t.equal(new Set(inFrames).size, inFrames.length, `${inFrames.length} renders in ${frames.count} frames`)
  t.ok(inFrames.length > 2 && inFrames.length < events, `${inFrames.length} renders for ${events} events`)
})

t.test('a message that does not change is not rendered again while another one grows', async (t) => {
  const { client, threadId } = await setup(t, { coalesceMs: 0 })
  const renders = new Map<string, number>()
  const MessageView = memo(({ message }: { message: ThreadView<Agents>['messages'][number] }) => {
    renders.set(message.id, (renders.get(message.id) ?? 0) + 1)
    return createElement('li', null, textOf({ messages: [message] }))
  })
  const seen = new Seen()
  function List () {
    const view = useThread(client, threadId)
    seen.render(view)
    return createElement('ul', null, view.messages.map((message) => createElement(MessageView, { key: message.id, message })))
  }
  mount(t, createElement(List))
  await until(() => seen.view?.status === 'live')
  await (await seen.view.send('ping', { agent: 'triage' })).result()
  await until(() => seen.view.runs[0]?.status === 'success')
  const before = new Map(renders)
  await (await seen.view.send('100', { agent: 'talker' })).completed
  await until(() => seen.view.runs.length === 2 && seen.view.runs.every(({ status }) => status === 'success'))
  t.equal(before.size, 2)
  for (const [id, count] of before) t.equal(renders.get(id), count, id)
  t.ok(renders.get(seen.view.messages.at(-1)!.id)! > 2, 'the one that grew was')
})

t.test('a view that does not change is the same object, whoever else is rendered again', async (t) => {
  const { client, threadId } = await setup(t)
  const views: ThreadView<Agents>[] = []
  const seen = new Seen()
  const Inner = memo(({ view }: { view: ThreadView<Agents> }) => {
    views.push(view)
    return null
  })
  function Outer ({ title }: { title: string }) {
    const view = useThread(client, threadId)
    seen.render(view)
    return createElement('section', { title }, createElement(Inner, { view }))
  }
  const { element, render } = mount(t, createElement(Outer, { title: 'one' }))
  await until(() => seen.view?.status === 'live')
  const renders = views.length
  render(createElement(Outer, { title: 'two' }))
  await until(() => element.querySelector('section')?.title === 'two')
  t.equal(views.length, renders)
})

t.test('components share one state and one subscription, also under StrictMode', async (t) => {
  const { client, threadId, sentFrames } = await setup(t)
  const [left, right] = [new Seen(), new Seen()]
  mount(t, createElement(StrictMode, null,
    createElement(Show, { client, threadId, seen: left }),
    createElement(Show, { client, threadId, seen: right })))
  await until(() => left.view?.status === 'live' && right.view.status === 'live')
  await (await left.view.send('ping', { agent: 'triage' })).result()
  await until(() => left.view.runs[0]?.status === 'success' && right.view.runs[0]?.status === 'success')
  t.equal(left.view.messages, right.view.messages, 'the very same messages')
  t.equal(left.text, 'ping|[thinking]|[tool]|PING', 'nothing is there twice')
  t.equal(sentFrames('subscribe'), 1)
  t.equal(sentFrames('unsubscribe'), 0)
})

t.test('a component that takes the place of the last one goes on with its state', async (t) => {
  const { client, threadId, sentFrames } = await setup(t)
  const [before, after] = [new Seen(), new Seen()]
  const page = mount(t, createElement(Show, { key: 'before', client, threadId, seen: before }))
  await until(() => before.view?.status === 'live')
  await (await before.view.send('ping', { agent: 'triage' })).result()
  await until(() => before.view.runs[0]?.status === 'success')
  page.render(createElement(Show, { key: 'after', client, threadId, seen: after }))
  await until(() => after.renders.length > 0)
  await (await after.view.send('pong', { agent: 'triage' })).result()
  await until(() => after.view.runs.length === 2 && after.view.runs[1]!.status === 'success')
  t.equal(after.renders[0]!.view.messages, before.view.messages)
  t.same([sentFrames('subscribe'), sentFrames('unsubscribe')], [1, 0])
})

t.test('one more component shows everything at once', async (t) => {
  const { client, threadId, sentFrames } = await setup(t)
  const [first, second] = [new Seen(), new Seen()]
  mount(t, createElement(Show, { client, threadId, seen: first }))
  await until(() => first.view?.status === 'live')
  await (await first.view.send('ping', { agent: 'triage' })).result()
  await until(() => first.view.runs[0]?.status === 'success')
  mount(t, createElement(Show, { client, threadId, seen: second }))
  await until(() => second.renders.length > 0)
  t.equal(second.renders[0]!.view.messages, first.view.messages, 'in its first render')
  t.equal(sentFrames('subscribe'), 1)
})

t.test('the last one to go frees everything; the next one begins anew', async (t) => {
  const { app, client, threadId, sentFrames } = await setup(t)
  const seen = new Seen()
  const pages = [mount(t, createElement(Show, { client, threadId, seen })), mount(t, createElement(Show, { client, threadId, seen: new Seen() }))]
  await until(() => seen.view?.status === 'live')
  await (await seen.view.send('ping', { agent: 'triage' })).result()
  await until(() => seen.view.runs[0]?.status === 'success')
  const thread = client.thread(threadId)
  pages[0]!.unmount()
  await new Promise((resolve) => { setImmediate(resolve) })
  t.equal(sentFrames('unsubscribe'), 0, 'one is still there')
  pages[1]!.unmount()
  await until(() => sentFrames('unsubscribe') === 1)
  t.equal(thread.status, 'closed')
  t.not(client.thread(threadId), thread)
  const renders = seen.renders.length
  await app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', partId: 'p', phase: 'full', text: 'later' } })

  const again = new Seen()
  mount(t, createElement(Show, { client, threadId, seen: again }))
  await until(() => again.view?.messages.length === 3)
  t.equal(again.text, 'ping|[thinking]|[tool]|PING|later')
  t.equal(seen.renders.length, renders, 'nobody renders what is gone')
})

t.test('the last one to go leaves no frame behind', async (t) => {
  const { app, client, threadId } = await setup(t)
  const seen = new Seen()
  const page = mount(t, createElement(Show, { client, threadId, seen }))
  await until(() => seen.view?.status === 'live')
  // none of these is ever shown
  const asked: number[] = []
  const cancelled: number[] = []
  const { cancelAnimationFrame } = globalThis as { cancelAnimationFrame?: unknown }
  Object.assign(globalThis, { requestAnimationFrame: () => asked[asked.push(asked.length + 1) - 1], cancelAnimationFrame: (handle: number) => cancelled.push(handle) })
  t.teardown(() => Object.assign(globalThis, { requestAnimationFrame, cancelAnimationFrame }))
  await app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', partId: 'p', phase: 'full', text: 'Hi' } })
  await until(() => asked.length === 1)
  const thread = client.thread(threadId)
  page.unmount()
  await until(() => thread.status === 'closed')
  t.same(cancelled, asked)
})

t.test('the place in the log is lost: what was shown goes, and what there is comes', async (t) => {
  const { server, client } = await setupWire(t)
  server.count('t', 3)
  const seen = new Seen()
  const numbers = () => seen.view?.messages.flatMap(({ parts }) => parts.map((part) => part.type === 'custom' && part.value)).join()
  mount(t, createElement(Show, { client: client as unknown as Client<Agents>, threadId: 't', seen }))
  await until(() => numbers() === '1,2,3')
  server.restart('t', 'k3xw9q00bbbb', 2)
  await until(() => seen.view.cursor === 'k3xw9q00bbbb-0000000002')
  t.equal(numbers(), '1,2')
  t.equal(seen.view.status, 'live')
})

t.test('a thread is shown from its beginning, also where the client keeps cursors', async (t) => {
  const { client, threadId, url } = await setup(t)
  await (await client.thread(threadId).send('ping', { agent: 'triage' })).result()
  const kept = new Map<string, string>()
  const storage = { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => { kept.set(key, value) }, removeItem: (key: string) => { kept.delete(key) } }
  for (const load of ['the first', 'the second']) {
    const seen = new Seen()
    const page = createClient<Agents>({ url, query: { userId: 'u' }, WebSocket, storage })
    const { unmount } = mount(t, createElement(Show, { client: page, threadId, seen }))
    await until(() => seen.view?.runs[0]?.status === 'success')
    t.equal(seen.text, 'ping|[thinking]|[tool]|PING', `${load} page`)
    unmount()
    await page.close()
    t.equal(kept.size, 1, 'a cursor is kept')
  }
})

t.test('somebody else who listens to the thread', async (t) => {
  t.test('goes on when the last component goes, and gets nothing twice when one comes back', async (t) => {
    const { app, client, threadId, sentFrames } = await setup(t)
    const say = (text: string) => app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', partId: text, phase: 'full', text } })
    const seqs: number[] = []
    const seen = new Seen()
    const page = mount(t, createElement(Show, { client, threadId, seen }))
    await until(() => seen.view?.status === 'live')
    client.thread(threadId).onAny(({ seq }) => { seqs.push(seq) })
    await say('one')
    await until(() => seen.view?.messages.length === 1)
    page.unmount()
    await say('two')
    await until(() => seqs.length === 2)
    t.equal(sentFrames('unsubscribe'), 0)
    const again = new Seen()
    mount(t, createElement(Show, { client, threadId, seen: again }))
    await say('three')
    await until(() => again.view?.messages.length === 3)
    t.equal(again.text, 'one|two|three')
    t.same(seqs, [1, 2, 3])
  })

  t.test('goes on when the last component goes; when the thread is closed meanwhile, the next one gets another', async (t) => {
    const { app, client, threadId } = await setup(t)
    const seen = new Seen()
    const page = mount(t, createElement(Show, { client, threadId, seen }))
    await until(() => seen.view?.status === 'live')
    const thread = client.thread(threadId)
    thread.onAny(() => {})
    page.unmount()
    await new Promise((resolve) => { setImmediate(resolve) })
    t.equal(thread.status, 'live')
    thread.close()
    await app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', partId: 'p', phase: 'full', text: 'later' } })
    const again = new Seen()
    mount(t, createElement(Show, { client, threadId, seen: again }))
    await until(() => again.view?.status === 'live' && again.text === 'later')
    t.not(client.thread(threadId), thread)
  })

  t.test('was there first, and nothing has happened: a component shows the status all the same', async (t) => {
    const { client, threadId } = await setup(t)
    const thread = client.thread(threadId)
    thread.onAny(() => {})
    await until(() => thread.status === 'live')
    const seen = new Seen()
    mount(t, createElement(Show, { client, threadId, seen }))
    await until(() => seen.view?.status === 'live')
    t.same(seen.view.messages, [])
  })

  t.test('was there first: a component still shows everything, and the others are told of a reset', async (t) => {
    const { app, client, threadId } = await setup(t)
    const say = (text: string) => app.notifier.sendToThread(threadId, { type: 'assistant_message', data: { agent: 'host', partId: text, phase: 'full', text } })
    const got: (number | 'reset')[] = []
    client.thread(threadId).onReset(() => { got.push('reset') })
    client.thread(threadId).onAny(({ seq }) => { got.push(seq) })
    await say('one')
    await say('two')
    await until(() => got.length === 2)
    const seen = new Seen()
    mount(t, createElement(Show, { client, threadId, seen }))
    await until(() => seen.view?.messages.length === 2)
    await say('three')
    await until(() => seen.view.messages.length === 3)
    t.equal(seen.text, 'one|two|three')
    t.same(got, [1, 2, 'reset', 1, 2, 3])
  })
})

t.test('another thread id shows another thread', async (t) => {
  const { app, client, threadId } = await setup(t)
  const other = await app.threads.register({ userId: 'u' })
  for (const id of [threadId, other.threadId]) await app.notifier.sendToThread(id, { type: 'assistant_message', data: { agent: 'host', partId: 'p', phase: 'full', text: id } })
  const seen = new Seen()
  const page = mount(t, createElement(Show, { client, threadId, seen }))
  await until(() => seen.text === threadId)
  const { send } = seen.view
  page.render(createElement(Show, { client, threadId: other.threadId, seen }))
  await until(() => seen.text === other.threadId)
  t.not(seen.view.send, send)
  await (await seen.view.send('ping', { agent: 'triage' })).result()
  await until(() => seen.view.runs.length === 1)
  t.equal((await app.notifier.history(threadId)).length, 1, 'nothing was said in the first one')
})

t.test('cancel ends what is running', async (t) => {
  const { app, client, threadId } = await setup(t)
  const seen = new Seen()
  mount(t, createElement(Show, { client, threadId, seen }))
  await until(() => seen.view?.status === 'live')
  const runs = await Promise.all([1, 2, 3].map(() => app.agents.createForUser(sleeper, { userId: 'u', threadId })))
  for (const run of runs) run.execute({ message: 'zzz' }).catch(() => {})
  await until(() => seen.view.runs.length === 3)
  await seen.view.cancel(runs[1]!.runId)
  await until(() => seen.view.runs.map(({ status }) => status).join() === 'running,cancelled,running')
  await seen.view.cancel()
  await until(() => seen.view.runs.every(({ status }) => status === 'cancelled'))
  await seen.view.cancel()
  t.pass('nothing to cancel is fine')
})

t.test('on a server it is empty, connects to nothing, and a page takes it over', async (t) => {
  const { client, threadId, sentFrames } = await setup(t)
  const seen = new Seen()
  const node = createElement(Show, { client, threadId, seen })
  const html = renderToString(node)
  t.equal(html, '<p>idle: </p>')
  t.equal(client.status, 'idle')
  t.equal(sentFrames('subscribe'), 0)

  const element = newRoot()
  element.innerHTML = html
  const errors: unknown[] = []
  const root = hydrateRoot(element, node, { onRecoverableError: (error) => { errors.push(error) } })
  t.teardown(() => { root.unmount() })
  await until(() => seen.view.status === 'live')
  await (await seen.view.send('ping', { agent: 'triage' })).result()
  await until(() => element.textContent === 'live: ping|[thinking]|[tool]|PING')
  t.same(errors, [])

  // what others have shown since is not what the server knew
  const late = newRoot()
  late.innerHTML = html
  const another = new Seen()
  const lateRoot = hydrateRoot(late, createElement(Show, { client, threadId, seen: another }), { onRecoverableError: (error) => { errors.push(error) } })
  t.teardown(() => { lateRoot.unmount() })
  await until(() => late.textContent === 'live: ping|[thinking]|[tool]|PING')
  t.same(errors, [])
  t.same(another.renders[0]!.view.messages, [])
})

t.test('a render that never becomes a component leaves nothing behind', async (t) => {
  const { client, threadId, sentFrames } = await setup(t)
  class Boundary extends Component<{ children: ReactNode }> {
    override state = { failed: false }
    static getDerivedStateFromError () { return { failed: true } }
    override render () { return this.state.failed ? 'failed' : this.props.children }
  }
  const Broken: ComponentType = () => {
    useThread(client, threadId)
    throw new Error('on purpose')
  }
  const error = console.error
  console.error = () => {}
  const { element } = mount(t, createElement(Boundary, null, createElement(Broken)))
  await until(() => element.textContent === 'failed')
  console.error = error
  t.equal(client.status, 'idle')
  t.equal(sentFrames('subscribe'), 0)
})

t.test('a thread that does not exist is closed, and tried again by the next component', async (t) => {
  const { app, url } = await setup(t)
  const errors: string[] = []
  const client = createClient<Agents>({ url, query: { userId: 'u' }, WebSocket })
  t.teardown(() => client.close())
  client.onError(({ code }) => { errors.push(code) })
  client.thread('later').onAny(() => {})
  const seen = new Seen()
  const page = mount(t, createElement(Show, { client, threadId: 'later', seen }))
  await until(() => seen.view?.status === 'closed')
  page.unmount()
  await until(() => errors.length > 0)
  t.same(errors, ['FAE_ERR_THREAD_NOT_FOUND'])
  await app.threads.register({ userId: 'u', threadId: 'later' })
  const again = new Seen()
  mount(t, createElement(Show, { client, threadId: 'later', seen: again }))
  await until(() => again.view?.status === 'live')
  t.same(errors, ['FAE_ERR_THREAD_NOT_FOUND'], 'it was not asked for in between')
})

t.test('without frames, timers do', async (t) => {
  const { client, threadId } = await setup(t)
  Object.assign(globalThis, { requestAnimationFrame: undefined })
  t.teardown(() => Object.assign(globalThis, { requestAnimationFrame }))
  const seen = new Seen()
  mount(t, createElement(Show, { client, threadId, seen }))
  await until(() => seen.view?.status === 'live')
  await (await seen.view.send('ping', { agent: 'triage' })).result()
  await until(() => seen.text === 'ping|[thinking]|[tool]|PING')
  t.pass()
})

t.test('a page that is not shown has no frames, and is told all the same', async (t) => {
  const { client, threadId } = await setup(t)
  Object.assign(globalThis, { requestAnimationFrame: () => 0 })
  t.teardown(() => Object.assign(globalThis, { requestAnimationFrame }))
  const seen = new Seen()
  mount(t, createElement(Show, { client, threadId, seen }))
  await until(() => seen.view?.status === 'live')
  t.pass()
})
