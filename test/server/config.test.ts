import { test } from 'tap'
import { flagOf, readCommand, usage, UsageError } from '../../server/command.js'
import { ConfigError, readConfig } from '../../server/config.js'

test('without flags and environment the defaults hold', async (t) => {
  t.strictSame(readConfig({}, {}), {
    PORT: 8000, HOST: '127.0.0.1', STORE: 'lmdb:./data', AUTH: 'none', JWT_USER_CLAIM: 'sub', TRUST_PROXY: 'false', RATE_LIMIT: 1000, MAX_EVENT_LOOP_DELAY: 1000, LOG_LEVEL: 'info'
  })
})

test('the environment is read, and flags beat it', async (t) => {
  const environment = { PORT: '9000', HOST: 'localhost', AGENTS: './agents', NODE_ENV: 'production', UNRELATED: 'x', DOCS: undefined }
  t.match(readConfig({ PORT: '9001', LOG_LEVEL: 'debug' }, environment), {
    PORT: 9001, HOST: 'localhost', AGENTS: './agents', AUTH: 'none', LOG_LEVEL: 'debug', NODE_ENV: 'production'
  })
  t.equal(environment.PORT, '9000', 'the environment is left as it was')
})

test('a wrong value is one line that names the variable, and the flag if it came from there', async (t) => {
  for (const [flags, environment, message] of [
    [{}, { PORT: 'abc' }, 'PORT must be integer; it is "abc"'],
    [{}, { PORT: '' }, 'PORT must be integer; it is ""'],
    [{ PORT: '70000' }, {}, '--port (PORT) must be <= 65535; it is "70000"'],
    [{ STORE: 'floppy' }, { STORE: 'memory' }, '--store (STORE) must be memory, lmdb:<folder> or redis://<host>:<port>; it is "floppy"'],
    [{}, { AUTH: 'maybe' }, 'AUTH must be one of none, jwt; it is "maybe"'],
    [{ LOG_LEVEL: 'loud' }, {}, '--log-level (LOG_LEVEL) must be one of trace, debug, info, warn, error, fatal, silent; it is "loud"'],
    [{ STORE: 'redis:/x:secret@h' }, {}, '--store (STORE) must be memory, lmdb:<folder> or redis://<host>:<port>; it is "***@h"'],
    [{}, { JWT_SECRET: 'too-short' }, 'JWT_SECRET must NOT have fewer than 32 characters'],
    [{}, { OPERATOR_TOKEN: 'short secret' }, 'OPERATOR_TOKEN must be at least 32 printable characters without spaces'],
    [{}, { CORS_ORIGINS: 'app.example' }, 'CORS_ORIGINS must be origins like https://app.example, separated by commas; it is "app.example"'],
    [{}, { TRUST_PROXY: '1' }, 'TRUST_PROXY must be true, false, or addresses and ranges like 10.0.0.0/8 or loopback, separated by commas; it is "1"'],
    [{}, { HOST: '' }, 'HOST must NOT have fewer than 1 characters; it is ""']
  ] as [Record<string, string>, Record<string, string>, string][]) {
    t.throws(() => readConfig(flags, environment), new ConfigError(message))
  }
})

test('the command line', async (t) => {
  t.strictSame(readCommand([]), { name: 'serve', flags: {} }, 'serve is the default')
  t.strictSame(readCommand(['serve', '--port', '1', '--log-level=debug']), { name: 'serve', flags: { PORT: '1', LOG_LEVEL: 'debug' } })
  t.strictSame(readCommand(['--help']), { name: 'help' })
  t.strictSame(readCommand(['serve', '-h']), { name: 'help' })
  t.strictSame(readCommand(['--version']), { name: 'version' })
  t.strictSame(readCommand(['threads', 'export']), { name: 'threads', action: 'export', file: undefined, flags: {} })
  t.strictSame(readCommand(['threads', 'import', 'a.jsonl', '--store', 'lmdb:./x']), { name: 'threads', action: 'import', file: 'a.jsonl', flags: { STORE: 'lmdb:./x' } })
  for (const args of [['threads'], ['threads', 'eat'], ['threads', 'import'], ['threads', 'compact', 'x'], ['threads', 'export', 'a', 'b']]) t.throws(() => readCommand(args), { message: /threads|Unexpected argument/ }, args.join(' '))
  t.throws(() => readCommand(['fly']), new UsageError("Unknown command 'fly'"))
  t.throws(() => readCommand(['serve', 'me']), new UsageError("Unexpected argument 'me'"))
  t.throws(() => readCommand(['--prot', '1']), { message: /^Unknown option '--prot'/ })
  t.throws(() => readCommand(['--port']), { message: /argument missing/ })
})

test('the usage names every flag', async (t) => {
  for (const variable of ['PORT', 'HOST', 'STORE', 'AGENTS', 'DOCS', 'AUTH', 'LOG_LEVEL']) t.match(usage, `${flagOf(variable)} `)
  t.equal(flagOf('NODE_ENV'), undefined)
})
