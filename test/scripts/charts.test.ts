import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { JSDOM } from 'jsdom'
import t from 'tap'
import { bars, histogram, lineChart } from '../../scripts/charts.js'
import { table, writeGenerated } from '../../scripts/generated.js'

const labels = { title: 'Heap & more', x: 'round', y: 'MB' }

/** @throws Error unless it is well-formed */
function parse (svg: string): Document {
  const { document } = new JSDOM(svg, { contentType: 'image/svg+xml' }).window
  return document
}

const charts = {
  lines: () => lineChart([{ x: 1, y: 2, series: 'a' }, { x: 2, y: 3, series: 'a' }, { x: 1, y: 5, series: 'b' }, { x: 2, y: 4, series: 'b' }], { ...labels, limit: 4 }),
  histogram: () => histogram([{ from: 0.1, to: 1, count: 5 }, { from: 1, to: 10, count: 2 }], { ...labels, xScale: 'log' }),
  bars: () => bars([{ group: 'one', value: 2, low: 1, high: 3 }, { group: 'two', value: 4 }], labels)
}

for (const [name, chart] of Object.entries(charts)) {
  t.test(`${name}: an SVG that says what it shows, the same each time, light and dark`, async (t) => {
    const svg = chart()
    const document = parse(svg)
    t.equal(document.documentElement.localName, 'svg')
    t.match(document.documentElement.textContent, /Heap & more/)
    t.match(document.documentElement.textContent, /round/)
    t.match(document.documentElement.textContent, /MB/)
    t.match(svg, /prefers-color-scheme: dark/)
    t.equal(chart(), svg)
  })
}

t.test('every value is drawn', async (t) => {
  t.equal(parse(charts.lines()).querySelectorAll('circle').length, 4)
  t.equal(parse(charts.histogram()).querySelectorAll('g[aria-label="rect"] rect').length, 2)
  const document = parse(charts.bars())
  t.equal(document.querySelectorAll('g[aria-label="bar"] rect').length, 2)
  t.equal(document.querySelectorAll('g[aria-label="rule"] line').length, 1, 'and the whisker of the one that has one')
})

t.test('more series than colours are refused', async (t) => {
  t.throws(() => lineChart([1, 2, 3, 4, 5, 6].map((x) => ({ x, y: x, series: String(x) })), labels), /at most 5 series/)
})

t.test('figures are written where the text has a place for them, and only there', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'agent-events-docs-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = pathToFileURL(join(folder, 'page.md'))
  await writeFile(file, 'before\n\n<!-- generated: figures -->\nold\n<!-- end -->\n\nafter\n')
  await writeGenerated(file, { figures: table(['what', 'how much'], [['heap', '5']]) })
  const once = await readFile(file, 'utf8')
  t.equal(once, 'before\n\n<!-- generated: figures -->\n\n| what | how much |\n| --- | ---: |\n| heap | 5 |\n\n<!-- end -->\n\nafter\n')
  await writeGenerated(file, { figures: table(['what', 'how much'], [['heap', '5']]) })
  t.equal(await readFile(file, 'utf8'), once)
  await t.rejects(writeGenerated(file, { other: '' }), /no place for "other"/)
})
