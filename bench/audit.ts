/**
 * How long the audit takes for 5,000 files: copies of this project's own sources.
 *   npm run build && node --import tsx bench/audit.ts
 */
import { spawnSync } from 'node:child_process'
import { cp, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { listFiles } from '../server/audit/files.js'

const FILES = 5_000

const folder = await mkdtemp(join(tmpdir(), 'audit-'))
try {
  const { files } = await listFiles('.', { exclude: [], tests: true })
  let bytes = 0
  for (let i = 0; i < FILES; i++) {
    const file = files[i % files.length]!
    bytes += (await stat(file)).size
    await cp(file, join(folder, `copy-${Math.floor(i / files.length)}`, file.replaceAll('test', 'verify')))
  }
  const started = performance.now()
  const { status, stdout } = spawnSync(process.execPath, ['server/dist/bin.js', 'audit', folder, '--tests', '--format', 'json'], { encoding: 'utf8', maxBuffer: 1024 ** 3 })
  const seconds = (performance.now() - started) / 1_000
  if (status !== 0) throw new Error(`the audit exited with ${status}`)
  const { summary } = JSON.parse(stdout)
  process.stdout.write(`${summary.files} files, ${(bytes / 1024 ** 2).toFixed(1)} MiB: ${seconds.toFixed(1)} s, ${summary.unreadable} not read\n`)
} finally {
  await rm(folder, { recursive: true })
}
