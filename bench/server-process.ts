/* One server of the bench, which says what it is told to. */
import { readFile } from 'node:fs/promises'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { answer } from './child.js'
import { now, stampedText, textOf } from './events.js'
import type { BenchServer } from './servers/server.js'

const [name, options] = process.argv.slice(2) as [string, string]
const { default: start } = await import(`./servers/${name}.js`) as { default (options: object): Promise<BenchServer> }
const server = await start(JSON.parse(options))

export interface Flood { threads: number, perTurn: number, events: number }
/** isBursty: what a timer gathers is said in one turn; otherwise each event as soon as it is due, which keeps one CPU busy. */
export interface Pace { threads: number, perSecond: number, events: number, isBursty: boolean }
export interface Memory { resident: number, used: number }
export interface Burst { perTurn: number, pieces: number }

/** So many events in each turn of the event loop, all of one thread; the next turn is the next thread's. */
async function flood ({ threads, perTurn, events }: Flood): Promise<void> {
  for (let sent = 0, turn = 0; sent < events; turn++) {
    for (let i = 0; i < perTurn && sent < events; i++) server.think(turn % threads, textOf(sent++))
    await setImmediate()
  }
}

/** Events at a steady rate, each in the next thread. */
async function pace ({ threads, perSecond, events, isBursty }: Pace): Promise<void> {
  const startedAt = now()
  for (let sent = 0; sent < events;) {
    const due = Math.min(events, Math.floor((now() - startedAt) * perSecond / 1_000))
    for (; sent < due; sent++) server.think(sent % threads, stampedText(sent, Math.floor(sent / threads) + 1))
    await (isBursty ? setTimeout(1) : setImmediate())
  }
}

/** One answer in pieces, some in each turn of the event loop. @returns how many characters it has */
async function burst ({ perTurn, pieces }: Burst): Promise<number> {
  let characters = 0
  async function * source (): AsyncGenerator<string> {
    for (let i = 0; i < pieces; i++) {
      if (i % perTurn === 0) await setImmediate()
      characters += textOf(i).length
      yield textOf(i)
    }
  }
  await server.say(source())
  return characters
}

/** Bytes, once everything that can be freed is freed and given back, which threads of their own do. */
async function settledMemory (): Promise<Memory> {
  for (let before = Infinity, tries = 0; ; tries++) {
    // Without arguments: to older versions of V8 the words of newer ones mean a small collection.
    globalThis.gc!()
    await setTimeout(200)
    const memory = await memoryNow()
    if (before - memory.resident < 2 ** 18 || tries === 20) return memory
    before = memory.resident
  }
}

async function memoryNow (): Promise<Memory> {
  // Not the pages of files, which the system takes away as it likes: Linux tells them apart.
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '')
  const anonymous = /^RssAnon:\s+(\d+)/m.exec(status)?.[1]
  const { rss, heapUsed, external } = process.memoryUsage()
  return { resident: anonymous === undefined ? rss : Number(anonymous) * 1_024, used: heapUsed + external }
}

answer({
  url: () => server.url,
  addThreads: ({ count }) => server.addThreads(count),
  addSpeakers: ({ count }) => server.addSpeakers?.(count),
  addIdleThreads: ({ count }) => server.addIdleThreads!(count),
  flood,
  pace,
  burst,
  /** CPU time of this process so far, in milliseconds. */
  cpu () {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1_000
  },
  memory: settledMemory
})
