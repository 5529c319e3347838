/* All watchers of one server, in a process of their own. */
import { answer } from './child.js'
import { now, readStamp } from './events.js'
import { quantile } from './statistics.js'
import { Watcher, type Dialect } from './watcher.js'

/** So many connect at the same time. */
const AT_ONCE = 100
/** One address has ports for some 28,000 connections to one server. */
const PER_ADDRESS = 20_000

/** What is done with each event: counted unread, or read for its text, or for how long it was on its way, or for where it belongs. */
export type Reading = 'count' | 'text' | 'latency' | 'order'
export interface Connect { url: string, dialect: Dialect, threads: number, firstThread?: number, perThread: number, reading: Reading }

/** The first of them need none of their own: the ports of one that is bound are used up for a minute, whatever server they were for. */
function addressOf (connection: number): string | undefined {
  return connection < PER_ADDRESS ? undefined : `127.0.0.${1 + Math.floor(connection / PER_ADDRESS)}`
}

let watchers: Watcher[] = []
let read: Reading = 'count'
let received = 0
let latencies: number[] = []
let waiting: { count: number, resolve (count: number): void } | undefined

function got (count: number): void {
  received += count
  if (waiting !== undefined && received >= waiting.count) {
    waiting.resolve(received)
    waiting = undefined
  }
}

const READ: Record<Reading, (watcher: Watcher, data: Buffer) => void> = {
  count () { got(1) },
  text (watcher, data) { got(watcher.textIn(data).length) },
  latency (watcher, data) {
    latencies.push(now() - readStamp(watcher.textIn(data)).at)
    got(1)
  },
  order (watcher, data) {
    watcher.keep(readStamp(watcher.textIn(data)), now())
    got(1)
  }
}

answer({
  async connect ({ url, dialect, threads, firstThread = 0, perThread, reading }: Connect) {
    read = reading
    watchers = Array.from({ length: threads * perThread }, (_, i) => {
      const watcher: Watcher = new Watcher(url, dialect, firstThread + i % threads, addressOf(firstThread + i), (data) => { READ[read](watcher, data) })
      return watcher
    })
    for (let i = 0; i < watchers.length; i += AT_ONCE) await Promise.all(watchers.slice(i, i + AT_ONCE).map((watcher) => watcher.connect()))
  },
  read ({ reading }: { reading: Reading }) { read = reading },
  /** Resolves when so much has arrived since the start. @returns how much that is */
  until: ({ count }: { count: number }) => received >= count ? received : new Promise<number>((resolve) => { waiting = { count, resolve } }),
  received: () => received,
  /** In milliseconds, of what has arrived since this was last asked. */
  latencies () {
    const sorted = Float64Array.from(latencies).sort()
    latencies = []
    return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99) }
  },
  drop () { for (const watcher of watchers) watcher.drop() },
  /** All at once. */
  async resume () { await Promise.all(watchers.map((watcher) => watcher.connect(now()))) },
  /** Who has what in the end, and how long it took until they had everything that was said before they came back, in milliseconds. */
  whole ({ events }: { events: number }) {
    const caughtUp = Float64Array.from(watchers.map((watcher) => watcher.caughtUpMs)).sort()
    return {
      whole: watchers.filter((watcher) => watcher.isWhole(events)).length,
      missing: watchers.reduce((sum, watcher) => sum + watcher.missing(events), 0),
      p50: quantile(caughtUp, 0.5),
      p99: quantile(caughtUp, 0.99)
    }
  }
})
