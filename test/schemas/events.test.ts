import t from 'tap'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { AgentEvent, eventData, eventTypes, type EventType } from '../../schemas/index.js'
import { checkEventData } from '../../schemas/validate.js'
import { full, required } from './examples.js'

const anything = new Set(['input', 'args', 'output', 'result', 'value'])

t.test('eventTypes are the eight of the design', async (t) => {
  t.same(eventTypes, ['user_message', 'agent_started', 'agent_thinking', 'tool_executing', 'tool_completed', 'assistant_message', 'agent_completed', 'custom'])
})

for (const type of eventTypes) {
  t.test(type, async (t) => {
    const example: Record<string, unknown> = full[type]

    t.equal(checkEventData(type, example), undefined, 'the full example fits')
    t.same(Object.keys(eventData[type].properties).sort(), Object.keys(example).sort(), 'the example has every field')
    t.equal(checkEventData(type, Object.fromEntries(required[type].map((field) => [field, example[field]]))), undefined, 'the required fields are enough')

    for (const field of Object.keys(example)) {
      const without = { ...example }
      delete without[field]
      const problem = checkEventData(type, without)
      if (required[type].includes(field)) {
        t.match(problem, { path: field, message: /^required: expected .+, found nothing$/ }, `without ${field}`)
      } else {
        t.equal(problem, undefined, `without ${field}`)
      }
      if (anything.has(field)) {
        for (const value of [null, 0, 'text', [], {}]) t.equal(checkEventData(type, { ...example, [field]: value }), undefined, `${field} may be ${JSON.stringify(value)}`)
      } else {
        t.match(checkEventData(type, { ...example, [field]: null }), { path: field, message: /^expected .+, found null$/ }, `${field} null`)
        t.match(checkEventData(type, { ...example, [field]: true }), { path: field, message: /^expected .+, found boolean true$/ }, `${field} of a wrong type`)
      }
    }

    const additional = checkEventData(type, { ...example, nope: 1 })
    t.match(additional, { path: 'nope', message: /^unknown field; known: / })
    t.ok(additional?.message.includes(required[type][0]!), 'names the known fields')

    for (const value of [undefined, null, 1, 'text', []]) t.match(checkEventData(type, value), { path: '(root)', message: /^expected an object, found / }, `data ${JSON.stringify(value)}`)
  })
}

t.test('values out of range are refused and named', async (t) => {
  const cases: Array<[EventType, Record<string, unknown>, string, RegExp]> = [
    ['agent_started', { trigger: 'cron' }, 'trigger', /^expected "user_message", "api", "agent" or "retry", found "cron"$/],
    ['agent_started', { attempt: 0 }, 'attempt', /found number 0/],
    ['agent_started', { attempt: 1.5 }, 'attempt', /expected an integer, found number 1.5/],
    ['agent_started', { agent: '' }, 'agent', /expected at least 1 characters, found 0/],
    ['agent_thinking', { kind: 'other' }, 'kind', /"reasoning" or "status"/],
    ['agent_thinking', { phase: 'running' }, 'phase', /"start", "delta", "end" or "full"/],
    ['agent_thinking', { step: { name: 'x' } }, 'step.index', /required/],
    ['agent_thinking', { step: { name: 'x', index: 1, of: 3 } }, 'step.of', /unknown field/],
    ['tool_executing', { phase: 'full' }, 'phase', /"input_delta", "start", "running" or "progress"/],
    ['tool_executing', { progress: 1.1 }, 'progress', /found number 1.1/],
    ['tool_executing', { timeoutMs: 0 }, 'timeoutMs', /found number 0/],
    ['tool_completed', { status: 'success' }, 'status', /"ok", "error", "denied", "cancelled" or "timeout", found "success"/],
    ['tool_completed', { error: { message: 'x' } }, 'error.code', /required/],
    ['tool_completed', { error: { code: 'x', message: 'x', stack: 'x' } }, 'error.stack', /unknown field/],
    ['tool_completed', { durationMs: -1 }, 'durationMs', /found number -1/],
    ['tool_completed', { durationMs: Number.NaN }, 'durationMs', /found number NaN/],
    ['tool_completed', { truncated: { bytes: 1.5 } }, 'truncated.bytes', /integer/],
    ['agent_completed', { status: 'ok' }, 'status', /"success", "error", "cancelled", "timeout" or "lost", found "ok"/],
    ['agent_completed', { usage: [{ model: 'm', inputTokens: -1 }] }, 'usage.0.inputTokens', /found number -1/],
    ['agent_completed', { usage: [{ inputTokens: 1 }] }, 'usage.0.model', /required/],
    ['agent_completed', { counts: { events: 1 } }, 'counts.tools', /required/],
    ['agent_completed', { firstSeq: 0 }, 'firstSeq', /found number 0/],
    ['user_message', { content: [] }, 'content', /expected a string or an array, found an array of 0/],
    ['user_message', { content: [{ type: 'image', url: 'x' }] }, 'content.0.type', /^expected "text" or "file", found "image"$/],
    ['user_message', { content: [{ type: 'text', text: 'x' }, { type: 'file', url: 'x' }] }, 'content.1.mediaType', /required/],
    ['user_message', { content: [{ type: 'text', text: 'x', bold: true }] }, 'content.0.bold', /unknown field; known: type, text/],
    ['user_message', { content: ['x'] }, 'content.0', /expected an object, found "x"/],
    ['custom', { metadata: [] }, 'metadata', /expected an object, found an array of 0/]
  ]
  for (const [type, change, path, message] of cases) t.match(checkEventData(type, { ...full[type], ...change }), { path, message }, `${type} ${JSON.stringify(change)}`)
})

t.test('content may be an empty or plain text', async (t) => {
  for (const content of ['', 'hello']) t.equal(checkEventData('user_message', { messageId: 'm', content }), undefined)
})

t.test('an unknown type names the known ones, names of Object.prototype included', async (t) => {
  for (const type of ['agent_exploded', 'constructor', '__proto__']) {
    t.match(checkEventData(type as EventType, {}), { path: 'type', message: new RegExp(`^expected user_message, .+ or custom, found "${type}"$`) })
  }
})

t.test('whole events, told apart by type', async (t) => {
  const check = TypeCompiler.Compile(AgentEvent)
  for (const type of eventTypes) {
    const event = { v: 1, id: 'k3xw9q00abcd-0000000007', seq: 7, type, threadId: 't', runId: 'r', agentId: 'u:a:1', parentRunId: 'p', timestamp: new Date(0).toISOString(), data: full[type] }
    t.equal(check.Check(event), true, type)
    t.equal(check.Check({ ...event, later: 'field' }), true, 'a reader takes what it does not know')
    t.equal(check.Check({ ...event, v: 2 }), false, 'v')
    t.equal(check.Check({ ...event, seq: 0 }), false, 'seq')
    t.equal(check.Check({ ...event, id: '7' }), false, 'id')
    t.equal(check.Check({ ...event, timestamp: 'today' }), false, 'timestamp')
    t.equal(check.Check({ ...event, data: {} }), false, 'data')
    t.equal(check.Check({ ...event, type: 'agent_exploded' }), false, 'type')
    const { threadId, ...withoutThread } = event
    t.equal(check.Check(withoutThread), false, `without threadId ${threadId}`)
    const { runId, agentId, parentRunId, ...hostEvent } = event
    t.equal(check.Check(hostEvent), true, `without ${runId}, ${agentId} and ${parentRunId}`)
  }
})
