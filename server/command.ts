import { parseArgs } from 'node:util'

/** Flags as given; config.ts checks their values. */
export type Flags = Record<string, string>
export type Command =
  | { name: 'serve', flags: Flags }
  | { name: 'threads', action: ThreadsAction, file: string | undefined, flags: Flags }
  | { name: 'audit', folder: string, format: 'table' | 'json' | 'markdown' | 'mermaid', failOn?: 'multiple' | 'findings', exclude: string[], tests: boolean }
  | { name: 'help' }
  | { name: 'version' }
export type ThreadsAction = 'export' | 'import' | 'compact'

/** The command line itself is wrong: the caller shows the usage and exits with 2. */
export class UsageError extends Error {}

export const usage = `Usage: fastify-agent-events-server [command] [flags]

  serve                  start the server (default)
  threads export [FILE]  write all threads of an lmdb store as JSON lines, to FILE or the standard output
  threads import FILE    put such a file's threads into an lmdb store, all of them or none
  threads compact        make the file of an lmdb store as small as what is in it
                         (the server must not run on the folder meanwhile)
  audit DIR              find the agent and tool registries in a code base and where events can be lost
                         (--format table, json, markdown or mermaid; --fail-on multiple or findings exits
                         with 1; --exclude PATH, more than once; --tests includes tests)

Flags, and the environment variables they beat:
  --port PORT         PORT       port to listen at; 0 takes a free one (8000)
  --host HOST         HOST       address to listen at (127.0.0.1)
  --store STORE       STORE      where events are kept: memory, lmdb:FOLDER or redis://… (lmdb:./data)
  --agents DIR        AGENTS     load the agents and tools that the .js, .mjs and .ts modules in DIR
                                 export; its agents replace the demo agent 'triage', which stays
                                 when DIR exports no agent
  --docs DIR          DOCS       Markdown folder that 'triage' answers from (this project's own docs)
  --auth MODE         AUTH       none: whoever asks is who they say, on loopback hosts only (none)
                                 jwt: who their token says, see JWT_…
  --log-level LEVEL   LOG_LEVEL  trace, debug, info, warn, error, fatal or silent (info)
  --help              this text
  --version           the version

Only from the environment:
  JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS    the key of AUTH=jwt: at least 32 characters; PEM or a path to
                                            it; a path to a JWKS file
  JWT_USER_CLAIM, JWT_ISSUER, JWT_AUDIENCE  the claim that is the user's id (sub); what else must fit
  OPERATOR_TOKEN         opens the debug endpoints and /metrics to whoever sends it, with AUTH=jwt
  CORS_ORIGINS           pages that may use the server, with AUTH=jwt: https://a.example,https://b.example
  TRUST_PROXY            who may say where a request came from: true, false, or addresses and
                         ranges like 10.0.0.0/8, loopback (false)
  RATE_LIMIT             requests and upgrades a minute from one address; 0 for no limit (1000)
  MAX_EVENT_LOOP_DELAY   milliseconds above which requests are answered 503; 0 for no limit (1000)
`

const variables = {
  port: 'PORT',
  host: 'HOST',
  store: 'STORE',
  agents: 'AGENTS',
  docs: 'DOCS',
  auth: 'AUTH',
  'log-level': 'LOG_LEVEL'
} as const

/** The flag that sets an environment variable, if there is one. */
export function flagOf (variable: string): string | undefined {
  const entry = Object.entries(variables).find(([, name]) => name === variable)
  return entry && `--${entry[0]}`
}

/**
 * @param argv the arguments after the script's own name
 * @returns the command, with flags keyed by the variable they set
 * @throws UsageError for unknown commands, unknown flags and flags without a value
 */
export function readCommand (argv: readonly string[]): Command {
  const { values, positionals } = parse(argv)
  if (values.help === true) return { name: 'help' }
  if (values.version === true) return { name: 'version' }
  const [command = 'serve', ...rest] = positionals
  const flags: Flags = {}
  for (const [flag, variable] of Object.entries(variables)) {
    const value = values[flag]
    if (typeof value === 'string') flags[variable] = value
  }
  if (command === 'audit') return { name: 'audit', ...readAudit(rest, values) }
  const misplaced = auditFlags.find((flag) => values[flag] !== undefined)
  if (misplaced !== undefined) throw new UsageError(`--${misplaced} belongs to 'audit'`)
  if (command === 'threads') return { name: 'threads', ...readThreads(rest), flags }
  if (command !== 'serve') throw new UsageError(`Unknown command '${command}'`)
  if (rest.length > 0) throw new UsageError(`Unexpected argument '${rest[0]}'`)
  return { name: 'serve', flags }
}

function readThreads ([action, file, ...rest]: string[]): { action: ThreadsAction, file: string | undefined } {
  if (action !== 'export' && action !== 'import' && action !== 'compact') throw new UsageError("'threads' is followed by export, import or compact")
  if (action === 'import' && file === undefined) throw new UsageError("'threads import' needs the file to import")
  const unexpected = action === 'compact' ? file : rest[0]
  if (unexpected !== undefined) throw new UsageError(`Unexpected argument '${unexpected}'`)
  return { action, file }
}

const auditFlags = ['format', 'fail-on', 'exclude', 'tests'] as const

function readAudit ([folder, unexpected]: string[], values: Record<string, unknown>): Omit<Extract<Command, { name: 'audit' }>, 'name'> {
  const { format = 'table', 'fail-on': failOn, exclude = [], tests = false } = values
  const misplaced = Object.keys(variables).find((flag) => values[flag] !== undefined)
  if (misplaced !== undefined) throw new UsageError(`--${misplaced} does not belong to 'audit'`)
  if (folder === undefined) throw new UsageError("'audit' needs the folder to read")
  if (unexpected !== undefined) throw new UsageError(`Unexpected argument '${unexpected}'`)
  if (format !== 'table' && format !== 'json' && format !== 'markdown' && format !== 'mermaid') throw new UsageError(`--format is table, json, markdown or mermaid, not '${format as string}'`)
  if (failOn !== undefined && failOn !== 'multiple' && failOn !== 'findings') throw new UsageError(`--fail-on is multiple or findings, not '${failOn as string}'`)
  return { folder, format, ...(failOn !== undefined && { failOn }), exclude: exclude as string[], tests: tests as boolean }
}

function parse (argv: readonly string[]): { values: Record<string, unknown>, positionals: string[] } {
  const text = { type: 'string' } as const
  const yes = { type: 'boolean' } as const
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: { ...Object.fromEntries(Object.keys(variables).map((flag) => [flag, text])), format: text, 'fail-on': text, exclude: { ...text, multiple: true }, tests: yes, help: { ...yes, short: 'h' }, version: { ...yes, short: 'v' } }
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}
