import type { TSchema } from '@sinclair/typebox'
import { AgentEvent, closeCodes } from '../schemas/index.js'
import { Type } from '@sinclair/typebox'

/* What the generated documents say of each door beside its schemas. */

interface Answer { readonly what: string, readonly type?: string, readonly schema?: TSchema, readonly headers?: Readonly<Record<string, string>> }

interface Description {
  readonly summary: string
  readonly description?: string
  /** Asks for no user. */
  readonly open?: true
  readonly answers?: Readonly<Record<string, Answer>>
}

export const about = {
  http: 'Threads, the runs in them, and their events. Errors have one form everywhere. A thread of somebody else is answered like one that does not exist.',
  socket: `Many threads on one socket. An event is told apart from a frame by its type.\n\nClose codes: ${Object.values(closeCodes).map(({ code, meaning, terminal }) => `${code} ${meaning}${terminal ? ' (do not reconnect)' : ''}`).join('; ')}.`
}

const positions = {
  'Stream-Next-Offset': 'Where to go on',
  'Stream-Cursor': 'To be sent with the next poll, for caches',
  'Stream-Up-To-Date': 'true when nothing more is stored'
}

const debug = { open: true, answers: { 200: { what: 'For people and tools: its form may change', type: 'application/json', schema: Type.Object({}) } } } as const

const doors: Readonly<Record<string, Description>> = {
  'POST /threads': { summary: 'Register a thread', description: '201 for a new one, 200 if it was yours already.' },
  'GET /threads': { summary: 'Your threads, by id' },
  'GET /threads/:threadId': { summary: 'One thread' },
  'DELETE /threads/:threadId': { summary: 'Delete a thread', description: 'Ends its live runs first.', answers: { 204: { what: 'It is gone' } } },
  'POST /threads/:threadId/messages': { summary: 'Say something; an agent answers', description: 'Answers at once; what the agent does is shown in the thread.' },
  'GET /threads/:threadId/events': {
    summary: 'Read a thread',
    description: 'The read half of the Durable Streams protocol. Without `live` the events after `offset`; `live=long-poll` waits for the next ones; `live=sse` streams them, with ids that an EventSource resumes from (Last-Event-ID beats `offset`). The cursor is the same as on the WebSocket.',
    answers: {
      200: { what: 'Events, oldest first; a stream of them with live=sse', type: 'application/json', schema: Type.Array(AgentEvent), headers: { ...positions, ETag: 'Of a read that is not live' } },
      204: { what: 'Nothing new within the time of a long-poll', headers: positions },
      304: { what: 'Not modified since the ETag in If-None-Match' },
      410: { what: 'The offset is no longer retained, or of another log: read again from -1' }
    }
  },
  'GET /runs': { summary: 'Your live runs on this node' },
  'POST /runs/:runId/cancel': { summary: 'End a run', description: 'Resolves when its end is stored.', answers: { 200: { what: 'It has ended', type: 'application/json', schema: Type.Object({ runId: Type.String() }) } } },
  'GET /agents': { summary: 'Agents that can be asked' },
  'GET /tools': { summary: 'Tools that agents may use' },
  'POST /tickets': { summary: 'A ticket for one WebSocket', description: 'For browsers: their WebSocket cannot send headers. Good once, for a short time, as the query parameter `ticket` of /ws.' },
  'GET /health': { summary: 'Alive?', open: true, answers: { 200: { what: 'Yes', type: 'application/json', schema: Type.Object({ status: Type.Literal('ok'), store: Type.String(), connections: Type.Integer() }) } } },
  'GET /ready': {
    summary: 'Ready for work?',
    open: true,
    answers: {
      200: { what: 'Yes', type: 'application/json', schema: Type.Object({ status: Type.Literal('ready'), store: Type.String() }) },
      503: { what: 'Not now', type: 'application/json', schema: Type.Object({ status: Type.Union([Type.Literal('closing'), Type.Literal('unavailable')]), reason: Type.String() }) }
    }
  },
  'GET /metrics': { summary: 'Metrics for Prometheus', open: true, answers: { 200: { what: 'In Prometheus\' text format', type: 'text/plain' } } },
  'GET /openapi.json': { summary: 'This document', open: true, answers: { 200: { what: 'OpenAPI', type: 'application/json', schema: Type.Object({}) } } },
  'GET /asyncapi.json': { summary: 'The WebSocket as AsyncAPI', open: true, answers: { 200: { what: 'AsyncAPI', type: 'application/json', schema: Type.Object({}) } } },
  'GET /debug/websocket/connections': { summary: 'The connections of every node', ...debug },
  'GET /debug/websocket/threads': { summary: 'The threads that are watched or at work on any node', ...debug },
  'GET /debug/websocket/mappings': { summary: 'Who is connected where, on every node', ...debug },
  'GET /debug/registry': { summary: 'Agents, tools and live runs of this node', ...debug }
}

/** @param door method and path, with :parameters */
export function describe (door: string): Description {
  return doors[door] ?? { summary: door }
}
