import { defineTool, Type } from 'fastify-agent-events'

const Day = Type.String({ pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}$', description: 'as YYYY-MM-DD' })

/** Something that models are bad at. */
export const daysBetween = defineTool({
  name: 'days_between',
  description: 'Counts the days from one date to another',
  inputSchema: Type.Object({ from: Day, to: Day }),
  execute ({ from, to }) {
    const days = (Date.parse(to) - Date.parse(from)) / 86_400_000
    if (Number.isNaN(days)) throw new Error(`'${from}' or '${to}' is not a day of the calendar`)
    return { days }
  }
})
