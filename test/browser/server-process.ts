import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { newFolder } from '../support/lmdb.js'
import { freePort } from '../support/redis-server.js'
import { childEnv } from '../support/child-env.js'

const CHILD = fileURLToPath(new URL('server-child.ts', import.meta.url))

/** A server in a process of its own that can be killed, and started again at the same port with the same log. */
export class ServerProcess {
  /** What it complained of. */
  stderr = ''
  readonly #folder: string
  readonly #port: number
  #child: ChildProcess | undefined

  private constructor (folder: string, port: number) {
    this.#folder = folder
    this.#port = port
  }

  /** Listens; ended with the test. */
  static async start (t: Test): Promise<ServerProcess> {
    const server = new ServerProcess(await newFolder(t), await freePort())
    t.teardown(() => server.kill())
    await server.start()
    return server
  }

  get url (): string { return `http://127.0.0.1:${this.#port}` }

  async start (): Promise<void> {
    const child = this.#child = fork(CHILD, [this.#folder, String(this.#port)], { env: childEnv, execArgv: ['--import', 'tsx'], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    child.stderr!.setEncoding('utf8').on('data', (text: string) => { this.stderr += text })
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => { resolve() })
      child.once('exit', (code) => { reject(new Error(`the server ended with ${code}: ${this.stderr}`)) })
    })
  }

  /** At once, in the middle of whatever it does. */
  async kill (): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }

  /** Of the agent, see guideBehind. */
  open (...gates: string[]): void {
    for (const gate of gates) this.#child!.send(gate)
  }
}
