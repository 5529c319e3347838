import t from 'tap'
import { TypeCompiler } from '@sinclair/typebox/compiler'
import { ClientFrame, clientFrames, ServerFrame, serverFrames } from '../../schemas/index.js'
import { checkClientFrame } from '../../schemas/validate.js'

const cursor = 'k3xw9q00abcd-0000000007'

const fromClient: { [Type in ClientFrame['type']]: { full: Record<string, unknown>, required: string[] } } = {
  subscribe: { full: { ref: '1', threadId: 't', cursor }, required: ['threadId'] },
  unsubscribe: { full: { ref: '1', threadId: 't' }, required: ['threadId'] },
  ack: { full: { threadId: 't', cursor }, required: ['threadId', 'cursor'] },
  send: { full: { ref: '1', threadId: 't', content: 'hi', agent: 'triage', input: { a: 1 }, clientMessageId: 'c' }, required: ['ref', 'threadId'] },
  cancel: { full: { ref: '1', runId: 'r' }, required: ['runId'] },
  refresh: { full: { ref: '1', token: 'secret' }, required: ['token'] },
  pong: { full: {}, required: [] }
}

const fromServer: { [Type in ServerFrame['type']]: { full: Record<string, unknown>, optional: string[] } } = {
  connected: { full: { connectionId: 'c', userId: 'u', inbox: 'i', heartbeatMs: 15_000, maxPayload: 65_536, mode: 'realtime' }, optional: [] },
  subscribed: { full: { ref: '1', threadId: 't', cursor, head: 0, recovered: true }, optional: ['ref'] },
  unsubscribed: { full: { ref: '1', threadId: 't', reason: 'deleted' }, optional: ['ref'] },
  accepted: { full: { ref: '1', threadId: 't', runId: 'r', cursor, ended: cursor }, optional: ['ended'] },
  error: { full: { ref: '1', code: 'FAE_ERR_X', message: 'x', threadId: 't' }, optional: ['ref', 'threadId'] },
  ping: { full: {}, optional: [] },
  status: { full: { mode: 'degraded', reason: 'redis' }, optional: [] },
  goaway: { full: { reconnectInMs: 0 }, optional: [] }
}

for (const [type, { full, required }] of Object.entries(fromClient)) {
  t.test(`client frame ${type}`, async (t) => {
    const frame: Record<string, unknown> = { type, ...full }
    t.equal(checkClientFrame(frame), undefined)
    t.equal(TypeCompiler.Compile(ClientFrame).Check(frame), true, 'is in the union')
    t.same(Object.keys(clientFrames[type as ClientFrame['type']].properties).sort(), Object.keys(frame).sort(), 'the example has every field')
    for (const field of Object.keys(full)) {
      const without = { ...frame }
      delete without[field]
      if (required.includes(field)) t.match(checkClientFrame(without), { path: field, message: /^required/ }, `without ${field}`)
      else t.equal(checkClientFrame(without), undefined, `without ${field}`)
      if (field !== 'input') {
        t.match(checkClientFrame({ ...frame, [field]: 5 }), { path: field, message: /found number 5$/ }, `${field} of a wrong type`)
        t.match(checkClientFrame({ ...frame, [field]: null }), { path: field, message: /found null$/ }, `${field} null`)
      }
      if (field !== 'input' && field !== 'content') t.match(checkClientFrame({ ...frame, [field]: '' }), { path: field, message: /at least 1/ }, `${field} empty`)
    }
    t.match(checkClientFrame({ ...frame, nope: 1 }), { path: 'nope', message: /^unknown field/ })
  })
}

t.test('send needs content or input, and takes both', async (t) => {
  const frame = { type: 'send', ref: '1', threadId: 't', clientMessageId: 'c' }
  t.same(checkClientFrame(frame), { path: 'content', message: 'required: expected content or input, found neither' })
  t.equal(checkClientFrame({ ...frame, content: 'hi' }), undefined)
  t.equal(checkClientFrame({ ...frame, input: null }), undefined)
  t.equal(checkClientFrame({ ...frame, content: [{ type: 'text', text: 'hi' }], input: 1 }), undefined)
  t.match(checkClientFrame({ ...frame, content: [{ type: 'text' }] }), { path: 'content.0.text' })
})

t.test('refs have 1 to 64 characters', async (t) => {
  t.equal(checkClientFrame({ type: 'cancel', runId: 'r', ref: 'x'.repeat(64) }), undefined)
  t.same(checkClientFrame({ type: 'cancel', runId: 'r', ref: 'x'.repeat(65) }), { path: 'ref', message: 'expected at most 64 characters, found 65' })
})

t.test('an unknown type names the known ones', async (t) => {
  for (const type of ['subscribed', 'toString', '__proto__', '', 5, null, undefined, {}]) {
    const problem = checkClientFrame({ type })
    t.equal(problem?.path, 'type')
    t.match(problem?.message, /^expected subscribe, unsubscribe, ack, send, cancel, refresh or pong, found /)
  }
})

t.test('what is not an object is no frame', async (t) => {
  for (const value of [undefined, null, 1, 'ping', true, []]) t.match(checkClientFrame(value), { path: '(root)', message: /^expected an object, found / })
})

t.test('a long text is not repeated in the message', async (t) => {
  const problem = checkClientFrame({ type: 'x'.repeat(10_000) })
  t.ok(problem!.message.length < 200)
})

for (const [type, { full, optional }] of Object.entries(fromServer)) {
  t.test(`server frame ${type}`, async (t) => {
    const check = TypeCompiler.Compile(serverFrames[type as ServerFrame['type']])
    const frame: Record<string, unknown> = { type, ...full }
    t.equal(check.Check(frame), true)
    t.equal(TypeCompiler.Compile(ServerFrame).Check(frame), true, 'is in the union')
    t.equal(check.Check({ ...frame, later: 1 }), true, 'a client takes what it does not know')
    t.same(Object.keys(check.Schema().properties).sort(), Object.keys(frame).sort(), 'the example has every field')
    for (const field of Object.keys(full)) {
      const without = { ...frame }
      delete without[field]
      t.equal(check.Check(without), optional.includes(field), `without ${field}`)
      t.equal(check.Check({ ...frame, [field]: [] }), false, `${field} of a wrong type`)
    }
  })
}
