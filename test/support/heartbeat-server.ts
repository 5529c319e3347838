import { startApp } from './start-app.js'

/*
 * A server in a process of its own, so that its event loop can be stalled without stalling the clients. Its options are the
 * first argument, as JSON. Says { port }, and answers { block: ms } with { blocked: ms } when it is over.
 */
const { port } = await startApp({ teardown () {} }, JSON.parse(process.argv[2]!))

process.on('message', ({ block }: { block: number }) => {
  // Nothing of this process runs meanwhile: no timer, no socket.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, block)
  process.send!({ blocked: block })
})
process.on('disconnect', () => process.exit())
process.send!({ port })
