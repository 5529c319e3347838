import { once } from 'node:events'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { defineAgent, type User } from '../../index.js'
import { SUBPROTOCOL, type ServerFrame } from '../../schemas/index.js'
import { Receiver } from '../support/connect.js'
import { until } from '../support/delivery.js'
import { startApp, type StartedApp } from '../support/start-app.js'

/*
 * Every door by who asks for what. Users: ada owns the thread and the run, eve is a stranger, bob was let in by authorize and
 * is no more. An answer is [status or close code, error code]; `…` stands for the id that was asked for.
 */

const endless = defineAgent({ name: 'endless', description: 'Never ends', run: (_input, ctx) => new Promise((_resolve, reject) => { ctx.signal.addEventListener('abort', () => { reject(ctx.signal.reason) }) }) })

interface Answer { status: number, code: string, text: string }
interface Ground extends StartedApp { runId: string, cursor: string, world: { isFriend: boolean } }
/** Who asks, for which thread (and its run), with what instead of the door's own input. */
interface Asked { who: string, threadId: string, runId: string, instead?: unknown }
type Ask = (ground: Ground, t: Test, asked: Asked) => Promise<Answer>

type Column = 'own' | 'foreign' | 'none' | 'expired' | 'revoked'
interface Door {
  ask: Ask
  answers: Record<Column, [status: number, code?: string]>
  /** Input that is not understood, and input that is too much. */
  malformed: Array<[instead: unknown, status: number, code?: string]>
  oversized: Array<[instead: unknown, status: number, code?: string]>
  /** Whether foreign and none are told apart: only where the id is taken or free. */
  tellsApart?: true
}

// ---------- ways to ask ----------

function http (method: string, path: (asked: Asked & { cursor: string }) => string, body?: (instead: unknown, asked: Asked) => unknown): Ask {
  return async ({ url, cursor }, t, asked) => {
    const over = new AbortController()
    t.teardown(() => { over.abort() })
    const sent = body?.(asked.instead, asked)
    const response = await fetch(url + path({ ...asked, cursor }), {
      method,
      signal: over.signal,
      headers: { 'x-user-id': asked.who, ...(body !== undefined && { 'content-type': 'application/json' }) },
      ...(sent !== undefined && { body: typeof sent === 'string' ? sent : JSON.stringify(sent) })
    })
    if (response.headers.get('content-type') === 'text/event-stream') {
      over.abort()
      return { status: response.status, code: '', text: '' }
    }
    const text = await response.text()
    return { status: response.status, code: text === '' ? '' : (JSON.parse(text) as { code?: string }).code ?? '', text }
  }
}

async function upgrade (url: string, who: string, query = ''): Promise<Answer | WebSocket> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws?userId=${encodeURIComponent(who)}${query}`, SUBPROTOCOL)
  socket.on('error', () => {})
  const opened = once(socket, 'open').then(() => undefined)
  const refused = once(socket, 'unexpected-response').then(([, response]) => response)
  opened.catch(() => {})
  refused.catch(() => {})
  const response = await Promise.race([opened, refused])
  if (response === undefined) return socket
  let text = ''
  for await (const chunk of response) text += String(chunk)
  return { status: response.statusCode, code: text.startsWith('{') ? (JSON.parse(text) as { code: string }).code : '', text }
}

/** @param success the frame that says yes; undefined where silence does */
function frame (make: (asked: Asked & { cursor: string }) => Record<string, unknown>, success?: ServerFrame['type'], before?: (asked: Asked) => Record<string, unknown>): Ask {
  return async ({ url, cursor }, t, asked) => {
    // Who is somebody only for a moment is in, and then out.
    const socket = await upgrade(url, asked.who === 'expired' ? 'short' : asked.who)
    if (!(socket instanceof WebSocket)) return socket
    const tab = new Receiver(socket)
    t.teardown(() => { socket.terminate() })
    if (asked.who === 'expired') await tab.closed()
    if (before !== undefined) {
      tab.send(before(asked))
      await tab.until(() => tab.closeCode !== undefined || tab.frames.some(({ type }) => type === 'subscribed' || type === 'error'))
    }
    const { instead } = asked
    if (typeof instead === 'string' || instead instanceof Buffer) socket.send(instead)
    else tab.send({ ref: 'asked', ...make({ ...asked, cursor }), ...instead as object })
    // Answers come in order: what has none is answered by then.
    if (success === undefined) tab.send({ type: 'unsubscribe', ref: 'asked', threadId: 'last' })
    const answered = () => tab.frames.find((each) => each.type === 'error' || ('ref' in each && each.ref === 'asked' && each.type !== 'unsubscribed'))
    const last = () => tab.frames.some((each) => each.type === 'unsubscribed' && each.ref === 'asked')
    await tab.until(() => tab.closeCode !== undefined || answered() !== undefined || (success === undefined && last()), 'an answer')
    if (success === undefined && answered() === undefined && tab.closeCode === undefined) await settle()
    const answer = answered()
    if (answer === undefined && tab.closeCode !== undefined) return { status: tab.closeCode, code: '', text: '' }
    if (answer === undefined || answer.type !== 'error') return { status: 200, code: '', text: '' }
    return { status: 0, code: answer.code, text: JSON.stringify({ ...answer, ref: undefined }) }
  }
}

/** Long enough for the answer of something that runs in this process. */
async function settle (): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => { setImmediate(resolve) })
}

// ---------- the doors ----------

const NOT_FOUND = 'FAE_ERR_THREAD_NOT_FOUND'
const NO_RUN = 'FAE_ERR_RUN_NOT_FOUND'
const BAD = 'FAE_ERR_BAD_REQUEST'
const BAD_FRAME = 'FAE_ERR_FRAME_INVALID'
const LONG = 'x'.repeat(101)
const MEGABYTES = 'x'.repeat(2 * 1024 * 1024)
const EVENT = 'x'.repeat(200 * 1024)

const thread = ({ threadId, instead }: Asked): string => `/threads/${typeof instead === 'string' ? instead : encodeURIComponent(threadId)}`
const events = (live: string) => ({ threadId, instead }: Asked): string => `/threads/${encodeURIComponent(threadId)}/events?${typeof instead === 'string' ? instead : live}`

const byThread: Door['answers'] = { own: [200], foreign: [404, NOT_FOUND], none: [404, NOT_FOUND], expired: [401, 'FAE_ERR_UNAUTHENTICATED'], revoked: [404, NOT_FOUND] }
const anybody: Door['answers'] = { own: [200], foreign: [200], none: [200], expired: [401, 'FAE_ERR_UNAUTHENTICATED'], revoked: [200] }
const byFrame: Door['answers'] = { own: [200], foreign: [0, NOT_FOUND], none: [0, NOT_FOUND], expired: [4401], revoked: [0, NOT_FOUND] }
const offsets: Pick<Door, 'malformed' | 'oversized'> = {
  malformed: [['offset=x', 400, 'FAE_ERR_CURSOR_INVALID'], ['offset=', 400, BAD], ['offset=-1&offset=-1', 400, BAD], ['offset=-1&live=maybe', 400, BAD], ['offset=%ff', 400, 'FAE_ERR_CURSOR_INVALID']],
  oversized: [[`offset=${LONG}`, 400, BAD], [`offset=-1&cursor=${LONG}&live=long-poll`, 400, BAD]]
}
const badFrames: Door['malformed'] = [
  ['{"type":', 0, BAD_FRAME], ['null', 0, BAD_FRAME], [Buffer.from('{"type":"pong"}'), 0, BAD_FRAME], [{ type: 'nothing' }, 0, BAD_FRAME], [{ unknown: 1 }, 0, BAD_FRAME], [{ ref: '' }, 0, BAD_FRAME]
]
const bigFrames: Door['oversized'] = [[JSON.stringify({ type: 'pong', x: 'x'.repeat(70_000) }), 1009], [{ ref: LONG }, 0, BAD_FRAME]]

const doors: Record<string, Door> = {
  'POST /threads': {
    ask: http('POST', () => '/threads', (instead, { threadId }) => instead ?? { threadId }),
    answers: { ...byThread, none: [201] },
    tellsApart: true,
    malformed: [['{', 400], ['', 400], [[], 400, BAD], [{ threadId: 5 }, 400, BAD], [{ threadId: '' }, 400, BAD], [{ threadId: 'a\nb' }, 400, 'FAE_ERR_THREAD_ID_INVALID'], [{ threadId: '\ud800' }, 400, 'FAE_ERR_THREAD_ID_INVALID'], [{ metadata: 5 }, 400, BAD]],
    oversized: [[{ threadId: LONG }, 400, 'FAE_ERR_THREAD_ID_INVALID'], [{ metadata: { x: MEGABYTES } }, 413]]
  },
  'GET /threads/:threadId': {
    ask: http('GET', thread),
    answers: byThread,
    malformed: [['%00', 404, NOT_FOUND], ['a%0Ab', 404, NOT_FOUND], ['%ED%A0%80', 400]],
    oversized: [[LONG, 414]]
  },
  'DELETE /threads/:threadId': {
    ask: http('DELETE', thread),
    answers: { ...byThread, own: [204] },
    malformed: [['%00', 404, NOT_FOUND], ['a%0Ab', 404, NOT_FOUND]],
    oversized: [[LONG, 414]]
  },
  'GET events, history': { ask: http('GET', events('offset=-1')), answers: byThread, ...offsets },
  'GET events, long-poll': { ask: http('GET', events('offset=-1&live=long-poll')), answers: byThread, ...offsets },
  'GET events, SSE': { ask: http('GET', events('offset=-1&live=sse')), answers: byThread, ...offsets },
  'HEAD events': {
    ask: http('HEAD', events('')),
    // An answer to HEAD has no body to hold a code.
    answers: { own: [200], foreign: [404], none: [404], expired: [401], revoked: [404] },
    malformed: [['live=maybe', 400]],
    oversized: [[`offset=${LONG}`, 400]]
  },
  'POST messages': {
    ask: http('POST', (asked) => `${thread({ ...asked, instead: undefined })}/messages`, (instead) => instead ?? { content: 'x' }),
    answers: { ...byThread, own: [202] },
    malformed: [['{', 400], [{}, 400, BAD], [{ content: 5 }, 400, BAD], [{ content: [] }, 400, BAD], [{ content: 'x', agent: 5 }, 400, BAD], [{ content: 'x', agent: '__proto__' }, 404, 'FAE_ERR_AGENT_NOT_FOUND'], [{ content: 'x', more: 1 }, 400, BAD], [{ input: 5 }, 400, 'FAE_ERR_AGENT_INPUT']],
    oversized: [[{ content: EVENT }, 413, 'FAE_ERR_EVENT_TOO_LARGE'], [{ content: MEGABYTES }, 413], [{ content: 'x', clientMessageId: LONG }, 400, BAD]]
  },
  'POST cancel': {
    ask: http('POST', ({ runId }) => `/runs/${encodeURIComponent(runId)}/cancel`, (instead) => instead ?? {}),
    answers: { own: [200], foreign: [404, NO_RUN], none: [404, NO_RUN], expired: [401, 'FAE_ERR_UNAUTHENTICATED'], revoked: [404, NO_RUN] },
    malformed: [['{', 400], [[], 400, BAD], [{ reason: 5 }, 400, BAD], [{ more: 1 }, 400, BAD]],
    oversized: [[{ reason: 'x'.repeat(1_001) }, 400, BAD], [{ reason: MEGABYTES }, 413]]
  },
  'GET /threads': {
    ask: http('GET', ({ instead }) => `/threads?${typeof instead === 'string' ? instead : ''}`),
    answers: anybody,
    malformed: [['limit=x', 400, BAD], ['after=', 400, BAD]],
    oversized: [['limit=1001', 400, BAD]]
  },
  'GET /runs': { ask: http('GET', () => '/runs'), answers: anybody, malformed: [], oversized: [] },
  'POST /tickets': { ask: http('POST', () => '/tickets'), answers: { own: [201], foreign: [201], none: [201], expired: [401, 'FAE_ERR_UNAUTHENTICATED'], revoked: [201] }, malformed: [], oversized: [] },
  'GET /ws': {
    ask: async ({ url }, t, { who, instead }) => {
      const socket = await upgrade(url, who, typeof instead === 'string' ? instead : '')
      if (!(socket instanceof WebSocket)) return socket
      t.teardown(() => { socket.terminate() })
      return { status: 200, code: '', text: '' }
    },
    answers: anybody,
    malformed: [['&ticket=wrong', 401, 'FAE_ERR_UNAUTHENTICATED'], ['&ticket=', 401, 'FAE_ERR_UNAUTHENTICATED'], ['&ticket=a&ticket=b', 401, 'FAE_ERR_UNAUTHENTICATED'], ['&userId=x', 401, 'FAE_ERR_UNAUTHENTICATED']],
    oversized: [[`&ticket=${'x'.repeat(4_000)}`, 401, 'FAE_ERR_UNAUTHENTICATED']]
  },
  ...Object.fromEntries(['connections', 'threads', 'mappings'].map((what) => `websocket/${what}`).concat('registry').map((path): [string, Door] => [`GET /debug/${path}`, {
    ask: http('GET', () => `/debug/${path}`),
    // Nobody's, whoever owns what.
    answers: { own: [403, 'FAE_ERR_FORBIDDEN'], foreign: [403, 'FAE_ERR_FORBIDDEN'], none: [403, 'FAE_ERR_FORBIDDEN'], expired: [401, 'FAE_ERR_UNAUTHENTICATED'], revoked: [403, 'FAE_ERR_FORBIDDEN'] },
    malformed: [],
    oversized: []
  }])),
  'frame subscribe': {
    ask: frame(({ threadId }) => ({ type: 'subscribe', threadId }), 'subscribed'),
    answers: byFrame,
    malformed: [...badFrames, [{ threadId: 5 }, 0, BAD_FRAME], [{ threadId: '' }, 0, BAD_FRAME], [{ threadId: 'a\nb' }, 0, NOT_FOUND], [{ threadId: '\ud800' }, 0, NOT_FOUND]],
    oversized: [...bigFrames, [{ threadId: LONG }, 0, NOT_FOUND]]
  },
  'frame subscribe with a cursor': {
    ask: frame(({ threadId, cursor }) => ({ type: 'subscribe', threadId, cursor }), 'subscribed'),
    answers: byFrame,
    malformed: [...badFrames, [{ cursor: 5 }, 0, BAD_FRAME], [{ cursor: 'x' }, 0, 'FAE_ERR_CURSOR_INVALID']],
    oversized: [...bigFrames, [{ cursor: LONG }, 0, BAD_FRAME]]
  },
  'frame send': {
    ask: frame(({ threadId }) => ({ type: 'send', threadId, content: 'x' }), 'accepted'),
    answers: byFrame,
    malformed: [...badFrames, [{ content: 5 }, 0, BAD_FRAME], [{ content: undefined }, 0, BAD_FRAME], [{ agent: 'nobody' }, 0, 'FAE_ERR_AGENT_NOT_FOUND'], [{ ref: undefined }, 0, BAD_FRAME], [{ content: undefined, input: 5 }, 0, 'FAE_ERR_AGENT_INPUT']],
    oversized: [...bigFrames, [{ threadId: LONG }, 0, NOT_FOUND], [{ clientMessageId: LONG }, 0, BAD_FRAME]]
  },
  'frame cancel': {
    ask: frame(({ runId }) => ({ type: 'cancel', runId })),
    answers: { own: [200], foreign: [0, NO_RUN], none: [0, NO_RUN], expired: [4401], revoked: [0, NO_RUN] },
    malformed: [...badFrames, [{ runId: 5 }, 0, BAD_FRAME], [{ runId: 'a\nb' }, 0, NO_RUN]],
    oversized: [...bigFrames, [{ runId: 'x'.repeat(1_000) }, 0, NO_RUN]]
  },
  'frame ack': {
    ask: frame(({ threadId, cursor }) => ({ type: 'ack', threadId, cursor, ref: undefined }), undefined, ({ threadId }) => ({ type: 'subscribe', threadId })),
    // Who could not subscribe has nothing to acknowledge.
    answers: { own: [200], foreign: [0, NOT_FOUND], none: [0, NOT_FOUND], expired: [4401], revoked: [0, NOT_FOUND] },
    malformed: [[{ cursor: 'x' }, 0, 'FAE_ERR_CURSOR_INVALID'], [{ threadId: 5 }, 0, BAD_FRAME], [{ threadId: 'other' }, 0, 'FAE_ERR_NOT_SUBSCRIBED']],
    oversized: [[{ cursor: LONG }, 0, BAD_FRAME], [{ cursor: '000000000000-9999999999' }, 0, 'FAE_ERR_CURSOR_INVALID']]
  },
  'frame unsubscribe': {
    ask: frame(({ threadId }) => ({ type: 'unsubscribe', threadId })),
    answers: { own: [200], foreign: [200], none: [200], expired: [4401], revoked: [200] },
    malformed: [[{ threadId: 5 }, 0, BAD_FRAME]],
    oversized: [...bigFrames]
  },
  'frame refresh': {
    ask: frame(() => ({ type: 'refresh', token: 'good' })),
    answers: { own: [200], foreign: [200], none: [200], expired: [4401], revoked: [200] },
    malformed: [...badFrames, [{ token: 5 }, 0, BAD_FRAME], [{ token: '' }, 0, BAD_FRAME], [{ token: 'bad' }, 0, 'FAE_ERR_UNAUTHENTICATED'], [{ token: 'of somebody else' }, 0, 'FAE_ERR_UNAUTHENTICATED']],
    oversized: [...bigFrames]
  }
}

// ---------- the ground they stand on ----------

async function ground (t: Test): Promise<Ground> {
  const world = { isFriend: true }
  const started = await startApp(t, {
    agents: [endless],
    longPollMs: 20,
    closeGraceMs: 0,
    debug: 'authorize',
    authenticate: ({ query, headers }): User | null => {
      const who = (query as { userId?: unknown }).userId ?? headers['x-user-id']
      if (typeof who !== 'string') return null
      // The same person, who was logged in until just now, or is for a moment.
      if (who === 'expired') return { userId: 'ada', expiresAt: Date.now() }
      return who === 'short' ? { userId: 'ada', expiresAt: Date.now() + 50 } : { userId: who }
    },
    authorize: (user, action, { ownerId }) => action !== 'debug' && (user.userId === ownerId || (user.userId === 'bob' && world.isFriend)),
    refresh: (token, user) => token === 'good' ? user : token === 'bad' ? null : { userId: 'mallory' }
  })
  const { app, url } = started
  await app.threads.register({ userId: 'ada', threadId: 'hers' })
  const sent = await app.agents.send({ user: { userId: 'ada' }, threadId: 'hers', content: 'first' })
  const tab = new Receiver(await upgrade(url, 'ada') as WebSocket)
  tab.send({ type: 'subscribe', threadId: 'hers' })
  await tab.frame('agent_started')
  tab.socket.terminate()
  return { ...started, runId: sent.runId, cursor: sent.cursor, world }
}

const OTHER_RUN = `run_${'0'.repeat(8)}-0000-4000-8000-${'0'.repeat(12)}`
const codeOf = ([status, code = '']: [number, string?] | [number, string | undefined]) => ({ status, code })

const isRefused = ({ status }: Answer): boolean => status < 200 || status >= 300

for (const [name, { ask, answers, malformed, oversized, tellsApart }] of Object.entries(doors)) {
  t.test(name, async (t) => {
    const here = await ground(t)
    const hers = { threadId: 'hers', runId: here.runId }
    const none = { threadId: 'none', runId: OTHER_RUN }
    const see = async (asked: Asked) => {
      const { status, code, text } = await ask(here, t, asked)
      return { status, code, text: text.replaceAll(asked.threadId, '…').replaceAll(asked.runId, '…') }
    }
    const check = (column: Column, { status, code }: Answer) => { t.same({ status, code: answers[column][1] === undefined ? '' : code }, codeOf(answers[column]), column) }

    const foreign = await see({ who: 'eve', ...hers })
    check('foreign', foreign)
    // Asked by the stranger and by the owner: neither learns anything by it.
    if (tellsApart !== true) {
      for (const who of ['eve', 'ada']) {
        const nothing = await see({ who, ...none })
        check('none', nothing)
        if (isRefused(foreign)) t.same(nothing, foreign, 'foreign and non-existent look the same')
      }
    }
    check('expired', await see({ who: 'expired', ...hers }))
    here.world.isFriend = false
    const revoked = await see({ who: 'bob', ...hers })
    check('revoked', revoked)
    if (isRefused(foreign)) t.same(revoked, foreign, 'revoked looks the same')
    for (const [kind, cases] of [['malformed', malformed], ['oversized', oversized]] as const) {
      for (const [instead, status, code] of cases) {
        const answer = await ask(here, t, { who: 'ada', ...hers, instead })
        t.same({ status: answer.status, code: code === undefined ? '' : answer.code }, codeOf([status, code]), `${kind} ${JSON.stringify(instead)?.slice(0, 80)}`)
        t.notMatch(answer.text, /\n\s+at |node_modules|\/work/, 'nothing of the inside')
      }
    }
    t.equal(here.app.agents.active().length >= 1, true, 'nothing of this has ended her run')
    check('own', await see({ who: 'ada', ...hers }))
    if (tellsApart === true) check('none', await see({ who: 'eve', ...none }))
    if (name.endsWith('cancel')) await until(() => here.app.agents.active().length === 0, 'the run to end')
    if (name.startsWith('frame')) await until(() => here.app.notifier.hub.streams.size === 0)
  })
}

t.test('who is let in may, until they may no more', async (t) => {
  for (const [name, { ask, answers, tellsApart }] of Object.entries(doors)) {
    const here = await ground(t)
    const { status } = await ask(here, t, { who: 'bob', threadId: 'hers', runId: here.runId })
    t.equal(status, tellsApart === true ? answers.foreign[0] : answers.own[0], name)
  }
})
