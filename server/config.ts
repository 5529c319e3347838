import { Type, type Static } from '@sinclair/typebox'
import { envSchema } from 'env-schema'
import { flagOf, type Flags } from './command.js'

function oneOf<const Value extends string> (values: readonly Value[], preset: Value) {
  return Type.Unsafe<Value>({ type: 'string', enum: values, default: preset })
}

const Text = Type.String({ minLength: 1 })

const ConfigSchema = Type.Object({
  /** Port to listen at; 0 takes a free one. */
  PORT: Type.Integer({ minimum: 0, maximum: 65535, default: 8000 }),
  HOST: Type.String({ minLength: 1, default: '127.0.0.1' }),
  /** memory, lmdb:<folder> or a redis URL; see store.ts. */
  STORE: Type.String({ pattern: '^(memory|lmdb:.+|rediss?://.+)$', default: 'lmdb:./data' }),
  /** Folder of modules that export agents and tools. */
  AGENTS: Type.Optional(Text),
  /** Folder of Markdown documents for the demo agent. */
  DOCS: Type.Optional(Text),
  AUTH: oneOf(['none', 'jwt'], 'none'),
  /** One of these three with AUTH=jwt: a shared secret, */
  JWT_SECRET: Type.Optional(Type.String({ minLength: 32 })),
  /** a public key, as PEM or as a path to one, */
  JWT_PUBLIC_KEY: Type.Optional(Text),
  /** or a path to a JWKS file. */
  JWT_JWKS: Type.Optional(Text),
  /** The claim that is the user's id. */
  JWT_USER_CLAIM: Type.String({ minLength: 1, default: 'sub' }),
  JWT_ISSUER: Type.Optional(Text),
  JWT_AUDIENCE: Type.Optional(Text),
  /** Opens the debug endpoints and /metrics to whoever sends it as a bearer token; with AUTH=none they are open. */
  OPERATOR_TOKEN: Type.Optional(Type.String({ pattern: '^[!-~]{32,}$' })),
  /** Origins of pages that may use the server, separated by commas. */
  CORS_ORIGINS: Type.Optional(Type.String({ pattern: '^\\s*https?://[^\\s,/]+\\s*(,\\s*https?://[^\\s,/]+\\s*)*$' })),
  /** Who may say where a request came from: true, false, or addresses and ranges separated by commas. */
  TRUST_PROXY: Type.String({ pattern: '^(true|false|loopback|linklocal|uniquelocal|[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]*(/[0-9.]+)?|\\s*,\\s*)+$', default: 'false' }),
  /** Requests and upgrades a minute from one address; 0 for no limit. */
  RATE_LIMIT: Type.Integer({ minimum: 0, default: 1000 }),
  /** Delay of the event loop, in milliseconds, above which requests are answered 503; 0 for no limit. */
  MAX_EVENT_LOOP_DELAY: Type.Integer({ minimum: 0, default: 1000 }),
  LOG_LEVEL: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info'),
  NODE_ENV: Type.Optional(Type.String())
})
export type Config = Static<typeof ConfigSchema>

/** What must not show where a setting is reported. */
const SECRET = new Set(['JWT_SECRET', 'JWT_PUBLIC_KEY', 'OPERATOR_TOKEN'])
const EXPECTED: Readonly<Record<string, string>> = {
  STORE: 'must be memory, lmdb:<folder> or redis://<host>:<port>',
  TRUST_PROXY: 'must be true, false, or addresses and ranges like 10.0.0.0/8 or loopback, separated by commas',
  OPERATOR_TOKEN: 'must be at least 32 printable characters without spaces',
  CORS_ORIGINS: 'must be origins like https://app.example, separated by commas'
}

/** A setting is wrong; the message is one line that names it and says what to do. */
export class ConfigError extends Error {}

interface Failure { instancePath: string, message?: string, params: { allowedValues?: string[] } }

/**
 * The settings, from the environment and from the flags that beat it. Nothing else in this package
 * reads process.env.
 *
 * @throws ConfigError naming the first variable that is wrong
 */
export function readConfig (flags: Flags = {}, environment: Readonly<Record<string, string | undefined>> = process.env): Config {
  const given = Object.fromEntries(Object.entries({ ...environment, ...flags }).filter(([, value]) => value !== undefined))
  try {
    return envSchema<Config>({ schema: ConfigSchema, env: false, data: given })
  } catch (error) {
    const failure = (error as { errors?: Failure[] }).errors?.[0]
    if (failure === undefined) throw error
    throw new ConfigError(describe(failure, given, flags))
  }
}

function describe (failure: Failure, given: Record<string, unknown>, flags: Flags): string {
  const variable = failure.instancePath.slice(1)
  const flag = flagOf(variable)
  const name = flag !== undefined && variable in flags ? `${flag} (${variable})` : variable
  const allowed = failure.params.allowedValues
  const expected = allowed === undefined ? EXPECTED[variable] ?? failure.message : `must be one of ${allowed.join(', ')}`
  if (SECRET.has(variable)) return `${name} ${expected}`
  return `${name} ${expected}; it is ${JSON.stringify(withoutPassword(given[variable]))}`
}

function withoutPassword (value: unknown): unknown {
  return typeof value === 'string' ? value.replace(/^.*@/, '***@') : value
}
