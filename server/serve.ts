import closeWithGrace from 'close-with-grace'
import { ConfigError, type Config } from './config.js'
import { buildServer } from './server.js'
import { chooseStore } from './store.js'

/** Milliseconds that runs and sockets get to end before the process goes anyway. */
const closeGraceMs = 10_000

/** Starts the server and closes it on a signal or a fatal error. */
export async function serve (config: Config): Promise<void> {
  const app = await buildServer(config)
  closeWithGrace({ delay: closeGraceMs, logger: app.log }, async ({ signal, err }) => {
    if (err !== undefined) app.log.fatal({ err }, 'fatal error, closing')
    else app.log.info({ signal }, 'closing')
    await app.close()
  })
  const url = await app.listen({ port: config.PORT, host: config.HOST }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRINUSE') throw error
    throw new ConfigError(`PORT ${config.PORT} on ${config.HOST} is in use. Choose another with --port or PORT.`)
  })
  const { description } = chooseStore(config.STORE)
  const auth = config.AUTH === 'none' ? 'AUTH=none: whoever asks is who they say (x-user-id or userId, else local)' : 'AUTH=jwt'
  app.log.info({ url, store: description, auth: config.AUTH }, `ready at ${url}, events in ${description}, ${auth}`)
}
