// Writes docs/openapi.json and docs/asyncapi.json from the schemas of the routes: npm run docs:api
import { writeFile } from 'node:fs/promises'
import { apiDocuments } from '../test/support/api-documents.js'

for (const [name, text] of Object.entries(await apiDocuments())) await writeFile(new URL(`../docs/${name}`, import.meta.url), text)
