import t from 'tap'
import { readFile } from 'node:fs/promises'
import { Parser } from '@asyncapi/parser'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { apiDocuments } from '../support/api-documents.js'
import { TRIAGE_EVENTS, triage } from '../support/agents.js'
import { connect, post } from '../support/connect.js'
import { startApp } from '../support/start-app.js'

const documents = await apiDocuments()
const openApi = JSON.parse(documents['openapi.json'])
const asyncApi = JSON.parse(documents['asyncapi.json'])

/** A check of whatever one of the documents calls by this name. */
function check (document: { components: { schemas: Record<string, object> } }, schema: object): (value: unknown) => unknown {
  const validate = new Ajv2020({ strict: false }).compile({ ...schema, components: document.components })
  return (value) => validate(value) ? null : validate.errors
}

function refsIn (value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, item]) => key === '$ref' ? [item as string] : refsIn(item))
}

t.test('the documents in docs/ are those of the schemas', async (t) => {
  for (const [name, text] of Object.entries(documents)) {
    t.equal(await readFile(new URL(`../../docs/${name}`, import.meta.url), 'utf8'), text, `${name}: npm run docs:api writes it anew`)
  }
})

t.test('AsyncAPI\'s own parser finds nothing to complain about', async (t) => {
  const { document, diagnostics } = await new Parser().parse(documents['asyncapi.json'])
  t.strictSame(diagnostics.filter(({ severity }) => severity <= 1).map(({ message, path }) => `${path.join('.')}: ${message}`), [])
  t.ok(document)
  t.equal(document!.channels().length, 1)
  t.equal(document!.operations().length, 3)
})

t.test('OpenAPI: every reference leads somewhere, every door is described, ids are unique', async (t) => {
  const operations = Object.entries(openApi.paths as Record<string, Record<string, any>>).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ door: `${method.toUpperCase()} ${path}`, ...operation })))
  t.ok(operations.length >= 20)
  for (const ref of refsIn(openApi)) {
    const name = ref.replace('#/components/schemas/', '')
    if (openApi.components.schemas[name] === undefined) t.fail(`${ref} leads nowhere`)
  }
  t.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length)
  for (const { door, summary, responses, parameters = [] } of operations) {
    t.not(summary, door.replaceAll(/\{(\w+)\}/g, ':$1'), `${door}: add it to routes/about.ts`)
    t.ok(Object.keys(responses).some((status) => status.startsWith('2')), `${door} has an answer`)
    t.strictSame(parameters.filter(({ in: where }: { in: string }) => where === 'path').map(({ name }: { name: string }) => name), [...door.matchAll(/\{(\w+)\}/g)].map(([, name]) => name), door)
  }
  for (const schema of Object.values(openApi.components.schemas)) check(openApi, schema as object)
})

t.test('what the doors really answer is what the documents say', async (t) => {
  const { url, app } = await startApp(t, { agents: [triage], operations: true })
  const answers = async (method: string, path: string, at: string, body?: unknown): Promise<any> => {
    const response = await fetch(url + at, { method, headers: { 'x-user-id': 'u', ...(body !== undefined && { 'content-type': 'application/json' }) }, ...(body !== undefined && { body: JSON.stringify(body) }) })
    const said = openApi.paths[path][method.toLowerCase()].responses
    const { content } = said[response.status] ?? said.default
    const value = await response.json()
    t.equal(check(openApi, content['application/json'].schema)(value), null, `${method} ${path} ${response.status}`)
    return value
  }
  const { threadId } = await answers('POST', '/threads', '/threads', { metadata: { a: 1 } })
  await answers('GET', '/threads', '/threads')
  await answers('GET', '/threads/{threadId}', `/threads/${threadId}`)
  await answers('GET', '/threads/{threadId}', '/threads/nobody')
  await answers('POST', '/threads/{threadId}/messages', `/threads/${threadId}/messages`, {})
  const { runId } = await answers('POST', '/threads/{threadId}/messages', `/threads/${threadId}/messages`, { content: 'hi' })
  await answers('POST', '/runs/{runId}/cancel', `/runs/${runId}/cancel`)
  for (const path of ['/threads/{threadId}/events', '/runs', '/agents', '/tools', '/health', '/ready']) await answers('GET', path, path.replace('{threadId}', threadId))
  await answers('POST', '/tickets', '/tickets')
  t.ok(app)
})

t.test('what the socket really says is what the documents say', async (t) => {
  const { url, app } = await startApp(t, { agents: [triage] })
  const { threadId } = await app.threads.register({ userId: 'u' })
  const tab = await connect(t, url, 'u')
  tab.send({ type: 'subscribe', threadId, ref: 'r' })
  tab.send({ type: 'send', ref: 'm', threadId, content: 'hi' })
  tab.send({ type: 'nonsense' })
  await tab.frame('agent_completed')
  await tab.frame('error')
  tab.send({ type: 'unsubscribe', threadId })
  await tab.frame('unsubscribed')
  for (const frame of tab.frames) {
    const message = asyncApi.components.messages[frame.type]
    t.equal(check(asyncApi, message.payload)(frame), null, frame.type)
  }
  for (const type of ['user_message', ...TRIAGE_EVENTS]) t.ok(tab.frames.some((frame) => frame.type === type), type)
})

t.test('they are served with operations, and name where they live', async (t) => {
  const closed = await startApp(t)
  for (const path of ['/openapi.json', '/asyncapi.json']) t.equal((await fetch(closed.url + path)).status, 404)
  const { url } = await startApp(t, { operations: true, prefix: '/x/y' })
  const served = await fetch(`${url}/x/y/openapi.json`)
  t.match(served.headers.get('content-type'), 'application/json')
  const http = await served.json() as { servers: unknown, paths: Record<string, unknown> }
  t.strictSame(http.servers, [{ url: '/x/y' }])
  t.ok('/threads/{threadId}/events' in http.paths)
  for (const path of ['/metrics', '/debug/registry', '/ws']) t.notOk(path in http.paths, `${path} is not here`)
  t.match(await (await fetch(`${url}/x/y/asyncapi.json`)).json(), { asyncapi: '3.0.0', servers: { app: { pathname: '/x/y' } } })
  t.equal((await post(url, '/x/y/openapi.json', 'u')).status, 404)
})
