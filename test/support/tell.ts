import { writeSync } from 'node:fs'

/** Lines on standard output that outlive this process: a pipe is written at once, and what is in it stays when the writer is killed. */
export function tell (...lines: object[]): void {
  // A pipe that is full is waited for: nothing may be left out.
  let rest = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
}
