import { test } from 'tap'
import { spawn } from 'node:child_process'
import { chmod, copyFile, cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { open } from 'lmdb'
import { LmdbStore } from '../../../plugins/store/lmdb-store.js'
import { openStore } from '../../../plugins/store/index.js'
import { newFolder } from '../../support/lmdb.js'
import { childEnv } from '../../support/child-env.js'

const BODY = '{"v":1,"type":"custom"}'

async function opened (folder: string): Promise<LmdbStore> {
  const store = new LmdbStore({ folder })
  await store.open()
  return store
}

async function newThread (store: LmdbStore, threadId = 't1'): Promise<void> {
  await store.putThread({ threadId, userId: 'u1', createdAt: '2026-01-01T12:00:00.000Z' })
}

async function locks (folder: string): Promise<number> {
  return (await readdir(folder)).filter((name) => name.startsWith('lock.') && name !== 'lock.mdb').length
}

test('chosen by an option', async (t) => {
  const folder = join(await newFolder(t), 'made', 'on', 'the', 'way')
  const { store, created } = await openStore({ lmdb: folder, retention: { maxEvents: 2 } })
  t.equal(created, true)
  t.equal(store.name, 'lmdb')
  await store.putThread({ threadId: 't1', userId: 'u1', createdAt: '' })
  await store.append('t1', [BODY, BODY, BODY])
  t.equal((await store.read('t1', 0)).first, 2)
  await store.close()
  await t.rejects(openStore({ lmdb: '' }), { code: 'FAE_ERR_OPTION_INVALID' })
})

test('a folder is one store\'s', async (t) => {
  const folder = await newFolder(t)
  const store = await opened(folder)
  await newThread(store)
  for (let i = 0; i < 3; i++) await t.rejects(opened(folder), { code: 'FAE_ERR_STORE_LOCKED' })
  t.equal((await store.append('t1', [BODY])).last.seq, 1, 'the first one is undisturbed')
  t.equal(await locks(folder), 1)
  await store.close()
  t.equal(await locks(folder), 0)
  const next = await opened(folder)
  t.equal((await next.read('t1', 0)).head, 1)
  await next.close()
})

test('of many that open a folder at once never two have it', async (t) => {
  const folder = await newFolder(t)
  let winners = 0
  for (let round = 0; round < 10; round++) {
    const outcomes = await Promise.allSettled(Array.from({ length: 6 }, () => opened(folder)))
    const stores = outcomes.flatMap((outcome) => outcome.status === 'fulfilled' ? [outcome.value] : [])
    for (const outcome of outcomes) if (outcome.status === 'rejected') t.equal(outcome.reason.code, 'FAE_ERR_STORE_LOCKED')
    t.ok(stores.length <= 1, `${stores.length} have it`)
    winners += stores.length
    await Promise.all(stores.map((store) => store.close()))
  }
  t.comment(`${winners} of 10 rounds had a winner`)
  await (await opened(folder)).close()
  t.equal(await locks(folder), 0, 'nothing is left lying about')
})

for (const [name, path] of [['', ''], [' whose path is too long for a socket', 'x'.repeat(120)]] as const) {
  test(`another process has the folder${name} until it is killed`, async (t) => {
    const folder = join(await newFolder(t), path)
    const script = fileURLToPath(new URL('../../support/crash-child.ts', import.meta.url))
    const child = spawn(process.execPath, ['--import', 'tsx', script, folder], { stdio: ['ignore', 'pipe', 'inherit'], env: childEnv })
    t.teardown(() => child.kill('SIGKILL'))
    await new Promise<void>((resolve) => { child.stdout.on('data', (chunk: Buffer) => { if (chunk.includes('"ready"')) resolve() }) })
    await t.rejects(opened(folder), { code: 'FAE_ERR_STORE_LOCKED', message: /in use by another process/ })
    child.kill('SIGSTOP')
    await t.rejects(opened(folder), { code: 'FAE_ERR_STORE_LOCKED' }, 'also one that stands still')
    child.kill('SIGKILL')
    await new Promise((resolve) => { child.once('close', resolve) })
    const store = await opened(folder)
    t.ok(await store.getThread('t0'))
    await store.close()
  })
}

test('a folder that cannot be one is named', async (t) => {
  const folder = await newFolder(t)
  await writeFile(join(folder, 'file'), '')
  await t.rejects(opened(join(folder, 'file', 'data')), { code: 'FAE_ERR_STORE_FOLDER', message: /file\/data.*ENOTDIR/ })
  for (const content of ['x'.repeat(100_000), 'x', '\0'.repeat(100_000)]) {
    await writeFile(join(folder, 'data.mdb'), content)
    await t.rejects(opened(folder), { code: 'FAE_ERR_STORE_FOLDER', message: /not a data file of lmdb/ })
  }
  t.equal(await locks(folder), 0)
})

test('a folder that may not be written to is named, and nothing in it changes', async (t) => {
  const folder = await newFolder(t)
  const store = await opened(folder)
  await newThread(store)
  await store.close()
  const before = await readFile(join(folder, 'data.mdb'))
  await chmod(folder, 0o555)
  const isRoot = process.getuid!() === 0
  if (isRoot) process.seteuid!(65_534)
  try {
    await t.rejects(opened(folder), { code: 'FAE_ERR_STORE_FOLDER', message: /EACCES/ })
  } finally {
    if (isRoot) process.seteuid!(0)
    await chmod(folder, 0o755)
  }
  t.ok(before.equals(await readFile(join(folder, 'data.mdb'))))
  const again = await opened(folder)
  t.ok(await again.getThread('t1'))
  await again.close()
})

test('data of a newer format is left alone', async (t) => {
  const folder = await newFolder(t)
  const newer = open({ path: folder, overlappingSync: false, encoding: 'json' })
  await newer.put('head', { format: 2, generation: 1 })
  await newer.close()
  const before = await readFile(join(folder, 'data.mdb'))
  await t.rejects(opened(folder), { code: 'FAE_ERR_STORE_FORMAT', message: /format 2.*up to 1/ })
  t.ok(before.equals(await readFile(join(folder, 'data.mdb'))))
  t.equal(await locks(folder), 0)
})

test('without the package the error says how to get it', async (t) => {
  const hooks = `export async function resolve (name, context, next) {
    if (name !== 'lmdb') return next(name, context)
    throw Object.assign(new Error('no lmdb here'), { code: 'ERR_MODULE_NOT_FOUND' })
  }`
  const store = new URL('../../../plugins/store/lmdb-store.ts', import.meta.url).href
  const code = `
    import { register } from 'node:module'
    register(${JSON.stringify(`data:text/javascript,${encodeURIComponent(hooks)}`)})
    const { LmdbStore } = await import('${store}')
    await new LmdbStore({ folder: process.argv[1] }).open().catch((error) => { console.log(error.code, error.message) })
  `
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', code, await newFolder(t)], { env: childEnv })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => { output += String(chunk) })
  child.stderr.on('data', (chunk: Buffer) => { output += String(chunk) })
  await new Promise((resolve) => { child.once('close', resolve) })
  t.match(output, /^FAE_ERR_PACKAGE_MISSING .*npm i lmdb\n$/)
})

test('epochs outlive restarts, and a new one begins after each way to put older data back', async (t) => {
  const folder = await newFolder(t)
  let store = await opened(folder)
  await newThread(store)
  await newThread(store, 'idle')
  for (let i = 0; i < 10; i++) await store.append('t1', [BODY])
  await store.append('idle', [BODY])
  const { epochs: [begun] } = await store.read('t1', 0)
  const restart = async (meanwhile: () => Promise<void> = async () => {}): Promise<void> => {
    await store.close()
    await meanwhile()
    store = await opened(folder)
  }
  for (let i = 0; i < 3; i++) {
    await restart()
    t.same((await store.read('t1', 0)).epochs, [begun])
  }

  await restart(() => cp(folder, `${folder}-copy`, { recursive: true }))
  t.teardown(() => rm(`${folder}-copy`, { recursive: true, force: true }))
  await store.append('t1', [BODY, BODY])
  await restart(async () => {
    await rm(folder, { recursive: true })
    await cp(`${folder}-copy`, folder, { recursive: true })
  })
  let page = await store.read('t1', 0)
  t.equal(page.head, 10, 'what was stored after the copy is not in it')
  t.same(page.epochs.map(({ from }) => from), [1, 11], 'positions up to 10 still count, 11 and 12 do not')
  t.equal(page.epochs[0]!.epoch, begun!.epoch)
  t.ok(page.epochs[1]!.epoch > begun!.epoch)
  const told = await store.append('t1', [BODY])
  t.same(told.last, { epoch: page.epochs[1]!.epoch, seq: 11 }, 'seq goes on')
  await restart()
  t.same((await store.read('t1', 0)).epochs, page.epochs, 'once')

  const { ino } = await stat(join(folder, 'data.mdb'))
  await restart(async () => {
    // In place: the same file, by its number and its birth.
    await copyFile(join(`${folder}-copy`, 'data.mdb'), join(folder, 'data.mdb'))
  })
  t.equal((await stat(join(folder, 'data.mdb'))).ino, ino)
  page = await store.read('t1', 0)
  t.same(page.epochs.map(({ from }) => from), [1, 11])
  t.not(page.epochs[1]!.epoch, told.last.epoch, 'this is another history than the one before it')

  await restart(() => rm(join(folder, 'marker')))
  t.same((await store.read('t1', 0)).epochs.map(({ from }) => from), [1, 11, 11], 'on purpose')
  for (let i = 0; i < 20; i++) {
    await restart(() => rm(join(folder, 'marker')))
    await store.append('t1', [BODY])
  }
  page = await store.read('t1', 0)
  t.equal(page.epochs.length, 16)
  t.equal(page.epochs.at(-1)!.from, page.head)
  t.same((await store.read('idle', 0)).epochs.length, 2, 'one that nobody looked at needs no more than one')
  t.equal((await store.getThread('idle'))!.epoch, (await store.read('idle', 0)).epochs[1]!.epoch)
  await store.close()
})

test('a marker that cannot be read counts as none', async (t) => {
  const folder = await newFolder(t)
  let store = await opened(folder)
  await newThread(store)
  await store.close()
  await writeFile(join(folder, 'marker'), '{"inode":')
  store = await opened(folder)
  t.equal((await store.read('t1', 0)).epochs.length, 2)
  await store.close()
  await mkdir(join(folder, 'marker.new'))
  store = await opened(folder)
  await store.append('t1', [BODY])
  await store.close()
  t.pass('one that cannot be written does not keep a store from closing')
})
