/*
 * One program that uses every sub-path that code can import, as it would be written in TypeScript. Its imports are put in
 * front of it for ES modules and for CommonJS.
 */

/** What the program imports, by sub-path. */
export const imported: Record<string, readonly string[]> = {
  '.': ['defineAgent', 'defineTool', 'Type'],
  './thread-registry': ['threadRegistry'],
  './websocket-notifier': ['websocketNotifier'],
  './tool-dispatcher': ['toolDispatcher'],
  './agent-registry': ['agentRegistry'],
  './routes': ['routes'],
  './stores': ['MemoryStore'],
  './schemas': ['parseCursor'],
  './client': ['createClient'],
  './client/state': ['initialState', 'reduce'],
  './client/react': ['useThread'],
  './inspector': ['inspector'],
  './compat': ['AgentRegistry', 'legacyEvents'],
  './testing': ['storeConformance']
}

/** What it says, as JSON. */
export const said = {
  result: { answer: 'PING', at: '2026-01-01T00:00:00.000Z' },
  parts: ['text ping', 'thinking Looking it up', 'tool ok PING', 'text PING'],
  status: 'success',
  seq: 7,
  legacy: 'legacy PONG',
  page: true,
  html: '<p>idle 0</p>',
  cases: 2
}

export const program = `
const search = defineTool({
  name: 'search',
  description: 'Search',
  inputSchema: Type.Object({ query: Type.String() }),
  execute: async ({ query }) => ({ answer: query.toUpperCase(), at: new Date('2026-01-01') })
})
const triage = defineAgent({
  name: 'triage',
  description: 'Answers',
  tools: [search],
  async run ({ message }, ctx) {
    await ctx.think('Looking it up')
    const hit = await ctx.tools.search({ query: message })
    await ctx.say(hit.answer)
    return hit
  }
})
const agents = [triage] as const

async function main () {
  const app = Fastify()
  const store = new MemoryStore()
  await app.register(threadRegistry, { store })
  await app.register(websocketNotifier, { events: { ...legacyEvents } })
  await app.register(toolDispatcher)
  await app.register(agentRegistry, { agents: [...agents] })
  await app.register(routes, { prefix: '/agent-events', authenticate: async () => ({ userId: 'u' }) })
  await app.register(inspector, { prefix: '/inspector' })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const { threadId } = await app.threads.register({ userId: 'u' })

  const client = createClient<typeof agents>({ url: url + '/agent-events', transport: 'sse' })
  const html = renderToString(createElement(function Thread () {
    const { messages, status } = useThread(client, threadId)
    return createElement('p', null, status + ' ' + messages.length)
  }))
  const thread = client.thread(threadId)
  let state = initialState<typeof agents>()
  const seen = new Promise<void>((resolve) => {
    thread.onAny((event) => {
      state = reduce(state, event)
      if (event.type === 'agent_completed') resolve()
    })
  })
  // as it arrives: what was a Date is a text
  const result: { answer: string, at: string } = await (await thread.send('ping', { agent: 'triage' })).result()
  await seen
  // @ts-expect-error no such agent
  thread.send('ping', { agent: 'triag' }).catch(() => {})
  const parts = state.messages.flatMap((message) => message.parts.map((part) => {
    if (part.type === 'tool') return part.state === 'ok' ? \`tool ok \${part.output.answer}\` : 'tool'
    return part.type === 'text' || part.type === 'thinking' ? \`\${part.type} \${part.text}\` : part.type
  }))
  const [run] = state.runs
  const { seq } = parseCursor(state.cursor!)!

  const registry = new AgentRegistry(app)
  registry.registerAgent('legacy', { execute: async (input: { message: string }) => 'legacy ' + input.message.toUpperCase() })
  const legacy = await registry.getAgent('legacy')!.execute({ message: 'pong' }, { userId: 'u', threadId })

  const page = (await (await fetch(url + '/inspector/')).text()).includes('<!doctype html>')

  const cases: (() => Promise<void>)[] = []
  storeConformance((_name, fn) => cases.push(fn), async () => {
    const store = new MemoryStore()
    await store.open()
    return { store, end: () => store.close() }
  })
  for (const one of cases.slice(0, 2)) await one()

  await client.close()
  await app.close()
  await store.close()
  console.log(JSON.stringify({ result, parts, status: run?.status, seq, legacy, page, html, cases: cases.slice(0, 2).length }))
}

main()
`
