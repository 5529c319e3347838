import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { posix } from 'node:path'
import { FAE_ERR_INSPECTOR_FILES } from '../errors.js'

/** One file of the page, as it is answered. */
export interface Asset { readonly type: string, readonly etag: string, readonly body: string }

/** What the server tells the page. */
export interface PageSettings { readonly base: string, readonly identify: string, readonly suggestions: readonly string[] }

/** The package's folder, from the sources and from what is built of them. */
const root = new URL(import.meta.url.endsWith('.ts') ? '..' : '../..', import.meta.url)

const ENTRY = 'inspector/page/main.js'
/** As the compiler writes it: at the beginning of a line, or in the middle of one when it is needed. */
const IMPORT = /(?:^(?:import|export)\s(?:[^'";]*?\sfrom\s)?|\bimport\()['"](\.[^'"]+)['"]/gm
const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }

/**
 * The page and all it needs, in memory. Of what is built it takes the modules that the page's own one leads to and nothing
 * else; they keep their places, so that their imports find each other.
 * @throws FAE_ERR_INSPECTOR_FILES
 */
export async function readPage (settings: PageSettings): Promise<{ page: Asset, assets: Map<string, Asset> }> {
  const assets = new Map<string, Asset>()
  await addModule(ENTRY, assets)
  const modules = [...assets.keys()]
  assets.set('style.css', asset('text/css; charset=utf-8', await read('inspector/page/style.css')))
  assets.set('icon.svg', asset('image/svg+xml', await read('inspector/page/icon.svg')))
  const html = (await read('inspector/page/index.html'))
    // all at once instead of one import after the other
    .replace('<!-- modules -->', () => modules.map((path) => `<link rel="modulepreload" href="assets/${path}">`).join('\n  '))
    .replace('{settings}', () => escape(JSON.stringify(settings)))
  return { page: asset('text/html; charset=utf-8', html), assets }
}

async function addModule (path: string, assets: Map<string, Asset>): Promise<void> {
  if (assets.has(path)) return
  const code = (await read(`dist/${path}`)).replace(/^\/\/# sourceMappingURL=.*$/m, '')
  assets.set(path, asset('text/javascript; charset=utf-8', code))
  for (const [, specifier] of code.matchAll(IMPORT)) await addModule(posix.join(posix.dirname(path), specifier!), assets)
}

async function read (path: string): Promise<string> {
  const url = new URL(path, root)
  try {
    return await readFile(url, 'utf8')
  } catch (error) {
    throw new FAE_ERR_INSPECTOR_FILES(path, { cause: error })
  }
}

function asset (type: string, body: string): Asset {
  return { type, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`, body }
}

function escape (text: string): string {
  return text.replace(/[&<>"]/g, (character) => ESCAPES[character]!)
}
