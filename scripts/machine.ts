import { cpus, totalmem } from 'node:os'

export interface Machine { readonly node: string, readonly platform: string, readonly cpu: string, readonly cores: number, readonly memoryGiB: number }

/** On what figures were measured. */
export function describeMachine (): Machine {
  const [first] = cpus()
  return { node: process.version, platform: `${process.platform} ${process.arch}`, cpu: first?.model ?? 'unknown', cores: cpus().length, memoryGiB: Math.round(totalmem() / 2 ** 30) }
}
