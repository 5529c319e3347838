import { setTimeout } from 'node:timers/promises'
import fastifyStatic from '@fastify/static'
import Fastify from 'fastify'
import agentEvents, { defineAgent, defineTool, Type } from 'fastify-agent-events'

/* The whole server. Its work takes a moment, as that of a database and of a language model would. */

const handbook: Record<string, string> = {
  return: 'You may send anything back within 30 days; the courier picks it up.',
  deliver: 'Delivery takes two days, by bicycle.',
  rain: 'We ride in any weather.'
}

const parcels: Record<number, { place: string, stops: string[] }> = {
  1042: { place: 'the old bridge', stops: ['Harbour', 'Market', 'Station'] },
  2077: { place: 'your street', stops: ['Mill lane'] }
}

const searchHandbook = defineTool({
  name: 'search_handbook',
  description: 'Finds what the handbook says about a question',
  inputSchema: Type.Object({ question: Type.String() }),
  async execute ({ question }, { signal }) {
    await setTimeout(600, undefined, { signal })
    return Object.entries(handbook).filter(([topic]) => question.toLowerCase().includes(topic)).map(([topic, text]) => ({ topic, text }))
  }
})

const trackParcel = defineTool({
  name: 'track_parcel',
  description: 'Asks the couriers where a parcel is',
  inputSchema: Type.Object({ parcel: Type.Integer() }),
  async execute ({ parcel }, { signal, progress }) {
    for (const [at, courier] of ['Ada', 'Grace', 'Linus'].entries()) {
      progress(at / 3, `asking ${courier}`)
      await setTimeout(400, undefined, { signal }) // ends early when the run is cancelled
    }
    const found = parcels[parcel]
    if (found === undefined) throw new Error(`No courier has parcel ${parcel}`)
    return found
  }
})

const clerk = defineAgent({
  name: 'clerk',
  description: 'Knows the handbook and where parcels are',
  tools: [searchHandbook, trackParcel],
  async run ({ message }, ctx) {
    const [number] = message.match(/\d{4}/) ?? []
    await ctx.think(number === undefined ? 'The handbook may know' : `Parcel ${number}: I ask the couriers, and look into the handbook meanwhile`)
    const [entries, parcel] = await Promise.all([
      ctx.tools.search_handbook({ question: message }),
      // a call that fails is shown as such, and the agent goes on without it
      number === undefined ? undefined : ctx.tools.track_parcel({ parcel: Number(number) }).catch(() => null)
    ])
    const answer = [
      parcel && `Your parcel is at ${parcel.place}. It reaches you after ${parcel.stops.join(', then ')}.`,
      parcel === null && `I cannot find parcel ${number}. Is the number right?`,
      ...entries.map(({ text }) => text)
    ].filter((sentence) => typeof sentence === 'string').join(' ')
    await ctx.say(wordByWord(answer || 'I know about returns, delivery, rain, and parcels 1042 and 2077.', ctx.signal))
    return { found: parcel ? number : undefined }
  }
})

async function * wordByWord (text: string, signal: AbortSignal): AsyncGenerator<string> {
  for (const word of text.match(/\S+\s*/g) ?? []) {
    await setTimeout(70, undefined, { signal })
    yield word
  }
}

/** The page imports the type of this, and nothing else. */
export const agents = [clerk] as const

const app = Fastify()
await app.register(agentEvents, {
  agents,
  authenticate: async () => ({ userId: 'ada' }) // who is asking: look into your session
  // store: { lmdb: './data' }                  // keeps threads over a restart, with npm i lmdb
})
await app.register(fastifyStatic, { root: new URL('dist', import.meta.url) })
console.log(`Open ${await app.listen({ port: Number(process.env.PORT ?? 3000) })}`)
