/* One server of the bench, driven over IPC by bench/run.ts. */
import { run, type BenchServer, type Job } from './workload.js'

const server = await ((await import(`./servers/${process.argv[2]}.js`)) as { default (): Promise<BenchServer> }).default()
const { port, path } = await server.listen()
process.send!({ port, path })
process.on('message', async (message: { prepare: number } | { job: Job } | { warm: Job }) => {
  if ('prepare' in message) {
    await server.prepare(message.prepare)
    process.send!({ prepared: true })
  } else {
    process.send!({ done: await run(server, 'job' in message ? message.job : message.warm) })
  }
})
process.on('disconnect', () => { process.exit() })
