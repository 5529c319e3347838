import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Codebase } from './codebase.js'
import type { FileFacts } from './facts.js'
import { languageOf, listFiles, reasonOf, type FileOptions } from './files.js'
import { findAll } from './findings.js'
import { takeInventory } from './inventory.js'
import { scanPython } from './python.js'
import type { Report } from './report.js'
import { scanScript } from './script.js'

export interface AuditOptions extends Partial<FileOptions> {
  /** Called after each file. */
  onProgress? (done: number, total: number): void
}

/** Files read ahead of the one that is parsed. */
const READ_AHEAD = 16
/** What is longer was made by a machine. */
const MAX_LENGTH = 1024 * 1024

/** Reads a folder and tells of its registries and of where events can be lost. What cannot be read is listed. */
export async function audit (folder: string, { exclude = [], tests = false, onProgress }: AuditOptions = {}): Promise<Report> {
  const { files, unreadable } = await listFiles(folder, { exclude, tests })
  const facts: FileFacts[] = []
  let done = 0
  for (let at = 0; at < files.length; at += READ_AHEAD) {
    const sources = await Promise.all(files.slice(at, at + READ_AHEAD).map(async (file) => {
      try {
        return { file, source: await readFile(join(folder, file), 'utf8') }
      } catch (error) {
        return { file, error }
      }
    }))
    for (const { file, source, error } of sources) {
      try {
        if (source === undefined) throw error
        facts.push(scan(file, source))
      } catch (problem) {
        unreadable.push({ file, reason: reasonOf(problem) })
      }
      onProgress?.(++done, files.length)
    }
  }
  const codebase = new Codebase(facts)
  const inventory = takeInventory(codebase)
  const findings = findAll(codebase, inventory)
  const by = (severity: string): number => findings.filter((found) => found.severity === severity).length
  return {
    summary: {
      files: files.length,
      registries: inventory.registries.length,
      findings: { high: by('high'), medium: by('medium'), low: by('low') },
      unreadable: unreadable.length,
      usesMaster: codebase.usesMaster,
      otherManagerSets: inventory.otherManagerSets
    },
    registries: inventory.registries,
    findings,
    unreadable
  }
}

function scan (file: string, source: string): FileFacts {
  if (source.length > MAX_LENGTH) throw new Error(`larger than ${MAX_LENGTH} characters`)
  return languageOf(file) === 'python' ? scanPython(file, source) : scanScript(file, source)
}
