import { readFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { defineAgent, type User } from '../../index.js'
import { connect, Receiver } from '../support/connect.js'
import { until } from '../support/delivery.js'
import { startApp, type StartedApp } from '../support/start-app.js'
import { upgrade } from '../support/upgrade.js'

/*
 * Every door by who asks for what: the table of docs/security.md. Users: ada owns the thread and the run, eve is a stranger, bob
 * was let in by authorize and is no more.
 */

const endless = defineAgent({ name: 'endless', description: 'Never ends', run: (_input, ctx) => new Promise((_resolve, reject) => { ctx.signal.addEventListener('abort', () => { reject(ctx.signal.reason) }) }) })

/** A status of HTTP, a close code, 'error' or another type of frame, 'silence' where a frame is answered by nothing. */
type Status = string
interface Answer { status: Status, code: string, text: string }
interface Ground extends StartedApp { runId: string, cursor: string, world: { isFriend: boolean } }
/** Who asks, for which thread (and its run), with what instead of the door's own input. */
interface Asked { who: string, threadId: string, runId: string, instead?: unknown }
type Ask = (ground: Ground, t: Test, asked: Asked) => Promise<Answer>
/** What is sent instead, and what is said to it; without a code where it is not ours to choose. */
type Refused = [instead: unknown, status: Status, code?: string]

interface Door {
  ask: Ask
  /** Input that is not understood, and input that is too much. */
  malformed?: Refused[]
  oversized?: Refused[]
  /** The code of 'not found'. */
  notFound?: string
}

// ---------- ways to ask ----------

function http (method: string, path: (asked: Asked & { cursor: string }) => string, { body, headers }: { body?: (asked: Asked) => unknown, headers?: (asked: Asked & { cursor: string }) => Record<string, string> } = {}): Ask {
  return async ({ url, cursor }, t, asked) => {
    const over = new AbortController()
    t.teardown(() => { over.abort() })
    const sent = asked.instead ?? body?.(asked)
    const response = await fetch(url + path({ ...asked, cursor }), {
      method,
      signal: over.signal,
      headers: { 'x-user-id': asked.who, ...(body !== undefined && { 'content-type': 'application/json' }), ...headers?.({ ...asked, cursor }) },
      ...(body !== undefined && { body: typeof sent === 'string' ? sent : JSON.stringify(sent) })
    })
    const status = String(response.status)
    if (response.headers.get('content-type') === 'text/event-stream') {
      over.abort()
      return { status, code: '', text: '' }
    }
    const text = await response.text()
    return { status, code: text === '' ? '' : (JSON.parse(text) as { code?: string }).code ?? '', text }
  }
}

/** A socket, or why not. */
async function open (t: Test, url: string, who: string, query = ''): Promise<Receiver | Answer> {
  const answer = await upgrade(t, url, `userId=${encodeURIComponent(who)}${query}`)
  return answer instanceof Receiver ? answer : { ...answer, status: String(answer.status) }
}

/** @param before a frame to be sent, and answered, before it */
function frame (make: (asked: Asked & { cursor: string }) => Record<string, unknown>, before?: (asked: Asked) => Record<string, unknown>): Ask {
  return async ({ url, cursor }, t, asked) => {
    // Who is somebody only for a moment is in, and then out.
    const tab = await open(t, url, asked.who === 'expired' ? 'short' : asked.who)
    if (!(tab instanceof Receiver)) return tab
    if (asked.who === 'expired') await tab.closed(30_000)
    if (before !== undefined) {
      tab.send(before(asked))
      await tab.until(() => tab.closeCode !== undefined || tab.frames.some(({ type }) => type === 'subscribed' || type === 'error'), 'the first answer', 30_000)
    }
    const { instead } = asked
    if (typeof instead === 'string' || instead instanceof Buffer) tab.socket.send(instead)
    else tab.send({ ref: 'asked', ...make({ ...asked, cursor }), ...instead as object })
    const answered = () => tab.frames.find((each) => each.type === 'error' || ('ref' in each && each.ref === 'asked'))
    // There and back, and again: by then it is answered, or will not be.
    for (let i = 0; i < 5 && tab.closeCode === undefined && answered() === undefined; i++) {
      tab.send({ type: 'unsubscribe', ref: `${i}`, threadId: 'another' })
      await tab.until(() => tab.closeCode !== undefined || tab.frames.some((each) => each.type === 'unsubscribed' && each.ref === `${i}`), 'an answer', 30_000)
    }
    const answer = answered()
    if (answer === undefined) return { status: tab.closeCode === undefined ? 'silence' : String(tab.closeCode), code: '', text: '' }
    return { status: answer.type, code: answer.type === 'error' ? answer.code : '', text: JSON.stringify({ ...answer, ref: undefined }) }
  }
}

// ---------- the doors ----------

const NOT_FOUND = 'FAE_ERR_THREAD_NOT_FOUND'
const NO_RUN = 'FAE_ERR_RUN_NOT_FOUND'
const NOBODY = 'FAE_ERR_UNAUTHENTICATED'
const BAD = 'FAE_ERR_BAD_REQUEST'
const BAD_ID = 'FAE_ERR_THREAD_ID_INVALID'
const BAD_CURSOR = 'FAE_ERR_CURSOR_INVALID'
const BAD_INPUT = 'FAE_ERR_AGENT_INPUT'
const BAD_FRAME = 'FAE_ERR_FRAME_INVALID'
const TOO_LARGE = 'FST_ERR_CTP_BODY_TOO_LARGE'
const LONG = 'x'.repeat(101)
/** More than an event may have, and more than a body may have. */
const EVENT = 'x'.repeat(200 * 1024)
const BODY_LIMIT = 256 * 1024
const BODY = 'x'.repeat(BODY_LIMIT)

const words = (instead: unknown): string => typeof instead === 'string' ? instead : ''
const thread = ({ threadId, instead }: Asked): string => `/threads/${typeof instead === 'string' ? instead : encodeURIComponent(threadId)}`
const events = (query: string) => (asked: Asked & { cursor: string }): string => `/threads/${encodeURIComponent(asked.threadId)}/events?${typeof asked.instead === 'string' ? asked.instead : query.replace('CURSOR', asked.cursor)}`

const badOffsets: Refused[] = [
  ['offset=x', '400', BAD_CURSOR], ['offset=%ff', '400', BAD_CURSOR], ['offset=', '400', BAD], ['offset=-1&offset=-1', '400', BAD], ['offset=-1&live=maybe', '400', BAD], ['live=sse', '400', BAD], ['live=long-poll', '400', BAD]
]
const bigOffsets: Refused[] = [[`offset=${LONG}`, '400', BAD], [`offset=-1&cursor=${LONG}&live=long-poll`, '400', BAD]]
const badPaths: Refused[] = [['%00', '404', NOT_FOUND], ['a%0Ab', '404', NOT_FOUND], ['%ED%A0%80', '400']]
const badFrames: Refused[] = [
  ['{"type":', 'error', BAD_FRAME], ['null', 'error', BAD_FRAME], [Buffer.from('{"type":"pong"}'), 'error', BAD_FRAME], [{ type: 'nothing' }, 'error', BAD_FRAME], [{ unknown: 1 }, 'error', BAD_FRAME], [{ ref: '' }, 'error', BAD_FRAME]
]
const bigFrames: Refused[] = [[JSON.stringify({ type: 'pong', x: 'x'.repeat(70_000) }), '1009'], [{ ref: LONG }, 'error', BAD_FRAME]]

const doors: Record<string, Door> = {
  'POST /threads': {
    ask: http('POST', () => '/threads', { body: ({ threadId }) => ({ threadId }) }),
    malformed: [['{', '400'], ['', '400'], [[], '400', BAD], [{ threadId: 5 }, '400', BAD], [{ threadId: '' }, '400', BAD], [{ threadId: 'a\nb' }, '400', BAD_ID], [{ threadId: '\ud800' }, '400', BAD_ID], [{ metadata: 5 }, '400', BAD]],
    oversized: [[{ threadId: LONG }, '400', BAD_ID], [{ metadata: { x: BODY } }, '413', TOO_LARGE]]
  },
  'GET /threads': {
    ask: http('GET', ({ instead }) => `/threads?${words(instead)}`),
    malformed: [['limit=x', '400', BAD], ['limit=0', '400', BAD], ['after=', '400', BAD]],
    oversized: [['limit=1001', '400', BAD]]
  },
  'GET /threads/:threadId': { ask: http('GET', thread), malformed: badPaths, oversized: [[LONG, '414']] },
  'DELETE /threads/:threadId': { ask: http('DELETE', thread), malformed: badPaths, oversized: [[LONG, '414']] },
  'POST /threads/:threadId/messages': {
    ask: http('POST', (asked) => `${thread({ ...asked, instead: undefined })}/messages`, { body: () => ({ content: 'x' }) }),
    malformed: [['{', '400'], [{}, '400', BAD], [{ content: 5 }, '400', BAD], [{ content: [] }, '400', BAD], [{ content: 'x', agent: 5 }, '400', BAD], [{ content: 'x', agent: '__proto__' }, '404', 'FAE_ERR_AGENT_NOT_FOUND'], [{ content: 'x', more: 1 }, '400', BAD], [{ input: 5 }, '400', BAD_INPUT]],
    oversized: [[{ content: EVENT }, '413', 'FAE_ERR_EVENT_TOO_LARGE'], [{ content: BODY }, '413', TOO_LARGE], [{ content: 'x', clientMessageId: LONG }, '400', BAD]]
  },
  'GET …/events, history': { ask: http('GET', events('')), malformed: badOffsets, oversized: bigOffsets },
  'GET …/events, catch-up': { ask: http('GET', events('offset=CURSOR')), malformed: badOffsets, oversized: bigOffsets },
  'GET …/events, long-poll': { ask: http('GET', events('offset=CURSOR&live=long-poll')), malformed: badOffsets, oversized: bigOffsets },
  'GET …/events, SSE': { ask: http('GET', events('offset=CURSOR&live=sse')), malformed: badOffsets, oversized: bigOffsets },
  'GET …/events, SSE resumed': {
    ask: http('GET', events('live=sse'), { headers: ({ cursor, instead }) => ({ 'last-event-id': typeof instead === 'string' && !instead.includes('=') ? instead : cursor }) }),
    // An EventSource would never come back from an error: a place that is none is told inside the stream.
    malformed: [['live=maybe', '400', BAD], ['live=sse&offset=', '400', BAD], ['live=sse&offset=x', '200']],
    oversized: [[`live=sse&offset=${LONG}`, '400', BAD]]
  },
  'HEAD …/events': { ask: http('HEAD', events('')), malformed: [['live=maybe', '400']], oversized: [[`offset=${LONG}`, '400']] },
  'POST /runs/:runId/cancel': {
    ask: http('POST', ({ runId }) => `/runs/${encodeURIComponent(runId)}/cancel`, { body: () => ({}) }),
    notFound: NO_RUN,
    malformed: [['{', '400'], [[], '400', BAD], [{ reason: 5 }, '400', BAD], [{ more: 1 }, '400', BAD]],
    oversized: [[{ reason: 'x'.repeat(1_001) }, '400', BAD], [{ reason: BODY }, '413', TOO_LARGE]]
  },
  'GET /runs': { ask: http('GET', () => '/runs') },
  'GET /agents': { ask: http('GET', () => '/agents') },
  'GET /tools': { ask: http('GET', () => '/tools') },
  'POST /tickets': { ask: http('POST', () => '/tickets') },
  'GET /ws': {
    ask: async ({ url }, t, { who, instead }) => {
      const answer = await open(t, url, who, words(instead))
      return answer instanceof Receiver ? { status: '101', code: '', text: '' } : answer
    },
    malformed: [['&ticket=wrong', '401', NOBODY], ['&ticket=', '401', NOBODY], ['&ticket=a&ticket=b', '401', NOBODY], ['&userId=x', '401', NOBODY]],
    oversized: [[`&ticket=${'x'.repeat(4_000)}`, '401', NOBODY]]
  },
  'GET /debug/websocket/connections': { ask: http('GET', () => '/debug/websocket/connections') },
  'GET /debug/websocket/threads': { ask: http('GET', () => '/debug/websocket/threads') },
  'GET /debug/websocket/mappings': { ask: http('GET', () => '/debug/websocket/mappings') },
  'GET /debug/registry': { ask: http('GET', () => '/debug/registry') },
  subscribe: {
    ask: frame(({ threadId }) => ({ type: 'subscribe', threadId })),
    malformed: [...badFrames, [{ threadId: 5 }, 'error', BAD_FRAME], [{ threadId: '' }, 'error', BAD_FRAME], [{ threadId: 'a\nb' }, 'error', NOT_FOUND], [{ threadId: '\ud800' }, 'error', NOT_FOUND]],
    oversized: [...bigFrames, [{ threadId: LONG }, 'error', NOT_FOUND]]
  },
  'subscribe, resume': {
    ask: frame(({ threadId, cursor }) => ({ type: 'subscribe', threadId, cursor })),
    malformed: [...badFrames, [{ cursor: 5 }, 'error', BAD_FRAME], [{ cursor: 'x' }, 'error', BAD_CURSOR]],
    oversized: [...bigFrames, [{ cursor: LONG }, 'error', BAD_FRAME]]
  },
  send: {
    ask: frame(({ threadId }) => ({ type: 'send', threadId, content: 'x' })),
    malformed: [...badFrames, [{ content: 5 }, 'error', BAD_FRAME], [{ content: undefined }, 'error', BAD_FRAME], [{ agent: 'nobody' }, 'error', 'FAE_ERR_AGENT_NOT_FOUND'], [{ ref: undefined }, 'error', BAD_FRAME], [{ content: undefined, input: 5 }, 'error', BAD_INPUT]],
    oversized: [...bigFrames, [{ threadId: LONG }, 'error', NOT_FOUND], [{ clientMessageId: LONG }, 'error', BAD_FRAME]]
  },
  cancel: {
    ask: frame(({ runId }) => ({ type: 'cancel', runId })),
    notFound: NO_RUN,
    malformed: [...badFrames, [{ runId: 5 }, 'error', BAD_FRAME], [{ runId: 'a\nb' }, 'error', NO_RUN]],
    oversized: [...bigFrames, [{ runId: 'x'.repeat(1_000) }, 'error', NO_RUN]]
  },
  ack: {
    // Who could not subscribe has nothing to acknowledge.
    ask: frame(({ threadId, cursor }) => ({ type: 'ack', threadId, cursor, ref: undefined }), ({ threadId }) => ({ type: 'subscribe', threadId })),
    malformed: [[{ cursor: 'x' }, 'error', BAD_CURSOR], [{ threadId: 5 }, 'error', BAD_FRAME], [{ threadId: 'other' }, 'error', 'FAE_ERR_NOT_SUBSCRIBED']],
    oversized: [[{ cursor: LONG }, 'error', BAD_FRAME], [{ cursor: '000000000000-9999999999' }, 'error', BAD_CURSOR]]
  },
  unsubscribe: { ask: frame(({ threadId }) => ({ type: 'unsubscribe', threadId })), malformed: [...badFrames, [{ threadId: 5 }, 'error', BAD_FRAME]], oversized: bigFrames },
  refresh: {
    ask: frame(() => ({ type: 'refresh', token: 'good' })),
    malformed: [...badFrames, [{ token: 5 }, 'error', BAD_FRAME], [{ token: '' }, 'error', BAD_FRAME], [{ token: 'bad' }, 'error', NOBODY], [{ token: 'of somebody else' }, 'error', NOBODY]],
    oversized: bigFrames
  }
}

// ---------- the table ----------

const COLUMNS = ['own', 'foreign', 'none', 'revoked', 'expired', 'malformed', 'oversized'] as const
type Row = Record<typeof COLUMNS[number], string>

/** What docs/security.md promises, by door. */
async function readTable (): Promise<Map<string, Row>> {
  const text = await readFile(new URL('../../docs/security.md', import.meta.url), 'utf8')
  const [header, , ...rows] = /^\| door \|[^]*?\n\n/m.exec(text)![0].trim().split('\n').map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
  if (header?.slice(1).join() !== COLUMNS.join()) throw new Error(`the columns are ${header?.join()}`)
  return new Map(rows.map(([door, ...cells]) => [door!.replaceAll('`', ''), Object.fromEntries(COLUMNS.map((column, i) => [column, cells[i]!])) as Row]))
}

const table = await readTable()
const list = (refused: Refused[] = []): string => [...new Set(refused.map(([, status]) => status))].sort().join(', ') || '–'

t.test('the table of docs/security.md has every door, and what is sent to them', async (t) => {
  t.same([...table.keys()], Object.keys(doors))
  for (const [name, { malformed, oversized }] of Object.entries(doors)) t.same({ malformed: table.get(name)?.malformed, oversized: table.get(name)?.oversized }, { malformed: list(malformed), oversized: list(oversized) }, name)
  t.comment(`${table.size} doors, ${table.size * COLUMNS.length} cells, ${Object.values(doors).flatMap(({ malformed = [], oversized = [] }) => [malformed, oversized].flat()).length} malformed and oversized inputs`)
})

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
      return who === 'short' ? { userId: 'ada', expiresAt: Date.now() + 500 } : { userId: who }
    },
    authorize: (user, action, { ownerId }) => action !== 'debug' && (user.userId === ownerId || (user.userId === 'bob' && world.isFriend)),
    refresh: (token, user) => token === 'good' ? user : token === 'bad' ? null : { userId: 'mallory' }
  }, { bodyLimit: BODY_LIMIT })
  const { app, url } = started
  await app.threads.register({ userId: 'ada', threadId: 'hers' })
  const sent = await app.agents.send({ user: { userId: 'ada' }, threadId: 'hers', content: 'first' })
  const tab = await connect(t, url, 'ada')
  tab.send({ type: 'subscribe', threadId: 'hers' })
  await tab.frame('agent_started', undefined, 30_000)
  tab.close()
  return { ...started, runId: sent.runId, cursor: sent.cursor, world }
}

const OTHER_RUN = `run_${'0'.repeat(8)}-0000-4000-8000-${'0'.repeat(12)}`
const isRefused = (status: Status): boolean => !/^[12]\d\d$|^[a-z]+ed$|^silence$/.test(status)

for (const [name, { ask, malformed = [], oversized = [], notFound = NOT_FOUND }] of Object.entries(doors)) {
  t.test(name, async (t) => {
    const here = await ground(t)
    const row = table.get(name)!
    const codes: Record<string, string> = { 401: NOBODY, 403: 'FAE_ERR_FORBIDDEN', 404: notFound, error: notFound }
    const hers = { threadId: 'hers', runId: here.runId }
    const none = { threadId: 'none', runId: OTHER_RUN }
    /** Asks, and compares with the table's cell. What is answered with the ids that were asked for replaced. */
    const see = async (column: 'own' | 'foreign' | 'none' | 'revoked' | 'expired', asked: Asked): Promise<Answer> => {
      const { status, code, text } = await ask(here, t, asked)
      // An answer to HEAD has no body that could hold a code.
      t.same([status, code], [row[column], name.startsWith('HEAD') ? '' : codes[row[column]] ?? ''], column)
      return { status, code, text: text.replaceAll(asked.threadId, '…').replaceAll(asked.runId, '…') }
    }

    const foreign = await see('foreign', { who: 'eve', ...hers })
    t.notMatch(foreign.text, 'ada', 'nothing of her')
    if (row.foreign === row.none) {
      // Asked by the stranger and by the owner: neither learns anything by it.
      for (const who of ['eve', 'ada']) {
        const nothing = await see('none', { who, ...none })
        if (isRefused(foreign.status)) t.same(nothing, foreign, 'foreign and non-existent look the same')
      }
    }
    await see('expired', { who: 'expired', ...hers })
    here.world.isFriend = false
    const revoked = await see('revoked', { who: 'bob', ...hers })
    if (isRefused(foreign.status)) t.same(revoked, foreign, 'revoked looks the same')
    for (const [instead, status, code] of [...malformed, ...oversized]) {
      const answer = await ask(here, t, { who: 'ada', ...hers, instead })
      t.same([answer.status, code === undefined ? undefined : answer.code], [status, name.startsWith('HEAD') ? undefined : code], JSON.stringify(instead).slice(0, 80))
      for (const inside of ['node_modules', process.cwd(), '\\n    at ']) t.notOk(answer.text.includes(inside), 'nothing of the inside')
    }
    t.ok(here.app.agents.active().some(({ runId }) => runId === here.runId), 'nothing of this has ended her run')
    await see('own', { who: 'ada', ...hers })
    if (row.foreign !== row.none) await see('none', { who: 'eve', ...none })
    if (name.endsWith('cancel')) await until(() => !here.app.agents.active().some(({ runId }) => runId === here.runId), 'the run to end', 30_000)
  })
}

t.test('who is let in may, until they may no more', async (t) => {
  for (const [name, { ask }] of Object.entries(doors)) {
    const here = await ground(t)
    const { status } = await ask(here, t, { who: 'bob', threadId: 'hers', runId: here.runId })
    // Only the thread itself stays hers.
    t.equal(status, name === 'POST /threads' ? '404' : table.get(name)!.own, name)
  }
})
