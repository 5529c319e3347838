import t from 'tap'
import { AgentRegistry, ToolRegistry, UniversalRegistry, WebSocketManager, agentInstanceFactory } from '../../../plugins/compat/index.js'
import { startLegacy } from './helpers.js'

t.test('each facade warns once, with its own code and what to call instead', async (t) => {
  const warnings: Array<Error & { code?: string }> = []
  const onWarning = (warning: Error): void => { warnings.push(warning) }
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  const { app } = await startLegacy(t)
  for (let i = 0; i < 2; i++) {
    const agents = new AgentRegistry(app)
    agents.setWebSocketManager(app.notifier)
    agents.registerAgent(`a${i}`, { async execute (_input: unknown, { websocketManager }: { websocketManager: WebSocketManager }) { await websocketManager.sendMessage({ type: 'agent_completed' }) } })
    await agents.getAgent(`a${i}`)!.execute({}, { userId: 'u' })
    const universal = new UniversalRegistry(app)
    universal.registerAgent(`b${i}`, { execute () {} })
    universal.getAgent('b0')
    const tools = new ToolRegistry(app)
    tools.registerTools([{ name: `t${i}`, execute () {} }])
    tools.getTool('t0')
    await agentInstanceFactory(app).create('a0', { userId: 'u' })
  }
  await new Promise((resolve) => { setImmediate(resolve) })
  const instead: Record<string, RegExp> = {
    FAE_DEP002: /Leave the call out/,
    FAE_DEP003: /app\.agents\.register\(defineAgent/,
    FAE_DEP004: /app\.agents\.createForUser/,
    FAE_DEP005: /app\.agents\.register\(defineAgent/,
    FAE_DEP006: /app\.agents\.createForUser/,
    FAE_DEP007: /app\.tools\.register\(defineTool/,
    FAE_DEP008: /ctx\.tools/,
    FAE_DEP009: /app\.agents\.createForUser/,
    FAE_DEP010: /app\.notifier\.sendToThread/,
    FAE_DEP011: /defineAgent/,
    FAE_WRN001: /Remove the call/
  }
  t.same(warnings.map(({ code }) => code).sort(), Object.keys(instead), 'once each')
  for (const { code, message } of warnings) t.match(message, instead[code!])
})
