import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Command, Report } from './messages.js'
import type { LoadOptions } from './options.js'

/** A process of a load test. */
export class Part {
  readonly #name: string
  readonly #child: ChildProcess

  /** @param start what it is told at its start beside the options */
  constructor (name: 'server' | 'receivers', options: LoadOptions, start: unknown, onReport: (report: Report, part: Part) => void) {
    this.#name = name
    // Nothing of this process' settings: its coverage and its loaders are not theirs.
    this.#child = fork(new URL(`./${name}-process.ts`, import.meta.url), [JSON.stringify([options, start])], { execArgv: ['--import', 'tsx'], env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    this.#child.on('message', (report: Report) => { onReport(report, this) })
  }

  tell (command: Command): void { this.#child.send(command) }

  /** The next report of this type. @throws Error when the process ends before */
  until<Type extends Report['type']> (type: Type): Promise<Extract<Report, { type: Type }>> {
    return new Promise((resolve, reject) => {
      const settle = (then: () => void): void => {
        this.#child.off('message', onMessage)
        this.#child.off('exit', onExit)
        then()
      }
      const onMessage = (report: Report): void => { if (report.type === type) settle(() => { resolve(report as Extract<Report, { type: Type }>) }) }
      const onExit = (): void => { settle(() => { reject(new Error(`The ${this.#name} process ended before it was ${type}`)) }) }
      this.#child.on('message', onMessage)
      this.#child.on('exit', onExit)
      if (this.#isGone) onExit()
    })
  }

  async end (): Promise<void> {
    if (this.#isGone) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await gone
  }

  get #isGone (): boolean { return this.#child.exitCode !== null || this.#child.signalCode !== null }
}
