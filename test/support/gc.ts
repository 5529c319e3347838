import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

/** Collects the whole heap. */
export const gc = runInNewContext('gc') as () => void

/** The same until also what waits for that, such as finalizers, has been done. */
export async function collected (): Promise<void> {
  for (let i = 0; i < 5; i++) {
    gc()
    await new Promise((resolve) => { setTimeout(resolve, 10) })
  }
}
