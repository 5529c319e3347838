import { existsSync, readFileSync } from 'node:fs'
import { opendir, readFile, stat } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where documents are read from: files and folders below a root that their paths are relative to. */
export interface DocumentSource { readonly root: string, readonly entries: readonly string[] }

export interface Document { readonly path: string, readonly markdown: string }

/** What was read, and one line of text for everything that was left out. */
export interface Reading { readonly documents: Document[], readonly problems: string[] }

export interface Limits { readonly files: number, readonly fileBytes: number, readonly totalBytes: number }

/** An index is held in memory, so a folder given by mistake must not fill it. */
export const defaultLimits: Limits = { files: 2_000, fileBytes: 1024 * 1024, totalBytes: 32 * 1024 * 1024 }

/** A folder of Markdown documents. */
export function folder (path: string): DocumentSource {
  return { root: resolve(path), entries: ['.'] }
}

/** The README and docs of this project, found from where this module lies; undefined outside of a clone. */
export function projectDocuments (): DocumentSource | undefined {
  let directory = dirname(fileURLToPath(import.meta.url))
  for (let level = 0; level < 6; level++) {
    const manifest = join(directory, 'package.json')
    if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).name === 'fastify-agent-events') {
      return { root: directory, entries: ['README.md', 'docs'] }
    }
    directory = dirname(directory)
  }
  return undefined
}

/** Reads every .md file of a source, in the order of their paths. Never throws for a file or folder: what cannot be read is a problem. */
export async function readDocuments (source: DocumentSource, limits: Limits = defaultLimits): Promise<Reading> {
  const problems: string[] = []
  const files: string[] = []
  for (const entry of source.entries) await gather(join(source.root, entry), files, limits.files, problems)
  const documents: Document[] = []
  let bytes = 0
  for (const file of files.sort()) {
    const path = relative(source.root, file).split(sep).join('/')
    try {
      const { size } = await stat(file)
      if (size > limits.fileBytes) {
        problems.push(`${path} is left out: it has ${size} bytes, more than ${limits.fileBytes}`)
      } else if (bytes + size > limits.totalBytes) {
        problems.push(`${path} and what follows are left out: together more than ${limits.totalBytes} bytes`)
        break
      } else {
        bytes += size
        documents.push({ path, markdown: await readFile(file, 'utf8') })
      }
    } catch (error) {
      problems.push(`${path} is left out: ${(error as Error).message}`)
    }
  }
  return { documents, problems }
}

/** Follows no symbolic links, so that it ends and stays inside. */
async function gather (path: string, files: string[], limit: number, problems: string[]): Promise<void> {
  try {
    if ((await stat(path)).isFile()) {
      files.push(path)
      return
    }
    for await (const entry of await opendir(path)) {
      if (files.length >= limit) {
        problems.push(`${path} is read in part: there are more than ${limit} files`)
        return
      }
      const hidden = entry.name.startsWith('.') || entry.name === 'node_modules'
      if (entry.isDirectory() && !hidden) await gather(join(path, entry.name), files, limit, problems)
      else if (entry.isFile() && !hidden && entry.name.endsWith('.md')) files.push(join(path, entry.name))
    }
  } catch (error) {
    problems.push((error as NodeJS.ErrnoException).code === 'ENOENT' ? `${path} does not exist` : `${path} cannot be read: ${(error as Error).message}`)
  }
}
