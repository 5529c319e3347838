import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import agentEvents, { type AgentEventsOptions } from 'fastify-agent-events'
import { inspector } from 'fastify-agent-events/inspector'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { createTriage } from './agents/triage/index.js'
import { jwtAuthentication } from './authenticate-jwt.js'
import { authenticateNone, isLocalRequest, isLoopback } from './authenticate-none.js'
import { ConfigError, type Config } from './config.js'
import { errorBody, guardDoors, listOf, operatorCheck, pathOf, trustProxyOf } from './doors.js'
import { loadAgents, type Definitions } from './load-agents.js'
import { chooseStore } from './store.js'

/**
 * The standalone server, ready to listen or to be injected.
 *
 * @throws ConfigError when AUTH=none meets a host that others can reach, a key cannot be read, or the agents folder is unusable
 * @throws the library's own errors, such as FAE_ERR_AGENT_DUPLICATE
 */
export async function buildServer (config: Config): Promise<FastifyInstance> {
  refuseOpenHost(config)
  const loaded = config.AGENTS === undefined ? { agents: [], tools: [] } : await loadAgents(config.AGENTS)
  const app = Fastify({ logger: loggerOptions(config), trustProxy: trustProxyOf(config.TRUST_PROXY), routerOptions: { maxParamLength: 1024 } })
  try {
    if (config.AUTH === 'none') app.addHook('onRequest', refuseForeignRequest)
    app.addHook('onResponse', hangUpAfterRefusal)
    app.setNotFoundHandler(answerNotFound)
    await guardDoors(app, config)
    await app.register(agentEvents, {
      prefix: '/',
      store: chooseStore(config.STORE).option,
      operations: true,
      ...await doorOptions(app, config),
      ...withDemoAgent(loaded, config, app)
    })
    // The page itself shows nothing of anybody: what it asks for is asked for by whoever looks at it.
    await app.register(inspector, { base: '/', identify: config.AUTH === 'none' ? 'userId' : 'bearer', suggestions: loaded.agents.length > 0 ? [] : SUGGESTIONS })
    return app
  } catch (error) {
    await app.close()
    throw error
  }
}

/** Between two pieces of the demo agent's answer: about as fast as a language model, so that it can be watched. */
const PACE_MS = 60
/** What the demo agent has something to say about. */
const SUGGESTIONS = ['How do I resume after a reconnect?', 'What does a Fastify app need to show its agents?', 'Where are events kept?']

type DoorOptions = Pick<AgentEventsOptions, 'authenticate' | 'refresh' | 'origins' | 'debug' | 'metrics'>

/** Who may come in, and what operators see. */
async function doorOptions (app: FastifyInstance, config: Config): Promise<DoorOptions> {
  // Open only because refuseOpenHost let nothing but loopback through, and refuseForeignRequest no page from elsewhere.
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  if (config.AUTH === 'none') return { authenticate: authenticateNone, origins: '*', debug: true, metrics: { registry } }
  const operator = operatorCheck(config)
  return {
    ...await jwtAuthentication(app, config),
    origins: listOf(config.CORS_ORIGINS),
    ...(operator !== undefined && { debug: operator, metrics: { registry, allow: operator } })
  }
}

function refuseOpenHost (config: Config): void {
  if (config.AUTH !== 'none') return
  // Somebody meant to protect it: without this the server would be open and look as if it were not.
  for (const name of ['JWT_SECRET', 'JWT_PUBLIC_KEY', 'JWT_JWKS', 'CORS_ORIGINS', 'OPERATOR_TOKEN'] as const) {
    if (config[name] !== undefined) throw new ConfigError(`${name} is set, but AUTH is none: add AUTH=jwt, or take it away`)
  }
  if (isLoopback(config.HOST)) return
  throw new ConfigError(`HOST ${config.HOST} with AUTH=none would let anybody on the network act as any user. ` +
    'Use a loopback host (127.0.0.1, ::1 or localhost) or AUTH=jwt, or register the fastify-agent-events plugin with your own authenticate in an app of yours.')
}

async function refuseForeignRequest (request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (isLocalRequest(request.headers)) return
  await reply.code(403).send(errorBody(403, 'FAE_ERR_FORBIDDEN', 'With AUTH=none only requests to a loopback host name, and from pages on one, are answered'))
}

/**
 * Node leaves the socket of an upgrade to whoever took it. When the answer is a refusal nobody did, and it would
 * stay open for as long as the process, and app.close() with it.
 */
async function hangUpAfterRefusal (request: FastifyRequest): Promise<void> {
  if (request.headers.upgrade !== undefined) request.raw.socket.destroySoon()
}

async function answerNotFound (request: FastifyRequest, reply: FastifyReply): Promise<void> {
  await reply.code(404).send(errorBody(404, 'FAE_ERR_NOT_FOUND', `There is nothing at ${request.method} ${pathOf(request.url)}`))
}

/** The agents folder replaces the demo agent, unless it brings tools only. */
function withDemoAgent (loaded: Definitions, config: Config, app: FastifyInstance): Definitions {
  if (loaded.agents.length > 0) return loaded
  const triage = createTriage({ log: app.log, paceMs: PACE_MS, ...(config.DOCS === undefined ? {} : { docsDir: config.DOCS }) })
  return { agents: [triage], tools: loaded.tools }
}

function loggerOptions (config: Config): FastifyServerOptions['logger'] & object {
  return {
    level: config.LOG_LEVEL,
    serializers: { req: describeRequest },
    // Whoever logs headers, an agent say, does not log these.
    redact: ['headers.authorization', 'headers.cookie', '*.headers.authorization', '*.headers.cookie'],
    ...(process.stdout.isTTY ? { transport: { target: 'pino-pretty' } } : {})
  }
}

/** Method, path and address: no query, which may carry user ids and tickets, and no header, which may carry tokens. */
function describeRequest (request: FastifyRequest) {
  return { method: request.method, url: pathOf(request.url), host: request.host, remoteAddress: request.ip }
}
