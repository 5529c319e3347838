// Writes the schemas of events and frames as JSON Schema files, one per name, for whoever does not speak TypeBox:
// dist/schemas/json/<Name>.json, imported as fastify-agent-events/schemas/<Name>.json. Part of `npm run build`.
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { TSchema } from '@sinclair/typebox'
import * as schemas from '../schemas/index.js'

const folder = new URL('../dist/schemas/json/', import.meta.url)

/** tool_completed is ToolCompleted, the frame subscribe is SubscribeFrame: what the types are called. */
const pascal = (type: string) => type.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase())

const names = [
  'AgentEvent',
  ...schemas.eventTypes.map(pascal),
  'ClientFrame',
  ...Object.keys(schemas.clientFrames).map((type) => `${pascal(type)}Frame`),
  'ServerFrame',
  ...Object.keys(schemas.serverFrames).map((type) => `${pascal(type)}Frame`)
]

await rm(folder, { recursive: true, force: true })
await mkdir(folder, { recursive: true })
for (const name of names) {
  const schema = (schemas as unknown as Record<string, TSchema | undefined>)[name]
  if (schema === undefined) throw new Error(`schemas/index.ts exports no ${name}`)
  const file = { $schema: 'http://json-schema.org/draft-07/schema#', title: name, ...schema }
  await writeFile(new URL(`${name}.json`, folder), JSON.stringify(file, null, 2) + '\n')
}
console.log(`${names.length} schemas in ${fileURLToPath(folder)}`)
