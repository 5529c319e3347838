import { opendir, stat } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'

const SCRIPTS = /\.(?:[cm]?[jt]sx?)$/
const PYTHON = /\.py$/
const GENERATED = /(?:\.d\.[cm]?ts|\.min\.js|\.bundle\.js)$/
/** Folders that hold nobody's own code, or what was made from it. */
const SKIPPED = new Set(['node_modules', 'bower_components', 'vendor', 'dist', 'build', 'out', 'coverage', '__pycache__', 'venv', 'site-packages'])
const TESTS = /(?:^|\/)(?:tests?|__tests__|spec)\/|[._-](?:test|spec|tst)\.[a-z]+$|(?:^|\/)(?:test_[^/]*|conftest)\.py$/

export interface FileOptions {
  /** Paths below the folder that are left out. */
  readonly exclude: readonly string[]
  /** Tests as well. */
  readonly tests: boolean
}

export interface Unreadable { readonly file: string, readonly reason: string }

/** The source files of a folder by their paths, relative to it, sorted. Links are not followed. */
export async function listFiles (folder: string, { exclude, tests }: FileOptions): Promise<{ files: string[], unreadable: Unreadable[] }> {
  const files: string[] = []
  const unreadable: Unreadable[] = []
  const excluded = exclude.map((path) => path.replaceAll('\\', '/').replace(/^\.\//, '').replace(/\/+$/, ''))
  const waiting = [folder]
  while (waiting.length > 0) {
    const current = waiting.pop()!
    try {
      for await (const entry of await opendir(current)) {
        const path = relative(folder, join(current, entry.name)).split(sep).join('/')
        if (excluded.includes(path)) continue
        if (entry.isDirectory()) {
          if (!entry.name.startsWith('.') && !SKIPPED.has(entry.name)) waiting.push(join(current, entry.name))
        } else if (entry.isFile() && languageOf(path) !== undefined && !GENERATED.test(path) && (tests || !TESTS.test(path))) {
          files.push(path)
        }
      }
    } catch (error) {
      unreadable.push({ file: relative(folder, current).split(sep).join('/') || '.', reason: reasonOf(error) })
    }
  }
  return { files: files.sort(), unreadable }
}

export async function isFolder (path: string): Promise<boolean> {
  return stat(path).then((found) => found.isDirectory(), () => false)
}

export function languageOf (file: string): 'script' | 'python' | undefined {
  return SCRIPTS.test(file) ? 'script' : PYTHON.test(file) ? 'python' : undefined
}

export function reasonOf (error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return code ?? message
}
