import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { readMeasured, writeLoadPage, writeMemoryPage } from '../../scripts/measured-pages.js'

const root = new URL('../../', import.meta.url)

t.test('the pages on load and memory say what was measured: written anew from the results they are the same', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'agent-events-pages-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const docs = new URL('docs/', root)
  const anew = pathToFileURL(`${folder}/`)
  for (const page of ['load-test.md', 'memory.md']) await cp(new URL(page, docs), new URL(page, anew))
  await writeLoadPage(await readMeasured(new URL('scripts/load-test/results.json', root)), anew)
  await writeMemoryPage(await readMeasured(new URL('scripts/leak-test/results.json', root)), anew)
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name, parentPath }) => join(parentPath, name).slice(folder.length + 1))
  t.strictSame(files.sort(), ['charts/load-delivered.svg', 'charts/load-latency.svg', 'charts/load-rates.svg', 'charts/memory-heap.svg', 'load-test.md', 'memory.md'])
  for (const file of files) t.equal(await readFile(new URL(file, docs), 'utf8'), await readFile(new URL(file, anew), 'utf8'), file)
})
