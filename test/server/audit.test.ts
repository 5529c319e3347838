import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { audit, type AuditOptions } from '../../server/audit/audit.js'
import { render, type Report } from '../../server/audit/report.js'
import { rules } from '../../server/audit/rules.js'

const root = fileURLToPath(new URL('../../', import.meta.url))
const before = `${root}examples/legacy-app/before`

type Files = { [name: string]: string | Files }

const auditOf = (t: Test, files: Files, options?: AuditOptions): Promise<Report> => audit(t.testdir(files), options)
const brief = ({ findings }: Report): string[] => findings.map(({ rule, file, line }) => `${rule} ${file}:${line}`)
/** What is found in a file that holds this code. */
async function rulesOf (t: Test, source: string, name = 'app.ts'): Promise<string[]> {
  return (await auditOf(t, { [name]: source })).findings.map(({ rule }) => rule)
}

t.test('the legacy example: four registries and every planted fault', async (t) => {
  const report = await audit(before)
  t.same(report.registries.map(({ name, kind }) => [name, kind]), [['AgentRegistry', 'registry'], ['UniversalRegistry', 'registry'], ['ToolRegistry', 'registry'], ['agentInstanceFactory', 'factory']])
  const source = async (file: string): Promise<string[]> => (await readFile(`${before}/${file}`, 'utf8')).split('\n')
  const lines = { 'agents.ts': await source('agents.ts'), 'app.ts': await source('app.ts'), 'registries.ts': await source('registries.ts') }
  const planted: Array<[string, keyof typeof lines, string]> = [
    ['several-registries', 'registries.ts', 'class AgentRegistry'],
    ['unwired-registry', 'app.ts', 'new UniversalRegistry('],
    ['unwired-registry', 'app.ts', 'new ToolRegistry('],
    ['factory-bypass', 'registries.ts', 'new ReportAgent('],
    ['run-id-as-thread-id', 'agents.ts', 'sendMessage(runId'],
    ['run-id-parsing', 'app.ts', "split('_run_')"],
    ['unknown-manager-method', 'agents.ts', 'send_message('],
    ['fire-and-forget', 'agents.ts', '    this.#ws?.sendMessage('],
    ['fire-and-forget', 'agents.ts', 'send_message('],
    ['missing-terminal-event', 'agents.ts', "threadId, { type: 'agent_started'"],
    ['missing-terminal-event', 'agents.ts', "type: 'tool_executing'"],
    ['direct-send', 'app.ts', 'socket.send('],
    ['direct-send', 'app.ts', "'report_ready'"]
  ]
  for (const [rule, file, text] of planted) {
    const line = lines[file].findIndex((one) => one.includes(text)) + 1
    t.ok(line > 0, text)
    t.ok(report.findings.some((found) => found.rule === rule && found.file === file && found.line === line), `${rule} at ${file}:${line}`)
  }
  t.same([...new Set(report.findings.map(({ rule }) => rule))].sort(), Object.keys(rules).sort(), 'each rule is shown')
  t.equal(report.findings.find(({ rule, line }) => rule === 'unwired-registry' && lines['app.ts'][line - 1]!.includes('new AgentRegistry')), undefined, 'the wired one is not blamed')
  t.match(report.registries[0], { instances: [{ file: 'app.ts' }], registrations: [{ file: 'app.ts' }], creations: [{ file: 'app.ts' }], managerSets: [{ file: 'app.ts' }] })
  t.match(report.registries[1]!.managerSets, [])
  t.match(report.summary, { files: 4, registries: 4, unreadable: 0, usesMaster: false, otherManagerSets: [{ file: 'registries.ts' }] })
})

t.test("nothing on this project's own source", async (t) => {
  const report = await audit(root, { exclude: ['examples/legacy-app'] })
  t.same([report.findings, report.registries, report.unreadable], [[], [], []])
  t.ok(report.summary.files > 100, 'it has looked')
  t.equal(report.summary.usesMaster, true)
})

t.test('after the last phase of the example nothing is left to find', async (t) => {
  const phase4 = await audit(`${root}examples/legacy-app`, { exclude: ['before', 'phase-1', 'phase-2'] })
  t.same([phase4.registries, phase4.findings], [[], []])
})

t.test('docs/registry-audit.md is the audit of the example', async (t) => {
  t.equal(await readFile(`${root}docs/registry-audit.md`, 'utf8'), render(await audit(before), 'markdown'))
})

t.test('JavaScript, JSX, CommonJS, decorators, types in .js files', async (t) => {
  const report = await auditOf(t, {
    'registry.cjs': `class ToolRegistry { constructor () { this.tools = {} } registerTool (t) { this.tools[t.name] = t } setWebSocketManager (m) {} }
      module.exports = { ToolRegistry }`,
    'main.js': `const { ToolRegistry } = require('./registry.cjs')
      const registry = new ToolRegistry()
      registry.registerTool({ name: 'a' })`,
    'view.jsx': 'export const View = () => <div onClick={() => socket.send(JSON.stringify({ type: "tool_executing" }))}>x</div>',
    'service.ts': `@Injectable()
      export class Service {
        constructor (@Inject() private readonly wsManager: WebSocketManager) {}
        @Post() async run () { await this.wsManager.sendMessage('t', { type: 'agent_thinking' }) }
      }`,
    'flowing.js': 'const x: number = 1\nexport type T = { a?: string }',
    'angled.ts': 'const x = <any>y',
    'generic.tsx': 'export const f = <T,>(a: T) => <b>{String(a)}</b>'
  })
  t.same(report.unreadable, [])
  t.match(report.registries, [{ name: 'ToolRegistry', file: 'registry.cjs', line: 1, instances: [{ file: 'main.js', line: 2 }], registrations: [{ file: 'main.js', line: 3 }] }])
  t.same(brief(report), ['unwired-registry main.js:2', 'direct-send service.ts:4', 'direct-send view.jsx:1', 'missing-terminal-event view.jsx:1'])
})

t.test('Python', async (t) => {
  const report = await auditOf(t, {
    app: {
      '__init__.py': '',
      'registries.py': `
class AgentRegistry:
    """Agents. self.fake = {} is only text."""
    def __init__(self):
        self._agents: Dict[str, Any] = {}
    def set_websocket_manager(self, manager):
        self.manager = manager
    def register_agent(self, name, agent):
        self._agents[name] = agent

class UniversalRegistry(AgentRegistry):
    pass

class AgentInstanceFactory:
    def create(self):
        return ReportAgent()
`,
      'agents.py': `
class ReportAgent(BaseAgent):
    async def execute(self, state, run_id, thread_id):
        await self.websocket_manager.send_message(thread_id, {"type": "agent_started", "run_id": run_id})
        self.websocket_manager.send_message(run_id, {"type": "agent_thinking"})
        asyncio.create_task(self.websocket_manager.send_message(thread_id, {"type": "agent_thinking"}))
        try:
            await self.websocket_manager.send_update(thread_id, {"type": "x"})
        except Exception:
            pass
        thread = run_id.split("_run_")[0]
        await self.websocket_manager.send_message(thread_id=run_id, message={"type": "report"})
        # self.websocket_manager.send_message(run_id, {"type": "agent_thinking"})
        await self.websocket_manager.send_message(
            thread_id,
            {"type": "agent_completed"},
        )
`,
      'manager.py': 'class WebSocketManager:\n    async def send_message(self, thread_id, message):\n        await self.connections[thread_id].send_json(message)\n',
      'main.py': `
from .registries import AgentRegistry, UniversalRegistry
from app.agents import ReportAgent
agent_registry = AgentRegistry()
agent_registry.register_agent("report", ReportAgent())
agent_registry.set_websocket_manager(manager)
universal_registry = UniversalRegistry()
universal_registry.register_agent("report", agent)
`
    }
  })
  t.same(report.unreadable, [])
  t.same(report.registries.map(({ name }) => name), ['AgentRegistry', 'UniversalRegistry', 'AgentInstanceFactory'])
  t.match(report.registries[0], { instances: [{ file: 'app/main.py', line: 4 }], registrations: [{ line: 5 }], managerSets: [{ line: 6 }] })
  t.same(brief(report), [
    'direct-send app/agents.py:4', 'missing-terminal-event app/agents.py:4',
    'direct-send app/agents.py:5', 'fire-and-forget app/agents.py:5', 'run-id-as-thread-id app/agents.py:5',
    'direct-send app/agents.py:6', 'fire-and-forget app/agents.py:6',
    'direct-send app/agents.py:8', 'fire-and-forget app/agents.py:8', 'unknown-manager-method app/agents.py:8',
    'run-id-parsing app/agents.py:11',
    'direct-send app/agents.py:12', 'run-id-as-thread-id app/agents.py:12',
    'direct-send app/agents.py:14',
    'unwired-registry app/main.py:7',
    'several-registries app/registries.py:2', 'factory-bypass app/registries.py:16'
  ])
})

t.test('what becomes of a send', async (t) => {
  const send = "wsManager.sendMessage('t', message)"
  t.same(await rulesOf(t, `${send}`), ['fire-and-forget'])
  t.same(await rulesOf(t, `void ${send}`), ['fire-and-forget'])
  t.same(await rulesOf(t, `${send}.catch(() => {})`), ['fire-and-forget'])
  t.same(await rulesOf(t, `async function f () { try { await ${send} } catch {} }`), ['fire-and-forget'])
  t.same(await rulesOf(t, `async function f () { try { await ${send} } catch (error) { log(error) } }`), [])
  t.same(await rulesOf(t, `await ${send}`), [])
  t.same(await rulesOf(t, `export const f = () => ${send}`), [])
  t.same(await rulesOf(t, `const sent = ${send}`), [])
  t.same(await rulesOf(t, `await Promise.all([${send}])`), [])
  t.same(await rulesOf(t, `${send}.catch((error) => { log(error) })`), [])
  t.same(await rulesOf(t, "const message = { type: 'agent_thinking' }; await wsManager.sendMessage('t', message)"), ['direct-send'], 'through a variable')
  t.same(await rulesOf(t, "import 'fastify-agent-events'; import a from 'fastify-agent-events'; await app.notifier.sendToThread('t', { type: 'custom' })"), [], 'the advice itself')
})

t.test('ids of runs', async (t) => {
  t.same(await rulesOf(t, "const id = runId.split('_run_')[0]"), ['run-id-parsing'])
  t.same(await rulesOf(t, "const id = context.run_id.replace(/_run_.*/, '')"), ['run-id-parsing'])
  t.same(await rulesOf(t, "const id = text.split('_run_')[0]"), ['run-id-parsing'])
  t.same(await rulesOf(t, 'const [, id] = /(.*)_run_/.exec(runId)'), ['run-id-parsing'])
  t.same(await rulesOf(t, 'const thread = await threads.find(runId.slice(0, at))'), [], 'a guess that is looked up')
  t.same(await rulesOf(t, 'agents.create({ threadId: context.runId })'), ['run-id-as-thread-id'])
  t.same(await rulesOf(t, 'agents.create({ threadId, runId })'), [])
  t.same(await rulesOf(t, "const parts = line.split(',')"), [])
})

t.test('ends of runs and tool calls', async (t) => {
  const start = "await wsManager.notify({ type: 'agent_started' })"
  const end = "await wsManager.notify({ type: 'agent_completed' })"
  const of = async (body: string) => (await rulesOf(t, `async function f () { ${body} }`)).filter((rule) => rule === 'missing-terminal-event')
  t.equal((await of(start)).length, 1)
  t.equal((await of(`${start}; await work(); ${end}`)).length, 1)
  t.equal((await of(`${start}; try { await work() } finally { ${end} }`)).length, 0)
  t.equal((await of(`${start}; try { await work(); ${end} } catch (error) { ${end}; throw error }`)).length, 0)
  t.equal((await of(`${start}; await work() }; async function g () { ${end}`)).length, 0, 'somewhere else: who knows')
})

t.test('which class a name means', async (t) => {
  const registry = 'export class AgentRegistry { agents = new Map(); setWebSocketManager () {} registerAgent () {} }'
  const report = await auditOf(t, {
    a: { 'registry.ts': registry, 'index.ts': "export * from './registry.js'\nexport { agents as mine } from './made.js'", 'made.ts': "import { AgentRegistry } from './registry.js'\nexport const agents = new AgentRegistry()" },
    b: { 'registry.ts': registry, 'use.ts': "import { AgentRegistry } from './registry.js'\nexport class Owner { readonly #registry: AgentRegistry; wire () { this.#registry.setWebSocketManager(m) } }" },
    'main.ts': "import { AgentRegistry } from './a/index.js'\nconst one = new AgentRegistry()\none.registerAgent('x', y)",
    'ours.ts': "import { AgentRegistry } from 'fastify-agent-events/compat'\nconst facade = new AgentRegistry(app)\nfacade.registerAgent('x', y)",
    'facade.ts': 'export class ToolRegistry { constructor (private readonly master: Master) {} registerTools (tools) { this.master.register(tools) } }',
    'heir.ts': "import { AgentRegistry } from './b/registry.js'\nexport class SpecialAgentRegistry extends AgentRegistry {}\nclass Skills { list = []; registerAgentTool () {} registerAgent () {} }"
  })
  const found = Object.fromEntries(report.registries.map((one) => [`${one.file} ${one.name}`, [one.instances, one.registrations, one.managerSets].map((places) => places.map(({ file }) => file))]))
  t.same(found, {
    'a/registry.ts AgentRegistry': [['a/made.ts', 'main.ts'], ['main.ts'], []],
    'b/registry.ts AgentRegistry': [[], [], ['b/use.ts']],
    'heir.ts SpecialAgentRegistry': [[], [], []],
    'heir.ts Skills': [[], [], []]
  }, "facades are none, neither ours nor the host's own")
})

t.test('agents that are made past a registry', async (t) => {
  const declared = 'class TaskAgent { execute () {} }\nclass R { items = []; registerAgent () {} }\nconst registry = new R()\n'
  const of = async (code: string) => (await rulesOf(t, declared + code)).filter((rule) => rule === 'factory-bypass').length
  t.equal(await of('export const f = () => new TaskAgent()'), 1)
  t.equal(await of("registry.registerAgent('a', new TaskAgent())"), 0)
  t.equal(await of("registry.registerAgent('a', () => new TaskAgent())"), 0)
  t.equal(await of("const agent = new TaskAgent()\nregistry.registerAgent('a', agent)"), 0)
  t.equal(await of('const agent = new http.Agent()'), 0)
  t.equal(await of('const agent = new ProxyAgent()'), 0, 'not of this folder')
})

t.test('what cannot be read or parsed is listed and nothing stops', async (t) => {
  const report = await auditOf(t, {
    'broken.ts': 'export class {{{',
    'binary.js': '\u0000\u0001\u0002',
    'large.js': `// ${'x'.repeat(2 * 1024 * 1024)}`,
    'deep.js': `x = ${'['.repeat(50_000)}${']'.repeat(50_000)} // agent`,
    'chain.js': `x = ${'agent => '.repeat(50_000)}1`,
    'nested.js': `x = ${'['.repeat(500)}${']'.repeat(500)} // agent`,
    'fine.ts': "const id = runId.split('_')",
    'notes.md': 'class {{{',
    node_modules: { 'x.js': '{{{' },
    '.hidden': { 'x.js': '{{{' }
  })
  t.same(brief(report), ['run-id-parsing fine.ts:1'])
  t.same(report.unreadable.map(({ file }) => file).sort(), ['binary.js', 'broken.ts', 'chain.js', 'deep.js', 'large.js'])
  t.match(report.unreadable.find(({ file }) => file === 'broken.ts')!.reason, /\(line 1\)/)
  t.equal(report.summary.unreadable, 5)
  const gone = await audit(`${t.testdirName}/not-there`)
  t.match(gone.unreadable, [{ file: '.', reason: 'ENOENT' }])
})

t.test('tests are left out unless asked for; paths can be excluded', async (t) => {
  const fault = "const id = runId.split('_')"
  const files = { test: { 'a.js': fault }, src: { 'b.test.ts': fault, 'c.spec.js': fault, 'd.ts': fault, old: { 'e.ts': fault } }, 'test_f.py': 'x = run_id.split("_")', tests: { 'g.py': 'x = run_id.split("_")' } }
  t.equal((await auditOf(t, files)).findings.length, 2)
  t.equal((await auditOf(t, files, { tests: true })).findings.length, 7)
  t.same(brief(await auditOf(t, files, { exclude: ['./src/old/'] })), ['run-id-parsing src/d.ts:1'])
})

t.test('progress counts every file', async (t) => {
  const seen: number[][] = []
  await auditOf(t, { 'a.ts': '', 'b.ts': '', 'c.py': '' }, { onProgress: (done, total) => { seen.push([done, total]) } })
  t.same(seen, [[1, 3], [2, 3], [3, 3]])
})

t.test('Mermaid reads the graph: of the example, of nothing, of hostile names', async (t) => {
  const { JSDOM } = createRequire(import.meta.url)('jsdom')
  const { window } = new JSDOM('')
  Object.assign(globalThis, { window, document: window.document })
  t.teardown(() => { window.close() })
  const { default: mermaid } = await import('mermaid')
  const reports = [
    await audit(before),
    await auditOf(t, {}),
    await auditOf(t, {
      'we"ird [na|me].ts': "class AgentRegistry { a = {} }\nconst r = new AgentRegistry()\nr.registerAgent('x')\nsocket.send({ type: 'agent_thinking' })",
      'end.ts': 'export class ÄgentToolRegistry { a = {} }\nexport const graphFactory = { create () { return new XAgent() } }\nclass XAgent { run () {} }'
    })
  ]
  for (const report of reports) {
    const graph = render(report, 'mermaid')
    t.match(await mermaid.parse(graph), { diagramType: 'flowchart-v2' }, graph)
  }
  t.equal(await mermaid.parse('flowchart LR\n a[x (y)] --> b', { suppressErrors: true }), false, 'what does not render is noticed')
  const graph = render(reports[0]!, 'mermaid')
  for (const { name } of reports[0]!.registries) t.ok(graph.includes(`"${name}"`), name)
  t.match(graph, /r1 -->\|"wired"\| socket/)
  t.match(graph, /r2 -\.->\|"not wired"\| nowhere/)
  t.match(graph, /sends past the registry/)
})

t.test('the other formats', async (t) => {
  const report = await audit(before)
  t.same(JSON.parse(render(report, 'json')), JSON.parse(JSON.stringify(report)))
  t.same(Object.keys(JSON.parse(render(report, 'json'))), ['summary', 'registries', 'findings', 'unreadable'])
  for (const found of report.findings) t.same(Object.keys(found), ['rule', 'severity', 'file', 'line', 'message', 'advice'])
  const table = render(report, 'table')
  t.match(table, /^4 files: 4 registries; findings: \d+ high, \d+ medium, 0 low; 0 not read\.\n/)
  t.match(table, /UniversalRegistry +registries\.ts:\d+ +1 +1 +1 +0\n/)
  t.match(table, /high +run-id-parsing +app\.ts:\d+\n {4}.*taken apart.*\n {4}-> Look it up/)
  const broken = await auditOf(t, { 'broken.ts': 'export class {{{', 'a.ts': 'agents.create({ thread_id: run_id }); // a | b' })
  t.match(render(broken, 'table'), /NOT READ +WHY\nbroken\.ts +\S/)
  t.match(render(broken, 'markdown'), /## Not read\n\n\| File \| Why \|\n\| --- \| --- \|\n\| broken\.ts \|/)
})
