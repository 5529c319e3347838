import t from 'tap'
import { readFile, readdir } from 'node:fs/promises'
import { Ajv, type ValidateFunction } from 'ajv'
import { clientFrames, eventTypes, serverFrames, type AgentEvent } from '../../schemas/index.js'
import { Type, defineAgent } from '../../index.js'
import { search } from '../support/agents.js'
import { connect } from '../support/connect.js'
import { watchRun } from '../support/watch-run.js'

/* The files that `npm run build` wrote, as somebody without TypeBox uses them. */

const folder = 'dist/schemas/json'
const ajv = new Ajv({ strict: true, strictTypes: false })

async function validator (name: string): Promise<ValidateFunction> {
  return ajv.compile(JSON.parse(await readFile(`${folder}/${name}.json`, 'utf8')))
}

const pascal = (type: string) => type.split('_').map((word) => word[0]!.toUpperCase() + word.slice(1)).join('')

t.test('there is one for every event and every frame', async (t) => {
  const names = ['AgentEvent', 'ClientFrame', 'ServerFrame', ...eventTypes.map(pascal), ...[...Object.keys(clientFrames), ...Object.keys(serverFrames)].map((type) => `${pascal(type)}Frame`)]
  t.same((await readdir(folder)).sort(), names.map((name) => `${name}.json`).sort())
  for (const name of names) {
    const schema = JSON.parse(await readFile(`${folder}/${name}.json`, 'utf8'))
    t.equal(schema.title, name)
    t.equal(ajv.validateSchema(schema), true, name)
  }
})

t.test('every event of a run is valid, by its own schema and by that of all', async (t) => {
  const teller = defineAgent({
    name: 'teller',
    description: 'Uses every event type that a run has',
    tools: [search],
    async run ({ message }, ctx) {
      await ctx.think('Looking it up', { kind: 'status', step: { name: 'search', index: 1 } })
      await ctx.callTool('search', { query: message }, { argsText: '{"query":' })
      await ctx.callTool('search', { query: 1 }).catch(() => {})
      await ctx.say((async function * () { yield 'a'; yield 'b' })())
      await ctx.emit('score', { points: 3 })
      await ctx.usage({ model: 'm', inputTokens: 1 })
      return { done: true }
    }
  })
  const { app, tab, events, completed, url } = await watchRun(t, teller, { options: { events: { score: Type.Object({ points: Type.Number() }) } } })
  await app.notifier.sendToThread(completed.threadId, { type: 'user_message', data: { content: [{ type: 'text', text: 'hi' }, { type: 'file', mediaType: 'text/plain', url: 'https://example.com/a' }] } })
  const message = await tab.frame('user_message')
  const all: AgentEvent[] = [...events, message]
  t.same(new Set(all.map(({ type }) => type)), new Set(eventTypes), 'all types were there')
  const any = await validator('AgentEvent')
  for (const event of all) {
    t.ok(any(event), `${event.seq} ${event.type}: ${ajv.errorsText(any.errors)}`)
    const own = await validator(pascal(event.type))
    t.ok(own(event), `${event.seq} ${event.type}: ${ajv.errorsText(own.errors)}`)
    const other = await validator(event.type === 'custom' ? 'UserMessage' : 'Custom')
    t.notOk(other(event), 'and by no other')
    t.notOk(any({ ...event, data: { ...event.data, surprise: 1 } }), 'a field that is not listed is refused')
  }

  const frame = await validator('ServerFrame')
  const late = await connect(t, url, 'u')
  late.send({ type: 'subscribe', ref: '1', threadId: completed.threadId })
  late.send({ type: 'subscribe', ref: '2', threadId: 'nobody-has-it' })
  await late.frame('subscribed')
  await late.frame('error')
  const frames = late.frames.filter((received) => !('seq' in received))
  t.ok(frames.length >= 3)
  for (const received of frames) t.ok(frame(received), `${received.type}: ${ajv.errorsText(frame.errors)}`)
})
