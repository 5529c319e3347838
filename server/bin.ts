#!/usr/bin/env node
import { readFile } from 'node:fs/promises'
import { readCommand, usage, UsageError } from './command.js'
import { ConfigError, readConfig } from './config.js'

try {
  const command = readCommand(process.argv.slice(2))
  if (command.name === 'help') process.stdout.write(usage)
  else if (command.name === 'version') process.stdout.write(`${await version()}\n`)
  else if (command.name === 'audit') process.exitCode = await (await import('./audit/index.js')).runAudit(command)
  else if (command.name === 'threads') process.stderr.write(`${await (await import('./threads/index.js')).manageThreads(readConfig(command.flags), command.action, command.file)}\n`)
  else await (await import('./serve.js')).serve(readConfig(command.flags))
} catch (error) {
  if (error instanceof UsageError) fail(2, `${error.message}\n\n${usage}`)
  else fail(1, describe(error))
}

/** What the user can act on is one line; a stack is for what nobody foresaw. */
function describe (error: unknown): string {
  if (error instanceof ConfigError) return `${error.message}\n`
  if (!(error instanceof Error)) return `${String(error)}\n`
  const code = (error as { code?: unknown }).code
  return typeof code === 'string' && code.startsWith('FAE_ERR_') ? `${code}: ${error.message}\n` : `${error.stack ?? error.message}\n`
}

function fail (code: number, text: string): void {
  process.stderr.write(text, () => process.exit(code))
}

async function version (): Promise<string> {
  return JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')).version
}
