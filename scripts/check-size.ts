// Measures what the browser's sub-paths weigh in a page, minified and gzipped, without React and each by itself: what a page
// loads at once, and what it loads later if it needs it. Exits 1 when one is over its limit. Usage: npm run size
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

/** Bytes. The client's limit is promised to users; the others keep them from growing unnoticed. */
const limits: Record<string, { atOnce: number, later?: number }> = {
  client: { atOnce: 6_000, later: 4_000 },
  'client/state': { atOnce: 2_200 },
  'client/react': { atOnce: 3_000 }
}

for (const [name, { atOnce, later = 0 }] of Object.entries(limits)) {
  const { outputFiles, metafile } = await build({
    entryPoints: [`${name}/index.ts`],
    bundle: true,
    splitting: true,
    minify: true,
    write: false,
    metafile: true,
    outdir: 'out',
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    external: ['react'],
    logOverride: { 'unsupported-directive': 'silent' }
  })
  const outputs = new Map(Object.entries(metafile.outputs))
  const loaded = new Set<string>()
  const load = (path: string) => {
    loaded.add(path)
    for (const imported of outputs.get(path)!.imports) if (imported.kind === 'import-statement' && outputs.has(imported.path)) load(imported.path)
  }
  load([...outputs.keys()].find((path) => outputs.get(path)!.entryPoint === `${name}/index.ts`)!)
  const weigh = (label: string, isCounted: (path: string) => boolean, limit: number) => {
    const files = outputFiles.filter((file) => isCounted(pathOf(file.path)))
    const bytes = files.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0)
    const isOver = bytes > limit
    console.log(`${isOver ? 'too big' : 'ok     '}  ${label.padEnd(16)} ${String(bytes).padStart(5)} of ${limit} bytes (${files.reduce((sum, { contents }) => sum + contents.length, 0)} before gzip)`)
    if (isOver) process.exitCode = 1
  }
  weigh(name, (path) => loaded.has(path), atOnce)
  if (outputs.size > loaded.size || later > 0) weigh(`${name}, later`, (path) => !loaded.has(path), later)
}

function pathOf (absolute: string): string { return `out/${absolute.split('/out/').at(-1)!}` }
