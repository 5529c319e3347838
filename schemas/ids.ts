/** How long an id may be when nobody says otherwise: find-my-way refuses longer path parameters by default. */
export const DEFAULT_MAX_ID_LENGTH = 100

// Controls would break headers, logs and keys; a lone surrogate has no UTF-8 form, so two ids could become one in a store.
// eslint-disable-next-line no-control-regex -- control characters are exactly what is looked for
const forbiddenInId = /[\u0000-\u001f\u007f\p{Surrogate}]/u

/**
 * The rule for thread ids, user ids and run ids: a well-formed string of 1 to maxLength characters (UTF-16 units)
 * without control characters. Ids have no other format and are never parsed for meaning.
 */
export function isValidId (value: unknown, maxLength: number = DEFAULT_MAX_ID_LENGTH): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= maxLength && !forbiddenInId.test(value)
}

const namePattern = /^[A-Za-z0-9_-]{1,64}$/

/** The rule for the names of agents and tools: 1 to 64 letters, digits, _ and -; what the model providers accept. */
export function isValidName (value: unknown): value is string {
  // the one name that an object cannot take as an ordinary key; names become keys of ctx.tools and ctx.agents
  return typeof value === 'string' && namePattern.test(value) && value !== '__proto__'
}

/** A new run id: `run_<uuid>`. */
export function newRunId (): string {
  return `run_${globalThis.crypto.randomUUID()}`
}

/** A new thread id: `thread_<uuid>`. Not guessable, but no secret either: access is decided by the owner. */
export function newThreadId (): string {
  return `thread_${globalThis.crypto.randomUUID()}`
}
