import Fastify from 'fastify'
import agentEvents from '../../index.js'

/** The documents of an app at '/' with every door open, by the name of their file in docs/. */
export async function apiDocuments (): Promise<Record<'openapi.json' | 'asyncapi.json', string>> {
  const app = Fastify()
  await app.register(agentEvents, { prefix: '/', authenticate: () => null, operations: true, debug: true, metrics: true })
  const read = async (url: string): Promise<string> => `${JSON.stringify((await app.inject(url)).json(), null, 2)}\n`
  const documents = { 'openapi.json': await read('/openapi.json'), 'asyncapi.json': await read('/asyncapi.json') }
  await app.close()
  return documents
}
