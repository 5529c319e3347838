import { once } from 'node:events'
import { request } from 'node:http'
import { connect as connectTcp } from 'node:net'
import { Writable } from 'node:stream'
import fc from 'fast-check'
import { defineAgent, type AgentEventsOptions } from '../../index.js'
import { clientFrames } from '../../schemas/index.js'
import { connect, Receiver } from './connect.js'
import { until } from './delivery.js'
import { startApp } from './start-app.js'
import { upgrade } from './upgrade.js'

/*
 * A listening app, a victim at work in it, and a stranger who says anything to every door. After each input the app lives,
 * has answered without a 5xx, and neither the answer nor a log line names the victim; nothing of the victim's has changed.
 */

export interface FuzzOptions {
  runs: number
  seed: number
  onProgress?: (done: number) => void
  /** Options that break the app, to see that this is found. */
  sabotage?: Partial<AgentEventsOptions>
}

export interface FuzzReport {
  /** Inputs by kind, and answers by status of HTTP, close code, code of error, or type of frame. */
  inputs: Record<Input['kind'], number>
  answers: Record<string, number>
  /** The smallest input that something is wrong with. */
  failure?: { input: string, why: string }
}

type Input =
  | { kind: 'frame', frame: string | Uint8Array }
  | { kind: 'http', method: string, path: string, headers: Record<string, string>, body: string }
  | { kind: 'bytes', bytes: Uint8Array }

/** Each input is to be answered within. */
const DEADLINE_MS = 30_000
const BODY_LIMIT = 128 * 1024
const MAX_PAYLOAD = 64 * 1024

// ---------- inputs ----------

/** What can be named: the stranger's own, the victim's, and what the words stand for is put in when it is said. */
const NAMES = ['$mine', '$myRun', '$myCursor', '$herThread', '$herRun', '$herCursor', '$herInbox'] as const
const names = fc.constantFrom(...NAMES)
const odd = fc.constantFrom('', ' ', '-1', 'now', '0', '1e999', '__proto__', 'constructor', 'toString', '..', '../..', '%00', '%', '%ff', '\0', 'a\nb', '\ud800', '\u202e', '💥', 'null', 'undefined', '{}', '[]', 'x'.repeat(101), 'x'.repeat(5_000))
const text = fc.oneof({ weight: 3, arbitrary: names }, { weight: 2, arbitrary: odd }, fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' }))
const value = fc.oneof({ weight: 3, arbitrary: text }, fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(null, true, 0, -1, 1e300, [], {}))
const fields = ['threadId', 'runId', 'cursor', 'ref', 'content', 'input', 'agent', 'clientMessageId', 'token', 'metadata', 'reason', 'offset', 'type', '__proto__'] as const
const object = fc.array(fc.tuple(fc.oneof({ weight: 6, arbitrary: fc.constantFrom<string>(...fields) }, fc.string()), value), { maxLength: 5 })
const deep = fc.integer({ min: 0, max: 5_000 }).map((depth) => '['.repeat(depth) + ']'.repeat(depth))
const json = fc.oneof({ weight: 6, arbitrary: object.map((entries) => `{${entries.map(([key, field]) => `${JSON.stringify(key)}:${JSON.stringify(field)}`).join()}}`) }, value.map((any) => JSON.stringify(any)), deep, fc.string())

/** What the types of frames want, with each of it replaced now and then. */
const known: Record<keyof typeof clientFrames, Record<string, string>> = {
  subscribe: { ref: 'a', threadId: '$mine', cursor: '$myCursor' },
  unsubscribe: { ref: 'a', threadId: '$mine' },
  ack: { threadId: '$mine', cursor: '$myCursor' },
  send: { ref: 'a', threadId: '$mine', content: 'hello', clientMessageId: 'm' },
  cancel: { ref: 'a', runId: '$myRun' },
  refresh: { ref: 'a', token: 'token' },
  pong: {}
}
const nearly = fc.constantFrom(...Object.keys(known) as Array<keyof typeof known>).chain((type) => fc.record(Object.fromEntries(Object.entries({ type, ...known[type] }).map(([field, usual]) => [field, fc.oneof({ weight: 5, arbitrary: fc.constant<unknown>(usual) }, { weight: 3, arbitrary: names }, value)]))))
const frame: fc.Arbitrary<Input> = fc.oneof(
  { weight: 6, arbitrary: nearly.map((any) => JSON.stringify(any)) },
  { weight: 2, arbitrary: json },
  fc.string({ unit: 'binary' }),
  fc.uint8Array({ maxLength: 200 }),
  fc.integer({ min: MAX_PAYLOAD - 100, max: MAX_PAYLOAD + 100 }).map((length) => `{"type":"pong","x":"${'x'.repeat(length - 22)}"}`)
).map((frame) => ({ kind: 'frame', frame }))

const inPath = text.map((any) => [...Buffer.from(any)].map((byte) => /[\w$~.-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, '0')}`).join(''))
const doors = ['/threads', '/threads/ID', '/threads/ID/events', '/threads/ID/events', '/threads/ID/messages', '/runs', '/runs/ID/cancel', '/agents', '/tools', '/tickets', '/ws', '/health', '/ready', '/openapi.json', '/debug/registry', '/debug/websocket/connections', '/ID', '/ID/ID'] as const
const printable = fc.string({ unit: fc.integer({ min: 0x21, max: 0xff }).filter((code) => code !== 0x7f).map((code) => String.fromCharCode(code)), maxLength: 20 })
const path = fc.oneof(
  { weight: 12, arbitrary: fc.tuple(fc.constantFrom(...doors), fc.array(inPath, { minLength: 2, maxLength: 2 })).map(([door, ids]) => door.replace(/ID/g, () => ids.pop()!)) },
  printable.map((any) => `/${any}`)
)
const query = fc.array(fc.tuple(fc.constantFrom('offset', 'live', 'cursor', 'limit', 'after', 'ticket', 'x', 'offset[]'), fc.oneof(inPath, fc.constantFrom('sse', 'long-poll', '-1', 'now', '$myCursor', '$herCursor', '1'))), { maxLength: 4 })
  .map((pairs) => pairs.length === 0 ? '' : `?${pairs.map(([key, any]) => `${key}=${any}`).join('&')}`)
const headers = fc.record({
  'x-user-id': fc.oneof({ weight: 8, arbitrary: fc.constant('stranger') }, printable),
  'content-type': fc.oneof({ weight: 8, arbitrary: fc.constant('application/json') }, fc.constantFrom('text/plain', 'application/x-www-form-urlencoded', ''), printable),
  'last-event-id': fc.oneof(names, printable),
  'if-none-match': fc.oneof(fc.constantFrom('*', '""', 'W/"x"'), printable),
  origin: printable,
  accept: printable
}, { requiredKeys: ['x-user-id', 'content-type'] })
const body = fc.oneof(...['threadId', 'content', 'input', 'metadata', 'reason', 'agent'].map((field) => fc.tuple(value, fc.boolean()).map(([any, isSaid]) => JSON.stringify({ ...(isSaid && { content: 'hello' }), [field]: any }))))
const http: fc.Arbitrary<Input> = fc.record({
  kind: fc.constant('http' as const),
  method: fc.oneof({ weight: 4, arbitrary: fc.constantFrom('GET', 'POST') }, fc.constantFrom('HEAD', 'DELETE', 'PUT', 'PATCH', 'OPTIONS', 'TRACE', 'QUERY')),
  path: fc.tuple(path, query).map((parts) => parts.join('')),
  headers,
  body: fc.oneof({ weight: 6, arbitrary: body }, { weight: 4, arbitrary: json }, fc.constant(''), fc.integer({ min: BODY_LIMIT - 100, max: BODY_LIMIT + 100 }).map((length) => JSON.stringify({ content: 'x'.repeat(length - 14) })))
})

/** What is no HTTP, or nearly. */
const bytes: fc.Arbitrary<Input> = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 200 }),
  fc.tuple(path, fc.array(fc.tuple(fc.constantFrom('Host', 'Connection', 'Upgrade', 'Sec-WebSocket-Key', 'Sec-WebSocket-Version', 'Sec-WebSocket-Protocol', 'Content-Length', 'Transfer-Encoding', 'Expect', 'x-user-id'), fc.oneof(printable, fc.constantFrom('websocket', 'Upgrade', '13', 'x', 'agent-events.v1', 'dGhlIHNhbXBsZSBub25jZQ==', 'chunked', '5', '-1', '100-continue', 'stranger'))), { maxLength: 7 }))
    .map(([any, lines]) => Buffer.from(`GET ${any} HTTP/1.1\r\n${lines.map(([name, field]) => `${name}: ${field}\r\n`).join('')}\r\n`, 'latin1'))
).map((bytes) => ({ kind: 'bytes', bytes: Uint8Array.from(bytes) }))

const input = fc.oneof({ weight: 5, arbitrary: frame }, { weight: 5, arbitrary: http }, { weight: 1, arbitrary: bytes })

// ---------- the app and the two of them ----------

const echo = defineAgent({ name: 'echo', description: 'Says it again', run: ({ message }, ctx) => ctx.say(message) })
const endless = defineAgent({ name: 'endless', description: 'Never ends', run: (_input, { signal }) => new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(signal.reason) }) }) })

/** Says inputs until one is answered as none may be. */
export async function fuzz ({ runs, seed, onProgress, sabotage }: FuzzOptions): Promise<FuzzReport> {
  const ends: Array<() => unknown> = []
  const t = { teardown: (end: () => unknown) => { ends.push(end) } }
  const report: FuzzReport = { inputs: { frame: 0, http: 0, bytes: 0 }, answers: {} }
  const count = (answer: string | number): void => { report.answers[answer] = (report.answers[answer] ?? 0) + 1 }
  const problems: string[] = []
  const crashed = (error: unknown): void => { problems.push(`thrown past everything: ${error instanceof Error ? error.stack : String(error)}`) }
  const victim = `victim-${crypto.randomUUID()}`
  let isVictimQuiet = false
  /** Of the victim's only what the stranger says may come back: ids of thread and run. */
  const look = (where: string, said: string): void => { if (said.includes(victim)) problems.push(`${where} names the victim: ${said.slice(0, 500)}`) }
  const log = new Writable({
    write (chunk, _encoding, done) {
      const line = String(chunk)
      if (isVictimQuiet) look('a log line', line)
      if (/"level":[56]0/.test(line)) problems.push(`an error is logged: ${line.slice(0, 2_000)}`)
      done()
    }
  })
  for (const event of ['uncaughtException', 'unhandledRejection']) process.on(event, crashed)
  ends.push(() => { for (const event of ['uncaughtException', 'unhandledRejection']) process.off(event, crashed) })
  try {
    const { app, url, port } = await startApp(t, {
      agents: [echo, endless],
      operations: true,
      debug: 'authorize',
      longPollMs: 1,
      closeGraceMs: 0,
      maxThreadsPerUser: 1_000_000,
      refresh: () => null,
      limits: { framesPerSecond: 1_000_000, maxBadFrames: 1_000_000, maxPayload: MAX_PAYLOAD },
      ...sabotage
    }, { logger: { level: 'trace', stream: log }, bodyLimit: BODY_LIMIT })

    const { threadId: herThread } = await app.threads.register({ userId: victim, threadId: 'hers', metadata: { secret: victim } })
    const tab = await connect(t, url, victim)
    tab.send({ type: 'subscribe', threadId: herThread })
    const { runId: herRun, cursor: herCursor } = await app.agents.send({ user: { userId: victim }, threadId: herThread, agent: 'endless', content: victim })
    await tab.frame('agent_started', undefined, DEADLINE_MS)
    const herFrames = () => tab.frames.filter(({ type }) => type !== 'ping').length
    const { length: framesBefore } = tab.frames.filter(({ type }) => type !== 'ping')
    isVictimQuiet = true

    const real: Record<typeof NAMES[number], string> = { $mine: 'mine', $myRun: '', $myCursor: '', $herThread: herThread, $herRun: herRun, $herCursor: herCursor, $herInbox: (await app.threads.inbox(victim)).record.threadId }
    const put = (said: string): string => said.replace(/\$(?:mine|myRun|myCursor|herThread|herRun|herCursor|herInbox)\b/g, (name) => real[name as typeof NAMES[number]])
    const begin = async (): Promise<void> => {
      await app.threads.register({ userId: 'stranger', threadId: real.$mine })
      const sent = await app.agents.send({ user: { userId: 'stranger' }, threadId: real.$mine, agent: 'echo', content: 'hello' })
      ;[real.$myRun, real.$myCursor] = [sent.runId, sent.cursor]
    }
    await begin()

    let socket: Receiver | undefined
    const answer = {
      async frame ({ frame }: Extract<Input, { kind: 'frame' }>) {
        if (socket?.closeCode !== undefined) socket = undefined
        if (socket === undefined) {
          const opened = await upgrade(t, url, 'userId=stranger')
          if (!(opened instanceof Receiver)) throw new Error(`no WebSocket: ${opened.status}`)
          socket = opened
        }
        const { frames } = socket
        const { length: before } = frames
        socket.socket.send(typeof frame === 'string' ? put(frame) : frame)
        // There and back: the input was looked at, and what it throws is thrown.
        const ref = `back ${Math.random()}`
        socket.send({ type: 'unsubscribe', ref, threadId: 'another' })
        await socket.until(() => socket!.closeCode !== undefined || frames.some((each) => 'ref' in each && each.ref === ref), 'an answer', DEADLINE_MS)
        for (const each of frames.slice(before)) {
          if ('ref' in each && each.ref === ref) continue
          count(each.type === 'error' ? each.code : `frame ${each.type}`)
          if (each.type === 'error' && each.code === 'FAE_ERR_INTERNAL') problems.push('an internal error')
          look('a frame', JSON.stringify(each))
        }
        if (socket.closeCode !== undefined) count(`close ${socket.closeCode}`)
        frames.length = 0
      },
      async http ({ method, path, headers, body }: Extract<Input, { kind: 'http' }>) {
        const sent = request({ port, host: '127.0.0.1', method, path: put(path), headers: { ...headers, 'last-event-id': put(headers['last-event-id'] ?? '') }, agent: false, signal: AbortSignal.timeout(DEADLINE_MS) })
        sent.on('error', () => {})
        sent.end(method === 'GET' || method === 'HEAD' ? undefined : put(body))
        const [response] = await once(sent, 'response')
        const isStream = response.headers['content-type'] === 'text/event-stream'
        let said = JSON.stringify(response.headers)
        response.setEncoding('utf8')
        for await (const chunk of response) {
          said += chunk as string
          // It has no end.
          if (isStream) break
        }
        count(response.statusCode)
        if (response.statusCode >= 500) problems.push(`status ${response.statusCode}: ${said.slice(0, 2_000)}`)
        look('the answer', said)
      },
      async bytes ({ bytes }: Extract<Input, { kind: 'bytes' }>) {
        const peer = connectTcp({ port, host: '127.0.0.1' })
        peer.on('error', () => {})
        let said = ''
        peer.on('data', (chunk) => { said += chunk.toString('latin1') })
        peer.end(bytes)
        // What is taken for a WebSocket stays open.
        await until(() => peer.closed || said.startsWith('HTTP/1.1 101'), 'the end of a connection', DEADLINE_MS).finally(() => { peer.destroy() })
        const status = /^HTTP\/1\.1 (\d{3})/.exec(said)?.[1]
        count(status ?? 'no answer')
        if (Number(status) >= 500) problems.push(`status ${status}: ${said}`)
        look('the answer', said)
      }
    }

    let done = 0
    const property = fc.asyncProperty(input, async (said) => {
      report.inputs[said.kind]++
      // Whatever the last one did to it.
      if (await app.threads.get(real.$mine) === undefined) await begin()
      await answer[said.kind](said as never)
      if (!app.agents.active({ userId: victim }).some(({ runId }) => runId === herRun)) problems.push('the victim\'s run has ended')
      if (herFrames() !== framesBefore || tab.closeCode !== undefined) problems.push('the victim has seen something of it')
      onProgress?.(++done)
      if (problems.length > 0) throw new Error(problems.splice(0).join('\n'))
    })
    const result = await fc.check(property, { numRuns: runs, seed })
    if (result.failed) report.failure = { input: fc.stringify(result.counterexample?.[0]).slice(0, 10_000), why: result.errorInstance instanceof Error ? result.errorInstance.message : String(result.errorInstance) }
  } finally {
    for (const end of ends.reverse()) await end()
  }
  return report
}
