import { createHash, randomBytes } from 'node:crypto'
import { access, mkdir, readdir, realpath, unlink } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FAE_ERR_STORE_FOLDER, FAE_ERR_STORE_LOCKED } from '../../errors.js'

/*
 * One process per folder. lmdb lets a second one in without a word, so there is a lock that the kernel frees with its
 * process, also after kill -9: a Unix socket that listens. Each process makes one under a name of its own, and only then
 * looks for others that answer: of two that come at once each sees the other, or one of them has not begun to look, so two
 * can never both go on. Names are never used twice: to remove one that nobody answers at cannot hit a living process.
 */

const NAME = /^lock\.[0-9a-f]{8}$/
/** Longest path of a Unix socket that every system takes. */
const MAX_SOCKET_PATH = 100
const ATTEMPTS = 5

/**
 * @returns gives the folder free again
 * @throws FAE_ERR_STORE_LOCKED when another process, or another store of this one, holds it; FAE_ERR_STORE_FOLDER
 */
export async function lockFolder (folder: string): Promise<() => Promise<void>> {
  const place = await socketFolder(folder)
  for (let attempt = 1; ; attempt++) {
    const name = `lock.${randomBytes(4).toString('hex')}`
    const server = await listen(join(place, name), folder)
    // A socket looks dead between its bind and its listen: somebody may have tidied it up.
    const isThere = await access(join(place, name)).then(() => true, () => false)
    if (isThere && !await anotherAnswers(place, name)) return () => close(server)
    await close(server)
    if (attempt === ATTEMPTS) throw new FAE_ERR_STORE_LOCKED(folder)
    await new Promise((resolve) => { setTimeout(resolve, Math.random() * 50 * attempt) })
  }
}

/** The folder itself, or where its path is too long for a socket, one of the same identity among the temporary files. */
async function socketFolder (folder: string): Promise<string> {
  const path = await realpath(folder)
  if (Buffer.byteLength(path) + '/lock.12345678'.length <= MAX_SOCKET_PATH) return path
  const place = join(tmpdir(), `fae-${createHash('sha256').update(path).digest('hex').slice(0, 16)}`)
  await mkdir(place, { recursive: true })
  return place
}

function listen (path: string, folder: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => { socket.destroy() })
    server.once('error', (error) => { reject(new FAE_ERR_STORE_FOLDER(folder, error.message)) })
    // The lock must not be what keeps a process alive.
    server.listen(path, () => { resolve(server.unref()) })
  })
}

async function anotherAnswers (place: string, own: string): Promise<boolean> {
  for (const name of await readdir(place)) {
    if (name === own || !NAME.test(name)) continue
    if (await answers(join(place, name))) return true
    await unlink(join(place, name)).catch(() => {})
  }
  return false
}

/** The kernel answers for a process that is busy or stopped, and for nobody else. */
function answers (path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const settle = (isAlive: boolean): void => {
      socket.destroy()
      resolve(isAlive)
    }
    socket.once('connect', () => { settle(true) })
    // Full queue or no right to ask: somebody is there.
    socket.once('error', ({ code }: NodeJS.ErrnoException) => { settle(code !== 'ECONNREFUSED' && code !== 'ENOENT') })
  })
}

function close (server: Server): Promise<void> {
  return new Promise((resolve) => { server.close(() => { resolve() }) })
}
