import t from 'tap'
import { build } from 'esbuild'
import { execFile } from 'node:child_process'
import { mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { pack } from '../support/packed.js'
import { imported, program, said } from './use-all.js'

/*
 * What npm would publish, used by somebody else: the tarball of the built package in otherwise empty folders. In one of them
 * it is installed by npm; in the others it is unpacked, and what they need beside it is linked from here: a package that is
 * used but not named is missing there.
 */

const run = promisify(execFile)
const PATH = `${dirname(process.execPath)}:${process.env['PATH']}`
const bin = (name: string) => resolve('node_modules/.bin', name)
const { exports: subPaths, dependencies, peerDependencies, peerDependenciesMeta } = JSON.parse(await readFile('package.json', 'utf8'))
const required = [...Object.keys(dependencies), 'fastify', '@types/node']
const optional = Object.keys(peerDependenciesMeta)
/** What code can import: not the wildcard and not package.json. */
const codePaths: string[] = Object.keys(subPaths).filter((path) => typeof subPaths[path] === 'object')
const specifierOf = (path: string) => `fastify-agent-events${path.slice(1)}`
/** Sub-paths that need an optional peer to be loaded. */
const needs: Record<string, string> = { './client/react': 'react' }

const packed = await pack(t)
t.comment(`${packed.size} bytes packed, ${packed.unpackedSize} unpacked, ${packed.files.length} files`)

/** A project with these packages, and with the tarball as npm would unpack it. */
async function unpack (name: string, packages: readonly string[]): Promise<string> {
  const project = join(packed.folder, name)
  const installed = join(project, 'node_modules/fastify-agent-events')
  await mkdir(installed, { recursive: true })
  await run('tar', ['-xzf', packed.tarball, '--strip-components=1', '-C', installed])
  for (const dependency of packages) {
    const link = join(project, 'node_modules', dependency)
    await mkdir(dirname(link), { recursive: true })
    await symlink(resolve('node_modules', dependency), link)
  }
  await writeFile(join(project, 'package.json'), '{ "private": true }')
  return project
}

async function typeCheck (project: string, options: object = {}): Promise<string> {
  const compilerOptions = { module: 'nodenext', target: 'es2023', lib: ['es2023'], types: ['node'], strict: true, exactOptionalPropertyTypes: true, resolveJsonModule: true, skipLibCheck: false, ...options }
  await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.mts', '*.cts'] }))
  const { stdout } = await run(bin('tsc'), ['-p', project]).catch((error: { stdout: string }) => error)
  return stdout
}

t.test('publint has nothing to say', async (t) => {
  const { stdout } = await run(bin('publint'), ['--strict', packed.tarball])
  t.match(stdout, 'All good!')
})

t.test('are the types wrong? No', async (t) => {
  // it exits with 1 if something is wrong for who imports; that require() takes ESM it does not know yet
  const { stdout } = await run(bin('attw'), ['--profile', 'esm-only', '--no-emoji', '--no-color', packed.tarball])
  for (const path of codePaths) t.match(stdout, `"${specifierOf(path)}"`)
})

t.test('there is what is used, and nothing else: no tests, no sources, no server', async (t) => {
  const known = /^(dist\/(index|app|errors|warnings|(client|inspector|plugins|routes|schemas)\/.+)\.(js|d\.ts|js\.map)|dist\/schemas\/json\/\w+\.json|inspector\/page\/[\w.]+\.(css|html|svg)|README\.md|CHANGELOG\.md|LICENSE|package\.json)$/
  t.same(packed.files.map(({ path }) => path).filter((path) => !known.test(path) || /\.(test|suite|tst)\./.test(path)), [])
})

t.test('every file of the code has a map with its source', async (t) => {
  const dist = join(await unpack('maps', []), 'node_modules/fastify-agent-events/dist')
  const files = (await readdir(dist, { recursive: true })).filter((name) => name.endsWith('.js'))
  t.ok(files.length > 50)
  for (const file of files) {
    const code = await readFile(join(dist, file), 'utf8')
    const map = JSON.parse(await readFile(join(dist, `${file}.map`), 'utf8'))
    if (!code.includes('\n//# sourceMappingURL=') || map.sourcesContent?.length !== 1 || map.sourcesContent[0].length === 0) t.fail(file)
  }
})

t.test('installed by npm', async (t) => {
  const project = join(packed.folder, 'installed')
  await mkdir(project)
  await writeFile(join(project, 'package.json'), '{ "private": true }')
  await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', packed.tarball, 'fastify'], { cwd: project, env: { PATH } })

  t.test('it brings what it needs, and no optional peer', async (t) => {
    const { packages } = JSON.parse(await readFile(join(project, 'package-lock.json'), 'utf8'))
    const names = Object.keys(packages).filter((path) => path !== '')
    t.comment(`${names.length} packages with fastify`)
    t.ok(names.length > 20)
    t.same(names.filter((path) => optional.some((peer) => path.endsWith(`node_modules/${peer}`))), [])
  })

  t.test('every sub-path can be imported and required, and says nothing', async (t) => {
    const withPeers = await unpack('peers', [...required, ...optional])
    for (const path of codePaths) {
      const script = `const assert = require('node:assert')
        const required = require('${specifierOf(path)}')
        import('${specifierOf(path)}').then((imported) => {
          const names = Object.keys(imported).filter((name) => name !== 'module.exports')
          assert(names.length > 0)
          for (const name of names) assert.strictEqual(imported[name], required[name], name)
          console.log(names.join())
        })`
      const { stdout, stderr } = await run('node', ['--input-type=commonjs', '--eval', script], { cwd: needs[path] === undefined ? project : withPeers, env: { PATH } })
      t.match(stdout, /\w+/, `${path}: ${stdout.trim().slice(0, 100)}`)
      t.notMatch(stderr.replace(/.*ExperimentalWarning.*\n.*--trace-warnings.*\n/, ''), /\S/, `${path} warns of nothing`)
    }
  })

  t.test('an agent runs', async (t) => {
    await writeFile(join(project, 'app.cjs'), `
      const fastify = require('fastify')
      const { agentEvents, defineAgent } = require('fastify-agent-events')
      const hello = defineAgent({ name: 'hello', description: 'Says hello', async run ({ message }, ctx) { await ctx.say(message); return message.length } })
      async function main () {
        const app = fastify()
        await app.register(agentEvents, { agents: [hello], authenticate: async () => ({ userId: 'u' }) })
        await app.ready()
        console.log(await app.agents.run(hello, { userId: 'u', input: { message: 'ping' } }))
        await app.close()
      }
      main()
    `)
    const { stdout } = await run('node', ['app.cjs'], { cwd: project, env: { PATH } })
    t.equal(stdout, '4\n')
  })

  t.test('its types need no optional peer either', async (t) => {
    for (const name of ['@types/node', 'undici-types']) {
      await mkdir(join(project, 'node_modules', dirname(name)), { recursive: true })
      await symlink(resolve('node_modules', name), join(project, 'node_modules', name))
    }
    const paths = codePaths.filter((path) => needs[path] === undefined)
    await writeFile(join(project, 'paths.mts'), paths.map((path, at) => `import * as path${at} from '${specifierOf(path)}'\nvoid path${at}`).join('\n'))
    // those of @fastify/websocket need some of ws that it does not bring
    t.equal(await typeCheck(project, { noEmit: true, skipLibCheck: true }), '')
  })
})

t.test('a program that uses every sub-path, compiled from TypeScript', async (t) => {
  t.same(Object.keys(imported), codePaths, 'it uses every one')
  const project = await unpack('program', [...required, ...optional, 'react-dom', '@types/react', '@types/react-dom'])
  const beside = { fastify: 'Fastify', react: '{ createElement }', 'react-dom/server': '{ renderToString }' }
  const names = (path: string) => imported[path]!.join(', ')
  await writeFile(join(project, 'program.mts'), [
    ...Object.entries(beside).map(([name, what]) => `import ${what} from '${name}'`),
    ...codePaths.map((path) => `import { ${names(path)} } from '${specifierOf(path)}'`),
    "import schema from 'fastify-agent-events/schemas/ToolCompleted.json' with { type: 'json' }",
    "const title: string = schema.title\nif (title !== 'ToolCompleted') throw new Error(title)",
    program
  ].join('\n'))
  await writeFile(join(project, 'program.cts'), [
    "import Fastify = require('fastify')\nimport react = require('react')\nimport server = require('react-dom/server')\nconst { createElement } = react\nconst { renderToString } = server",
    ...codePaths.map((path, at) => `import path${at} = require('${specifierOf(path)}')\nconst { ${names(path)} } = path${at}`),
    "import schema = require('fastify-agent-events/schemas/ToolCompleted.json')",
    "const title: string = schema.title\nif (title !== 'ToolCompleted') throw new Error(title)",
    program
  ].join('\n'))
  t.equal(await typeCheck(project, { outDir: 'out' }), '')
  for (const file of ['program.mjs', 'program.cjs']) {
    const { stdout } = await run('node', [join('out', file)], { cwd: project, env: { PATH } })
    t.same(JSON.parse(stdout), said, file)
  }
})

t.test('a page that imports one thing does not get the rest', async (t) => {
  const project = await unpack('page', [...required, 'react'])
  /** What a page made of this line loads, now or later: files of the package, and their weight. */
  async function bundled (code: string): Promise<{ files: string[], bytes: number }> {
    const { metafile } = await build({
      stdin: { contents: code, resolveDir: project, loader: 'ts' },
      bundle: true,
      minify: true,
      splitting: true,
      format: 'esm',
      platform: 'browser',
      write: false,
      metafile: true,
      outdir: 'out',
      external: ['react'],
      logLevel: 'error'
    })
    const reached = new Set<string>()
    const reach = (path: string) => {
      if (metafile.outputs[path] === undefined || reached.has(path)) return
      reached.add(path)
      for (const next of metafile.outputs[path].imports) reach(next.path)
    }
    reach(Object.keys(metafile.outputs).find((path) => metafile.outputs[path]!.entryPoint === '<stdin>')!)
    const files = [...reached].flatMap((path) => Object.entries(metafile.outputs[path]!.inputs)).filter(([path, { bytesInOutput }]) => bytesInOutput > 0 && path !== '<stdin>')
    return {
      files: files.map(([path]) => path.split('fastify-agent-events/dist/').at(-1)!).sort(),
      bytes: [...reached].reduce((sum, path) => sum + metafile.outputs[path]!.bytes, 0)
    }
  }
  const show = (names: string) => `globalThis.shown = [${names}]`
  const whole = await bundled(`import * as all from 'fastify-agent-events/client'; ${show('all')}`)
  t.ok(whole.files.includes('client/client.js') && whole.files.includes('client/fallback.js'))
  t.comment(`all of the client: ${whole.bytes} bytes`)
  for (const path of ['client', 'client/state', 'client/react']) {
    const { files } = await bundled(`import * as all from 'fastify-agent-events/${path}'; ${show('all')}`)
    t.same(files.filter((file) => !/^(client\/|schemas\/close-codes\.js$)/.test(file)), [], `${path} needs nothing from elsewhere`)
  }
  const cases: [string, string[]][] = [
    ["import type { Client } from 'fastify-agent-events/client'", []],
    ["import 'fastify-agent-events/client'", []],
    [`import { AgentEventsError } from 'fastify-agent-events/client'; ${show('AgentEventsError')}`, ['client/client-error.js']],
    [`import { reduce } from 'fastify-agent-events/client/state'; ${show('reduce')}`, ['client/state/list.js', 'client/state/reduce.js']],
    [`import { isTerminal } from 'fastify-agent-events/schemas'; ${show('isTerminal')}`, ['schemas/close-codes.js']]
  ]
  for (const [code, files] of cases) {
    const one = await bundled(code)
    t.same(one.files, files, `${one.bytes} bytes: ${code}`)
  }
})

t.test('what is optional is a peer', async (t) => {
  for (const name of optional) t.ok(peerDependencies[name], name)
})
