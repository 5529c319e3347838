import { ConfigError } from '../config.js'
import { audit } from './audit.js'
import { isFolder } from './files.js'
import { Progress } from './progress.js'
import { render, type Format } from './report.js'

export interface AuditCommand {
  readonly folder: string
  readonly format: Format
  /** What makes the command exit with 1: several registries, or any finding. */
  readonly failOn?: 'multiple' | 'findings'
  readonly exclude: readonly string[]
  readonly tests: boolean
}

/** Prints the report. @returns the exit code @throws ConfigError when the folder is not there */
export async function runAudit ({ folder, format, failOn, exclude, tests }: AuditCommand): Promise<number> {
  if (!await isFolder(folder)) throw new ConfigError(`${folder} is not a folder`)
  const progress = new Progress(process.stderr)
  const report = await audit(folder, { exclude, tests, onProgress: (done, total) => { progress.show(done, total) } })
  progress.clear()
  await print(render(report, format))
  const isFailed = failOn === 'multiple' ? report.registries.length > 1 : failOn === 'findings' && report.findings.length > 0
  return isFailed ? 1 : 0
}

/** Whoever reads may have seen enough: head and less close their end early. */
function print (text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: NodeJS.ErrnoException | null): void => {
      if (error?.code === undefined || error.code === 'EPIPE') resolve()
      else reject(error)
    }
    process.stdout.once('error', settle)
    process.stdout.write(text, settle)
  })
}
