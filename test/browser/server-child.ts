import Fastify from 'fastify'
import agentEvents from '../../index.js'
import { inspector } from '../../inspector/index.js'
import { Gates, guideBehind } from '../support/guide.js'
import { hostPage } from './host.js'

/*
 * A server that is to be killed, with the host's page and the inspector: its arguments are the folder of its log and its
 * port. Says so when it listens, and opens the agent's doors that it is told of.
 */
const [folder = '', port] = process.argv.slice(2)
const gates = new Gates()
process.on('message', (gate: string) => { gates.open(gate) })
process.on('disconnect', () => { process.exit() })

const app = Fastify({ logger: { level: 'error', stream: process.stderr } })
await app.register(agentEvents, {
  prefix: '/',
  agents: [guideBehind(gates)],
  store: { lmdb: folder },
  coalesceMs: 0,
  authenticate: async (request) => ({ userId: (request.query as { userId?: string }).userId ?? String(request.headers['x-user-id']) })
})
await app.register(inspector, { prefix: '/inspector', base: '/', identify: 'userId' })
await app.register(hostPage)
await app.listen({ port: Number(port), host: '127.0.0.1' })
process.send!('ready')
