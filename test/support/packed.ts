import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../../', import.meta.url))

export interface Packed {
  /** A temporary folder for what is done with the tarball, gone after the test. */
  readonly folder: string
  readonly tarball: string
  /** What npm says is in it. */
  readonly files: readonly { readonly path: string, readonly size: number }[]
  /** Bytes. */
  readonly size: number
  readonly unpackedSize: number
}

/** What npm would publish of the package as it is built now. */
export async function pack (t: { teardown (fn: () => unknown): void }): Promise<Packed> {
  const folder = await mkdtemp(join(tmpdir(), 'packed-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const { stdout } = await promisify(execFile)('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], { cwd: root, maxBuffer: 10_000_000 })
  const [{ filename, files, size, unpackedSize }] = JSON.parse(stdout) as [{ filename: string, files: Packed['files'], size: number, unpackedSize: number }]
  return { folder, tarball: join(folder, filename), files, size, unpackedSize }
}
