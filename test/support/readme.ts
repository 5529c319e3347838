import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { freePort } from './redis-server.js'
import { childEnv } from './child-env.js'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** A fenced block of code: ```language name=… (GitHub shows only what the first word means). */
export interface Snippet { readonly language: string, readonly name: string | undefined, readonly code: string }

export function snippetsOf (markdown: string): Snippet[] {
  return [...markdown.matchAll(/^```(\S+)(?: name=(\S+))?[^\n]*\n([\s\S]*?)^```$/gm)].map(([, language = '', name, code = '']) => ({ language, name, code }))
}

export function readProjectFile (path: string): Promise<string> {
  return readFile(join(root, path), 'utf8')
}

export interface Output { code: number | null, stdout: string, stderr: string }

/** A folder like the one a reader of the page has after the install line; its snippets run exactly as they stand there, but for the port. */
export class ReaderProject {
  readonly dir: string
  readonly port: number
  readonly #snippets: readonly Snippet[]
  readonly #t: Test

  /** @param t the folder and every process live as long as this test */
  static async create (t: Test, snippets: readonly Snippet[]): Promise<ReaderProject> {
    const dir = await mkdtemp(join(tmpdir(), 'reader-'))
    t.teardown(() => rm(dir, { recursive: true, force: true }))
    await symlink(join(root, 'node_modules'), join(dir, 'node_modules'))
    await writeFile(join(dir, 'package.json'), '{ "type": "module" }\n')
    return new ReaderProject(t, dir, await freePort(), snippets)
  }

  private constructor (t: Test, dir: string, port: number, snippets: readonly Snippet[]) {
    this.#t = t
    this.dir = dir
    this.port = port
    this.#snippets = snippets
  }

  code (name: string): string {
    const snippet = this.#snippets.find((candidate) => candidate.name === name)
    if (snippet === undefined) throw new Error(`the page has no snippet named ${name}`)
    return snippet.code.replaceAll('3000', String(this.port))
  }

  /** Saves a snippet under its name. */
  async save (name: string): Promise<void> {
    await writeFile(join(this.dir, name), this.code(name))
  }

  /** Saves a module and runs it to its end. */
  async runModule (name: string): Promise<Output> {
    await this.save(name)
    return finished(this.#spawn(process.execPath, ['--import', 'tsx', name]))
  }

  /** Runs shell lines to their end. */
  runShell (name: string): Promise<Output> {
    return finished(this.#spawn('sh', ['-e', '-c', this.code(name)]))
  }

  /** Runs shell lines that leave a server in the background; resolves once it listens at the port. */
  async startShell (name: string, timeoutMs = 30_000): Promise<void> {
    const child = this.#spawn('sh', ['-e', '-c', `${this.code(name)}wait $!`])
    const ended = finished(child).then(({ code, stderr }) => { throw new Error(`'${name}' ended with ${code}: ${stderr}`) })
    ended.catch(() => {})
    await Promise.race([ended, listening(this.port, timeoutMs)])
  }

  #spawn (command: string, args: string[]): ChildProcess {
    const PATH = `${dirname(process.execPath)}${delimiter}${process.env['PATH'] ?? ''}`
    // In a group of its own, so that what a shell leaves in the background ends with it.
    const child = spawn(command, args, { cwd: this.dir, env: { ...childEnv, PATH }, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    const closed = once(child, 'close')
    this.#t.teardown(async () => {
      try {
        process.kill(-child.pid!, 'SIGKILL')
      } catch {
        // It has ended by itself.
      }
      await closed
    })
    return child
  }
}

async function finished (child: ChildProcess): Promise<Output> {
  const output = { stdout: '', stderr: '' }
  child.stdout!.setEncoding('utf8').on('data', (text: string) => { output.stdout += text })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => { output.stderr += text })
  const [code] = await once(child, 'close') as [number | null]
  return { code, ...output }
}

async function listening (port: number, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    try {
      await fetch(`http://localhost:${port}`)
      return
    } catch (error) {
      if (Date.now() > deadline) throw error
      await new Promise((resolve) => { setTimeout(resolve, 20) })
    }
  }
}
