import { Latencies } from './latencies.js'
import type { Sample } from './messages.js'
import type { LoadResult, Second } from './result.js'

type Count = 'sent' | 'due' | 'delivered' | 'cpuMs' | 'rss'

/** Turns the samples of all processes into figures of a time: by shared clock, whenever each process sent its samples. */
export class Meter {
  readonly #samples: Record<'servers' | 'receivers', Map<object, Sample[]>> = { servers: new Map(), receivers: new Map() }

  add (room: 'servers' | 'receivers', from: object, sample: Sample): void {
    const samples = this.#samples[room].get(from)
    if (samples === undefined) this.#samples[room].set(from, [sample])
    else samples.push(sample)
  }

  /** What all processes of a room together had counted then. */
  count (room: 'servers' | 'receivers', what: Count, at: number): number {
    let sum = 0
    for (const samples of this.#samples[room].values()) sum += countAt(samples, what, at)
    return sum
  }

  latencies (from: number, to: number): Latencies {
    const all = new Latencies()
    for (const samples of this.#samples.receivers.values()) {
      for (const { at, latencies } of samples) if (latencies !== undefined && at > from && at <= to) all.takeIn(latencies)
    }
    return all
  }

  second (second: number, from: number, to: number): Second {
    const perSecond = 1_000 / (to - from)
    const latencies = this.latencies(from, to)
    return {
      second,
      sent: Math.round((this.count('servers', 'sent', to) - this.count('servers', 'sent', from)) * perSecond),
      delivered: Math.round((this.count('receivers', 'delivered', to) - this.count('receivers', 'delivered', from)) * perSecond),
      p50: round(latencies.percentile(0.5)),
      p99: round(latencies.percentile(0.99)),
      max: round(latencies.max),
      behind: Math.max(0, Math.round(this.count('servers', 'due', to) - this.count('receivers', 'delivered', to)))
    }
  }

  /** The figures of a time. Latencies are of everything that was stamped, however late it came. */
  measure (from: number, to: number): Pick<LoadResult, 'sent' | 'sentPerSecond' | 'deliveredPerSecond' | 'latency' | 'cores' | 'memoryMiB' | 'seconds'> {
    const rate = (room: 'servers' | 'receivers', what: Count): number => (this.count(room, what, to) - this.count(room, what, from)) / (to - from)
    const latencies = this.latencies(from, Infinity)
    const [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map((share) => round(latencies.percentile(share))) as [number, number, number, number]
    const memory = (room: 'servers' | 'receivers'): number => Math.round(this.count(room, 'rss', to) / 2 ** 20)
    return {
      sent: this.count('servers', 'sent', Infinity),
      sentPerSecond: Math.round(1_000 * rate('servers', 'sent')),
      deliveredPerSecond: Math.round(1_000 * rate('receivers', 'delivered')),
      latency: { count: latencies.count, p50, p90, p99, p999, max: round(latencies.max), bins: latencies.bins() },
      cores: { servers: round(rate('servers', 'cpuMs')), receivers: round(rate('receivers', 'cpuMs')) },
      memoryMiB: { servers: memory('servers'), receivers: memory('receivers') },
      seconds: Array.from({ length: Math.floor((to - from) / 1_000) }, (_, i) => this.second(i + 1, from + i * 1_000, from + (i + 1) * 1_000))
    }
  }
}

/** Between two samples as much as lies between their counts. */
function countAt (samples: readonly Sample[], what: Count, at: number): number {
  const next = samples.findIndex((sample) => sample.at >= at)
  if (next < 0) return samples.at(-1)?.[what] ?? 0
  const after = samples[next]!
  const before = samples[next - 1] ?? after
  return after.at === before.at ? after[what] : before[what] + (after[what] - before[what]) * (at - before.at) / (after.at - before.at)
}

function round (value: number): number { return Math.round(value * 100) / 100 }
