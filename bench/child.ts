import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** So long an answer may take on a busy machine. */
const DEADLINE_MS = 120_000

/** A process of the bench that answers one command after the other. */
export class Child {
  readonly #name: string
  readonly #process: ChildProcess
  readonly #exited: Promise<void>

  private constructor (name: string, process: ChildProcess) {
    this.#name = name
    this.#process = process
    this.#exited = new Promise((resolve) => { process.once('exit', () => { resolve() }) })
  }

  /** @param file of this folder, without its extension */
  static start (file: string, ...args: readonly string[]): Child {
    return new Child([file, ...args].join(' '), fork(new URL(`${file}.ts`, import.meta.url), args, {
      execArgv: ['--import', 'tsx', '--expose-gc'],
      env: { ...process.env, NODE_ENV: 'production', TSX_TSCONFIG_PATH: fileURLToPath(new URL('tsconfig.json', import.meta.url)) }
    }))
  }

  ask<Answer> (command: string, input: object = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const settle = (error?: Error, answer?: Answer): void => {
        clearTimeout(timer)
        this.#process.off('message', onMessage).off('exit', onExit)
        if (error === undefined) resolve(answer as Answer)
        else reject(error)
      }
      const onMessage = ({ answer, error }: { answer?: Answer, error?: string }): void => {
        settle(error === undefined ? undefined : new Error(`${this.#name}, ${command}: ${error}`), answer)
      }
      const onExit = (code: number | null): void => { settle(new Error(`${this.#name} ended with ${code}`)) }
      const timer = setTimeout(() => { settle(new Error(`${this.#name} did not answer to ${command}`)) }, DEADLINE_MS)
      this.#process.on('message', onMessage).on('exit', onExit)
      this.#process.send({ command, input })
    })
  }

  async stop (): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.#exited
  }
}

/** The other side: answers the commands of its parent, and ends with it. */
export function answer (commands: Record<string, (input: any) => unknown>): void {
  process.on('message', ({ command, input }: { command: string, input: object }) => {
    Promise.resolve().then(() => commands[command]!(input)).then(
      (answer) => { process.send!({ answer }) },
      (error: Error) => { process.send!({ error: error.stack }) }
    )
  })
  process.on('disconnect', () => { process.exit() })
}
