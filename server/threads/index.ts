import { createReadStream, createWriteStream } from 'node:fs'
import { access } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { compactLmdb, exportLmdb, importLmdb } from 'fastify-agent-events/stores'
import type { ThreadsAction } from '../command.js'
import { ConfigError, type Config } from '../config.js'
import { chooseStore } from '../store.js'

/**
 * `threads export | import | compact`, on the folder of an lmdb store that no process works on.
 *
 * @returns one line that says what was done
 * @throws ConfigError for another store or a file that cannot be read, and the library's errors: FAE_ERR_IMPORT_LINE, FAE_ERR_STORE_…
 */
export async function manageThreads (config: Config, action: ThreadsAction, file: string | undefined): Promise<string> {
  const { folder, description } = chooseStore(config.STORE)
  if (folder === undefined) throw new ConfigError(`'threads ${action}' works on lmdb stores; STORE is ${description}. Redis is copied with its own tools.`)
  if (action === 'compact') {
    const { before, after } = await compactLmdb(folder)
    return `compacted ${folder}: ${before} bytes before, ${after} now`
  }
  if (action === 'import') {
    await access(file!).catch((error: Error) => { throw new ConfigError(`${file} cannot be read: ${error.message}`) })
    const { threads, events } = await importLmdb(folder, () => createInterface({ input: createReadStream(file!), crlfDelay: Infinity }))
    return `imported ${threads} threads with ${events} events into ${folder}`
  }
  let lines = 0
  async function * text (): AsyncGenerator<string> {
    for await (const line of exportLmdb(folder!)) {
      lines++
      yield `${line}\n`
    }
  }
  if (file === undefined) await pipeline(Readable.from(text()), process.stdout, { end: false })
  else await pipeline(Readable.from(text()), createWriteStream(file))
  return `exported ${lines} lines from ${folder}`
}
