import { rm } from 'node:fs/promises'
import type { AgentEventsOptions } from 'fastify-agent-events'
import { Child } from '../child.js'
import { withRedis } from '../redis.js'
import { newFolder } from './delivery.js'
import type { Cell, Figures, Workload } from './workload.js'

type StoreOption = NonNullable<AgentEventsOptions['store']>

const STEADY = { perSecond: 1_000, seconds: 8 }

/** Each store in a new process. */
const STORES: Record<string, <Result>(use: (store: StoreOption) => Promise<Result>) => Promise<Result>> = {
  ours: (use) => use('memory'),
  async 'ours, lmdb' (use) {
    const folder = await newFolder()
    try {
      return await use({ lmdb: folder })
    } finally {
      await rm(folder, { recursive: true })
    }
  },
  'ours, redis': (use) => withRedis(({ url }) => use({ redis: url }))
}

async function ask<Answer> (store: StoreOption, command: string, input: object): Promise<Answer> {
  const child = Child.start('registration-process', JSON.stringify(store))
  try {
    return await child.ask(command, input)
  } finally {
    await child.stop()
  }
}

function atOnce (users: number): Cell {
  return { row: `${users.toLocaleString('en')} users at once`, side: 'ours', measure: async () => ({ allMs: await ask<number>('memory', 'atOnce', { users }) }) }
}

const registration: Workload = {
  units: { p99: 'p99, ms', p50: 'p50, ms', allMs: 'all registered within, ms' },
  cells: [
    atOnce(100),
    atOnce(10_000),
    ...Object.entries(STORES).map(([side, withStore]) => ({ row: '1,000 users a second', side, measure: () => withStore((store) => ask<Figures>(store, 'steady', STEADY)) }))
  ],
  bars: [
    { row: '100 users at once', figure: 'allMs', of: 'ours', better: 'lower', floor: 10 },
    { row: '10,000 users at once', figure: 'allMs', of: 'ours', better: 'lower', floor: 1_000 },
    // The others' is the disk's, and the system's that shares its CPUs between two processes.
    { row: '1,000 users a second', figure: 'p99', of: 'ours', better: 'lower', floor: 1 }
  ]
}
export default registration
