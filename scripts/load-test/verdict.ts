import { crc32 } from 'node:zlib'

/** What one connection got of one thread, in the order in which it came. */
export class Receipt {
  readonly seqs: number[] = []
  readonly checksums: number[] = []
  /** The last one's, to resume from. */
  cursor: string | undefined

  add (seq: number, cursor: string, bytes: Uint8Array): void {
    this.seqs.push(seq)
    this.checksums.push(crc32(bytes))
    this.cursor = cursor
  }
}

export interface Verdict {
  /** Events of the log that the receiver got. */
  delivered: number
  lost: number
  doubled: number
  /** Came after one with a higher seq. */
  outOfOrder: number
  /** Other bytes than the log has. */
  altered: number
  /** Not in the log. */
  unknown: number
}

export function newVerdict (): Verdict { return { delivered: 0, lost: 0, doubled: 0, outOfOrder: 0, altered: 0, unknown: 0 } }

/** Compares what a connection got with what the thread's log holds. @param log the checksums of its events, seq 1 first */
export function judge (log: readonly number[], { seqs, checksums }: Receipt): Verdict {
  const verdict = newVerdict()
  const times = new Uint32Array(log.length + 1)
  let highest = 0
  for (const [i, seq] of seqs.entries()) {
    const checksum = log[seq - 1]
    if (checksum === undefined) {
      verdict.unknown++
      continue
    }
    if (checksum !== checksums[i]) verdict.altered++
    if (times[seq]!++ > 0) verdict.doubled++
    else if (seq < highest) verdict.outOfOrder++
    highest = Math.max(highest, seq)
  }
  for (let seq = 1; seq <= log.length; seq++) {
    if (times[seq] === 0) verdict.lost++
    else verdict.delivered++
  }
  return verdict
}

/** @param events of a thread as its server tells them over HTTP @returns their checksums @throws Error unless they are 1, 2, 3 … */
export function readLog (threadId: string, events: ReadonlyArray<{ seq: number }>): number[] {
  return events.map((event, i) => {
    if (event.seq !== i + 1) throw new Error(`The log of ${threadId} has seq ${event.seq} in place ${i + 1}`)
    return crc32(JSON.stringify(event))
  })
}

export function addVerdict (sum: Verdict, verdict: Verdict): void {
  for (const name of Object.keys(sum) as Array<keyof Verdict>) sum[name] += verdict[name]
}

export function isClean ({ lost, doubled, outOfOrder, altered, unknown }: Verdict): boolean {
  return lost + doubled + outOfOrder + altered + unknown === 0
}
