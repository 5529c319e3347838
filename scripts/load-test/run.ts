import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { RedisServer } from '../../test/support/redis-server.js'
import { describeMachine } from '../machine.js'
import type { ServerStart } from './messages.js'
import { Meter } from './meter.js'
import { now, type LoadOptions } from './options.js'
import { Part } from './part.js'
import { format, ms, type LoadResult } from './result.js'
import { addVerdict, newVerdict } from './verdict.js'

/** Files that a process has open beside its sockets. */
const OTHER_FILES = 200
/** How long servers may take for what is due when the time is over. */
const DRAIN_MS = 120_000

/** What is to be undone at the end, the last first. */
export type Cleanup = Array<() => unknown>

/** @returns what to do about it, when a process would need more open files than it may have */
export function fileLimitProblem ({ connections, nodes, receivers }: LoadOptions, allowed = hardFileLimit()): string | undefined {
  const needed = Math.ceil(connections / Math.min(nodes, receivers)) + OTHER_FILES
  if (allowed >= needed) return undefined
  return `A process would need ${needed} open files for its sockets and may have ${allowed}. Raise the limit (ulimit -n ${needed}; above the hard limit as root or in /etc/security/limits.conf), or spread the connections with --receivers and --nodes.`
}

/** Node takes as many as the hard limit allows. */
function hardFileLimit (): number {
  const { userLimits } = process.report.getReport() as { userLimits?: { open_files: { hard: number | 'unlimited' } } }
  const hard = userLimits?.open_files.hard ?? 'unlimited'
  return hard === 'unlimited' ? Infinity : hard
}

/** One load test, from empty stores to the verdict. @param progress one line at a time, for people */
export async function runLoadTest (options: LoadOptions, progress: (line: string) => void = () => {}): Promise<LoadResult> {
  const cleanup: Cleanup = []
  const meter = new Meter()
  try {
    progress('starting')
    const store = await startStore(options.store, cleanup)
    const start = (name: 'server' | 'receivers', room: 'servers' | 'receivers', args: unknown): Part => {
      const part = new Part(name, options, args, (report, from) => { if (report.type === 'sample') meter.add(room, from, report) })
      cleanup.push(() => part.end())
      return part
    }
    const servers = Array.from({ length: options.nodes }, (_, node) => start('server', 'servers', { node, store } satisfies ServerStart))
    const urls = await Promise.all(servers.map(async (server) => (await server.until('listening')).url))

    const receivers = Array.from({ length: options.receivers }, (_, part) => start('receivers', 'receivers', part))
    progress(`connecting ${format(options.connections)}`)
    const connectingAt = now()
    await Promise.all(receivers.map((part) => {
      part.tell({ type: 'connect', urls })
      return part.until('connected')
    }))
    const connectSeconds = (now() - connectingAt) / 1_000

    const from = now() + options.warmup * 1_000
    const to = from + options.duration * 1_000
    const timer = setInterval(() => { progress(progressLine(meter, from, to)) }, 500)
    const deadline = new AbortController()
    try {
      await Promise.race([
        Promise.all(servers.map((server) => {
          server.tell({ type: 'talk' })
          return server.until('silent')
        })),
        delay(to - now() + DRAIN_MS, undefined, { signal: deadline.signal }).then(() => { throw new Error(`The servers had more to say ${DRAIN_MS / 1_000} s after their time`) }),
        ...receivers.map((part) => part.until('judged'))
      ])
    } finally {
      deadline.abort()
      clearInterval(timer)
    }
    progress('comparing what each receiver got with the log')
    const judged = await Promise.all(receivers.map((part) => {
      part.tell({ type: 'judge' })
      return part.until('judged')
    }))
    const verdict = newVerdict()
    const refusals: Record<string, number> = {}
    for (const part of judged) {
      addVerdict(verdict, part.verdict)
      for (const [code, count] of Object.entries(part.refusals)) refusals[code] = (refusals[code] ?? 0) + count
    }
    const sum = (name: 'logged' | 'resumed' | 'notRecovered' | 'cutOff'): number => judged.reduce((all, part) => all + part[name], 0)
    return {
      machine: describeMachine(),
      options,
      ...meter.measure(from, to),
      logged: sum('logged'),
      verdict,
      resumed: sum('resumed'),
      notRecovered: sum('notRecovered'),
      cutOff: sum('cutOff'),
      refusals,
      connectSeconds: Math.round(connectSeconds * 10) / 10
    }
  } finally {
    progress('')
    for (const clean of cleanup.reverse()) await clean()
  }
}

/** A new and empty one of this kind, that goes with the test. */
export async function startStore (store: LoadOptions['store'], cleanup: Cleanup): Promise<ServerStart['store']> {
  if (store === 'memory') return store
  if (store === 'redis') {
    const redis = await RedisServer.start({ teardown: (fn) => { cleanup.push(fn) } })
    // Other processes notice that we are gone, however that was.
    const kill = (): void => { process.kill(redis.pid, 'SIGKILL') }
    process.once('exit', kill)
    cleanup.push(() => { process.off('exit', kill) })
    return { redis: redis.url }
  }
  const folder = await mkdtemp(join(tmpdir(), 'agent-events-load-'))
  cleanup.push(() => rm(folder, { recursive: true, force: true }))
  return { lmdb: folder }
}

/** As of the last second that every process has told of. */
function progressLine (meter: Meter, from: number, to: number): string {
  const at = Math.min(now() - 1_000, to)
  const { sent, delivered, behind, p99 } = meter.second(0, at - 1_000, at)
  const time = at < from ? 'warming up' : `${Math.round((at - from) / 1_000)} of ${Math.round((to - from) / 1_000)} s`
  return `${time.padEnd(12)}${format(sent)} sent/s  ${format(delivered)} delivered/s  ${format(meter.count('receivers', 'delivered', Infinity))} delivered  ${format(behind)} on their way  p99 ${ms(p99)}`
}
