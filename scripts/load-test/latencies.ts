/** Milliseconds counted in buckets that are each 2 % wider than the one before: any number of them in little memory, also over processes. */
export class Latencies {
  readonly #counts = new Map<number, number>()
  count = 0
  max = 0

  add (ms: number): void {
    this.#count(ms <= FINEST_MS ? 0 : Math.ceil(Math.log(ms / FINEST_MS) / WIDTH), 1)
    this.max = Math.max(this.max, ms)
  }

  /** What they are, to be sent to another process and taken in there. */
  toJSON (): LatencyCounts { return { counts: [...this.#counts].sort(([a], [b]) => a - b), max: this.max } }

  takeIn ({ counts, max }: LatencyCounts): void {
    for (const [bucket, count] of counts) this.#count(bucket, count)
    this.max = Math.max(this.max, max)
  }

  /** @param share from 0 to 1 @returns what this share of them did not exceed; 0 when there are none */
  percentile (share: number): number {
    const rank = Math.ceil(this.count * share)
    let seen = 0
    for (const [bucket, count] of this.toJSON().counts) {
      seen += count
      if (seen >= rank) return Math.min(upperEnd(bucket), this.max)
    }
    return 0
  }

  /** How many lie between two values of 1, 2, 5, 10, 20 …, from the first one that has some to the last. */
  bins (): Array<{ from: number, to: number, count: number }> {
    const bins: Array<{ from: number, to: number, count: number }> = []
    for (const [bucket, count] of this.toJSON().counts) {
      const i = EDGES.findIndex((edge) => upperEnd(bucket) <= edge * 1.000001)
      const [from, to] = [EDGES[i - 1] ?? 0, EDGES[i] ?? Infinity]
      while (bins.length > 0 && bins.at(-1)!.to < from) {
        const last = bins.at(-1)!.to
        bins.push({ from: last, to: EDGES[EDGES.indexOf(last) + 1]!, count: 0 })
      }
      if (bins.at(-1)?.to === to) bins.at(-1)!.count += count
      else bins.push({ from, to, count })
    }
    return bins
  }

  #count (bucket: number, count: number): void {
    this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + count)
    this.count += count
  }
}

export interface LatencyCounts { counts: Array<[bucket: number, count: number]>, max: number }

const FINEST_MS = 0.01
const WIDTH = Math.log(1.02)
const EDGES = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000]

function upperEnd (bucket: number): number { return FINEST_MS * Math.exp(bucket * WIDTH) }
