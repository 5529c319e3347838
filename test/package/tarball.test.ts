import t from 'tap'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'

/*
 * What npm would publish, used by somebody else: the tarball of the built package, unpacked into an otherwise empty folder.
 * What it depends on is linked from here instead of downloaded, and only what it names: a package that is used but not
 * named is missing there.
 */

const run = promisify(execFile)
const bin = (name: string) => resolve('node_modules/.bin', name)
const { exports: subPaths, dependencies, peerDependencies, peerDependenciesMeta } = JSON.parse(await readFile('package.json', 'utf8'))
const required = [...Object.keys(dependencies), 'fastify', '@types/node']
const optional = Object.keys(peerDependenciesMeta)
/** What code can import: not the wildcard and not package.json. */
const codePaths: string[] = Object.keys(subPaths).filter((path) => typeof subPaths[path] === 'object')
const specifierOf = (path: string) => `fastify-agent-events${path.slice(1)}`
/** Sub-paths that need an optional peer to be loaded. */
const needs: Record<string, string> = { './client/react': 'react' }

const folder = await mkdtemp(join(tmpdir(), 'fae-tarball-'))
t.teardown(() => rm(folder, { recursive: true, force: true }))
await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder])
const tarball = join(folder, (await readdir(folder)).find((name) => name.endsWith('.tgz'))!)

/** A project that has installed the tarball, and these packages beside it. */
async function install (name: string, packages: readonly string[]): Promise<string> {
  const project = join(folder, name)
  const installed = join(project, 'node_modules/fastify-agent-events')
  await mkdir(installed, { recursive: true })
  await run('tar', ['-xzf', tarball, '--strip-components=1', '-C', installed])
  for (const dependency of packages) {
    const link = join(project, 'node_modules', dependency)
    await mkdir(dirname(link), { recursive: true })
    await symlink(resolve('node_modules', dependency), link)
  }
  await writeFile(join(project, 'package.json'), '{ "private": true }')
  return project
}

t.test('publint has nothing to say', async (t) => {
  const { stdout } = await run(bin('publint'), ['--strict', tarball])
  t.match(stdout, 'All good!')
})

t.test('are the types wrong? No', async (t) => {
  // it exits with 1 if something is wrong for who imports; that require() takes ESM it does not know yet
  const { stdout } = await run(bin('attw'), ['--profile', 'esm-only', '--no-emoji', '--no-color', tarball])
  for (const path of codePaths) t.match(stdout, `"${specifierOf(path)}"`)
})

t.test('every file of the code has a map with its source', async (t) => {
  const project = await install('maps', [])
  const dist = join(project, 'node_modules/fastify-agent-events/dist')
  const files = (await readdir(dist, { recursive: true })).filter((name) => name.endsWith('.js'))
  t.ok(files.length > 50)
  for (const file of files) {
    const map = JSON.parse(await readFile(join(dist, `${file}.map`), 'utf8'))
    if (map.sourcesContent?.length !== 1 || map.sourcesContent[0].length === 0) t.fail(file)
  }
  t.notOk((await readdir(join(project, 'node_modules/fastify-agent-events'))).some((name) => ['test', 'server', 'bench', 'scripts'].includes(name)))
})

t.test('JavaScript', async (t) => {
  const bare = await install('bare', required)
  const project = await install('javascript', [...required, ...optional])

  t.test('every sub-path can be imported and required, without optional peers where they are not needed', async (t) => {
    for (const path of codePaths) {
      const home = needs[path] === undefined ? bare : project
      const script = `const assert = require('node:assert')
        const required = require('${specifierOf(path)}')
        import('${specifierOf(path)}').then((imported) => {
          const names = Object.keys(imported).filter((name) => name !== 'module.exports')
          assert(names.length > 0)
          for (const name of names) assert.strictEqual(imported[name], required[name], name)
          console.log(names.join())
        })`
      const { stdout, stderr } = await run('node', ['--input-type=commonjs', '--eval', script], { cwd: home })
      t.match(stdout, /\w+/, `${path}: ${stdout.trim().slice(0, 100)}`)
      t.notMatch(stderr.replace(/.*ExperimentalWarning.*\n.*--trace-warnings.*\n/, ''), /\S/, `${path} warns of nothing`)
    }
  })

  t.test('a schema is a JSON file', async (t) => {
    const script = "import schema from 'fastify-agent-events/schemas/ToolCompleted.json' with { type: 'json' }; console.log(schema.title)"
    const { stdout } = await run('node', ['--input-type=module', '--eval', script], { cwd: bare })
    t.equal(stdout.trim(), 'ToolCompleted')
  })

  t.test('an agent runs', async (t) => {
    await writeFile(join(bare, 'app.cjs'), `
      const fastify = require('fastify')
      const { agentEvents, defineAgent } = require('fastify-agent-events')
      const { initialState, reduce } = require('fastify-agent-events/client/state')
      const hello = defineAgent({ name: 'hello', description: 'Says hello', async run ({ message }, ctx) { await ctx.say(message); return message.length } })
      async function main () {
        const app = fastify()
        await app.register(agentEvents, { agents: [hello], authenticate: async () => ({ userId: 'u' }) })
        await app.ready()
        const { threadId } = await app.threads.register({ userId: 'u' })
        const result = await app.agents.run(hello, { userId: 'u', threadId, input: { message: 'ping' } })
        const state = (await app.notifier.history(threadId)).reduce(reduce, initialState())
        await app.close()
        console.log(JSON.stringify([result, state.messages[0].parts[0].text, state.runs[0].status]))
      }
      main()
    `)
    const { stdout } = await run('node', ['app.cjs'], { cwd: bare })
    t.same(JSON.parse(stdout), [4, 'ping', 'success'])
  })
})

t.test('TypeScript', async (t) => {
  const project = await install('typescript', [...required, ...optional, '@types/react'])
  const imports = codePaths.map((path, at) => `import * as path${at} from '${specifierOf(path)}'\nvoid path${at}`).join('\n')
  await writeFile(join(project, 'paths.mts'), imports)
  await writeFile(join(project, 'paths.cts'), codePaths.map((path, at) => `import path${at} = require('${specifierOf(path)}')\nvoid path${at}`).join('\n'))
  await writeFile(join(project, 'server.mts'), `
    import Fastify from 'fastify'
    import agentEvents, { Type, defineAgent, defineTool } from 'fastify-agent-events'
    const search = defineTool({ name: 'search', description: 's', inputSchema: Type.Object({ query: Type.String() }), execute: async ({ query }) => ({ answer: query, at: new Date() }) })
    export const triage = defineAgent({ name: 'triage', description: 't', tools: [search], async run ({ message }, ctx) { return (await ctx.tools.search({ query: message })).answer } })
    export const agents = [triage]
    const app = Fastify()
    await app.register(agentEvents, { agents, authenticate: async () => ({ userId: 'u' }) })
    const answer: string = await app.agents.run(triage, { userId: 'u', input: { message: 'x' } })
    void answer
  `)
  await writeFile(join(project, 'page.mts'), `
    import { createClient } from 'fastify-agent-events/client'
    import { useThread } from 'fastify-agent-events/client/react'
    import schema from 'fastify-agent-events/schemas/AgentEvent.json' with { type: 'json' }
    import type { agents } from './server.mjs'
    const client = createClient<typeof agents>({ url: '/agent-events' })
    client.thread('t').on('tool_completed', ({ data }) => { if (data.status === 'ok') { const at: string = data.output.at; void at } })
    for (const { parts } of useThread(client, 't').messages) {
      for (const part of parts) if (part.type === 'tool' && part.state === 'ok') { const answer: string = part.output.answer; void answer }
    }
    // @ts-expect-error no such agent
    await client.thread('t').send('hi', { agent: 'triag' })
    const title: string = schema.title
    void title
  `)
  const compilerOptions = { module: 'nodenext', target: 'es2023', lib: ['es2023'], types: ['node'], strict: true, exactOptionalPropertyTypes: true, resolveJsonModule: true, noEmit: true, skipLibCheck: false }
  await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.mts', '*.cts'] }))
  const { stdout } = await run(bin('tsc'), ['-p', project]).catch((error: { stdout: string }) => error)
  t.equal(stdout, '')
})

t.test('what is optional is a peer', async (t) => {
  for (const name of optional) t.ok(peerDependencies[name], name)
})
