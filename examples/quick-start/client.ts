import { createClient } from 'fastify-agent-events/client'
import { WebSocket } from 'ws' // only before Node 22; browsers have their own

const client = createClient({ url: 'http://localhost:3000/agent-events', WebSocket })
const thread = client.thread('t1')
thread.on('tool_executing', ({ data }) => { console.log(`uses ${data.tool}`) })
thread.on('assistant_message', ({ data }) => { console.log(data.text) })

const run = await thread.send('How long is delivery?')
console.log(await run.result())
await client.close()
