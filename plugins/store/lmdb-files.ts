import { createHash } from 'node:crypto'
import { access, constants, mkdir, open as openFile, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Database, Key, RootDatabase } from 'lmdb'
import { FAE_ERR_PACKAGE_MISSING, FAE_ERR_STORE_FOLDER, FAE_ERR_STORE_FORMAT } from '../../errors.js'
import type { MutableRun } from './run-ledger.js'
import type { RunInfo, ThreadRecord } from './store.js'

/** Raised when older code could no longer read what newer code wrote. */
const FORMAT = 1

/** A thread's number is never used twice: what a deleted thread leaves behind is nobody's. */
export interface ThreadRow { readonly no: number, readonly record: ThreadRecord }

/** What changes with every append; the names are short because it is written so often. */
export interface PositionRow {
  /** head */
  readonly h: number
  /** first retained seq; h + 1 when none is */
  readonly f: number
  /** bytes retained */
  readonly b: number
  /** when the oldest retained event was stored */
  readonly o: number
  /** when something was stored last */
  readonly t: number
  /** generation of the data */
  readonly g: number
  /** epochs */
  readonly e: ReadonlyArray<readonly [epoch: string, from: number]>
}

/** A run without what never changes, which is in `infos`. */
export interface RunRow extends Omit<MutableRun, 'info'> {
  /** Number of its thread. */
  readonly no: number
  /** Place among all runs in the order in which they were started. */
  readonly order: number
}
export interface KeyRow { readonly first: number, readonly last: number, readonly runId?: string }
export interface TombstoneRow { readonly userId: string, readonly epoch: string, readonly until: number }
interface HeadRow { readonly format: number, readonly generation: number }
interface Marker { readonly inode: number, readonly born: number, readonly txn: number }

export interface LmdbFiles {
  readonly root: RootDatabase
  /** Raised when the data may lack a tail that somebody was told of. */
  readonly generation: number
  readonly threads: Database<ThreadRow, string>
  readonly positions: Database<PositionRow, number>
  /** By number of the thread and seq of the first event. */
  readonly log: Database<Buffer, [number, number]>
  readonly keys: Database<KeyRow, [number, string]>
  readonly runs: Database<RunRow, string>
  readonly infos: Database<RunInfo, string>
  /** The ids of runs that have not ended. */
  readonly live: Database<string, string>
  readonly users: Database<string, [string, string]>
  readonly inboxes: Database<string, string>
  readonly tombstones: Database<TombstoneRow, string>
  /** Tombstones by the time they end. */
  readonly expiry: Database<string, [number, string]>
  /** Numbers of deleted threads whose logs are still to be removed. */
  readonly garbage: Database<number, number>
  /** Says in the folder which file this is and how far it got: see `mark`. */
  mark (): Promise<void>
  /** The same after the data file was replaced, whole, by one of its content; the environment is closed. */
  markReplaced (): Promise<void>
}

/**
 * Creates the folder if it is missing.
 * @throws FAE_ERR_STORE_FOLDER
 */
export async function prepareFolder (folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true })
    await access(folder, constants.W_OK)
  } catch (error) {
    throw new FAE_ERR_STORE_FOLDER(folder, (error as Error).message)
  }
}

/** @throws FAE_ERR_PACKAGE_MISSING, FAE_ERR_STORE_FOLDER, FAE_ERR_STORE_FORMAT */
export async function openFiles (folder: string): Promise<LmdbFiles> {
  const { open } = await loadLmdb()
  await checkDataFile(folder)
  let root: RootDatabase
  try {
    /*
     * overlappingSync off: a commit's promise resolves once the operating system says that the disk has it, so what was
     * confirmed survives kill -9 and also a loss of power. With it on (lmdb-js' default) the promise resolves before the
     * flush: the process could die without loss, the machine not. Group commit pays for the flush: many appends share one.
     */
    root = open({ path: folder, overlappingSync: false, eventTurnBatching: false, maxDbs: 16, encoding: 'json' })
  } catch (error) {
    throw new FAE_ERR_STORE_FOLDER(folder, (error as Error).message)
  }
  try {
    const generation = await beginGeneration(folder, root)
    const json = <Row, RowKey extends Key>(name: string): Database<Row, RowKey> => root.openDB<Row, RowKey>({ name, encoding: 'json' })
    return {
      root,
      generation,
      threads: json('threads'),
      positions: json('positions'),
      log: root.openDB({ name: 'log', encoding: 'binary' }),
      keys: json('keys'),
      runs: json('runs'),
      infos: json('infos'),
      live: json('live'),
      users: json('users'),
      inboxes: json('inboxes'),
      tombstones: json('tombstones'),
      expiry: json('expiry'),
      garbage: json('garbage'),
      mark: () => mark(folder, lastTxn(root)),
      // A file that was written anew counts its transactions from the beginning.
      markReplaced: () => mark(folder, 0)
    }
  } catch (error) {
    await root.close()
    throw error
  }
}

/** What lmdb's files begin with, and where. */
const MAGIC = 0xbeefc0de
const MAGIC_AT = 24

/** lmdb ends the process (segmentation fault) when it is to open something that is no data file. */
async function checkDataFile (folder: string): Promise<void> {
  const path = join(folder, 'data.mdb')
  const { size } = await stat(path).catch(() => ({ size: 0 }))
  if (size === 0) return
  try {
    const file = await openFile(path)
    const head = Buffer.alloc(MAGIC_AT + 4)
    await file.read(head, 0, head.length, 0).finally(() => file.close())
    if (head.readUInt32LE(MAGIC_AT) !== MAGIC) throw new Error('data.mdb is not a data file of lmdb, or it is damaged')
  } catch (error) {
    throw new FAE_ERR_STORE_FOLDER(folder, (error as Error).message)
  }
}

async function loadLmdb (): Promise<typeof import('lmdb')> {
  try {
    return await import('lmdb')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new FAE_ERR_PACKAGE_MISSING('The option store: { lmdb }', 'lmdb', 'lmdb')
  }
}

/**
 * A copy that was put back lacks what was stored since, and clients may hold positions of that. The folder's marker tells:
 * it names the data file that was last used here (a copy is another file) and a transaction that it must at least hold (a
 * file that was overwritten in place may hold fewer). Where it is missing or does not fit, every thread begins a new epoch
 * when it is next looked at. To begin one on purpose, as after bringing back a snapshot of a whole disk, which looks
 * untouched from inside, remove the marker. In doubt that is harmless: positions from before the new epoch still count.
 */
async function beginGeneration (folder: string, root: RootDatabase): Promise<number> {
  const head = root.get('head') as HeadRow | undefined
  if (head !== undefined && head.format > FORMAT) throw new FAE_ERR_STORE_FORMAT(folder, head.format, FORMAT)
  const txn = lastTxn(root)
  const marker = await readMarker(folder)
  const { ino, birthtimeMs } = await stat(join(folder, 'data.mdb'))
  const isSame = marker !== undefined && marker.inode === ino && marker.born === birthtimeMs && marker.txn <= txn
  if (head !== undefined && isSame) return head.generation
  const generation = (head?.generation ?? 0) + 1
  await root.put('head', { format: FORMAT, generation } satisfies HeadRow)
  await mark(folder, lastTxn(root))
  return generation
}

/** @throws when the file system refuses */
async function mark (folder: string, txn: number): Promise<void> {
  const { ino, birthtimeMs } = await stat(join(folder, 'data.mdb'))
  await writeFile(join(folder, 'marker.new'), JSON.stringify({ inode: ino, born: birthtimeMs, txn } satisfies Marker))
  await rename(join(folder, 'marker.new'), join(folder, 'marker'))
}

async function readMarker (folder: string): Promise<Marker | undefined> {
  try {
    return JSON.parse(await readFile(join(folder, 'marker'), 'utf8')) as Marker
  } catch {
    return undefined
  }
}

function lastTxn (root: RootDatabase): number {
  return (root.getStats() as { lastTxnId: number }).lastTxnId
}

/** How long an id may be in bytes to be its own key; a pair of them must fit lmdb's limit of 1978. */
const MAX_ID_BYTES = 900

/** An id as a key: itself, or what begins like it and ends in its hash. */
export function idKey (id: string): string {
  if (id.length * 3 <= MAX_ID_BYTES || Buffer.byteLength(id) <= MAX_ID_BYTES) return id
  return `${[...id].slice(0, 150).join('')}\uffff${hash(id)}`
}

/** A key for what may hold any characters and need not be in order. */
export function hash (text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}
