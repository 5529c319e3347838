import { readdir } from 'node:fs/promises'
import { extname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { AnyAgent, AnyTool } from 'fastify-agent-events'
import { ConfigError } from './config.js'

export interface Definitions { agents: AnyAgent[], tools: AnyTool[] }

const loadable = new Set(['.js', '.mjs', '.ts'])

/**
 * Imports every .js, .mjs and .ts module directly in a folder, in the order of their names, and gathers
 * what they export: an agent has a name and run, a tool a name and execute, alone or in arrays. Other
 * exports and other files are left alone. Names are not compared: the registry refuses duplicates.
 *
 * @throws ConfigError when the folder cannot be read or a module cannot be loaded; it names the file
 */
export async function loadAgents (folder: string): Promise<Definitions> {
  const found = { agents: new Set<AnyAgent>(), tools: new Set<AnyTool>() }
  for (const file of await modulesIn(folder)) {
    // The default export first, whatever the names of the others: the first agent is the default one.
    const { default: first, ...others } = await load(file)
    for (const exported of [first, ...Object.values(others)]) collect(exported, found)
  }
  return { agents: [...found.agents], tools: [...found.tools] }
}

async function modulesIn (folder: string): Promise<string[]> {
  let entries
  try {
    entries = await readdir(folder, { withFileTypes: true })
  } catch (error) {
    throw new ConfigError(`The agents folder ${resolve(folder)} cannot be read: ${(error as Error).message}`)
  }
  return entries
    .filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.') && !entry.name.endsWith('.d.ts') && loadable.has(extname(entry.name)))
    .map((entry) => resolve(join(folder, entry.name)))
    .sort()
}

async function load (file: string): Promise<Record<string, unknown>> {
  try {
    return await import(pathToFileURL(file).href)
  } catch (error) {
    // Decided by trying, not by version: a loader such as tsx makes .ts work on every Node.
    const cause = error as { code?: unknown, message?: unknown } | undefined
    if (extname(file) === '.ts' && cause?.code === 'ERR_UNKNOWN_FILE_EXTENSION') {
      throw new ConfigError(`${file} is TypeScript, which Node ${process.versions.node} does not load. Compile it to .js or .mjs, or use Node 22.18 or newer.`)
    }
    throw new ConfigError(`${file} cannot be loaded: ${cause?.message ?? String(error)}`, { cause: error })
  }
}

function collect (exported: unknown, found: { agents: Set<AnyAgent>, tools: Set<AnyTool> }): void {
  if (Array.isArray(exported)) {
    for (const item of exported) collect(item, found)
  } else if (isNamed(exported)) {
    if (typeof exported['run'] === 'function') found.agents.add(exported as unknown as AnyAgent)
    else if (typeof exported['execute'] === 'function') found.tools.add(exported as unknown as AnyTool)
  }
}

function isNamed (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && typeof (value as Record<string, unknown>)['name'] === 'string'
}
