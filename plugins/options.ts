import { FAE_ERR_OPTION_INVALID } from '../errors.js'

/** The longest timer there is, about 24 days: Node fires a longer one at once. */
export const LONGEST_TIMER_MS = 2_147_483_647

/** @throws FAE_ERR_OPTION_INVALID for a name that `known` does not have: a misspelt option would be a default in silence */
export function checkNames (group: string, options: object, known: object): void {
  for (const name of Object.keys(options)) {
    if (!(name in known)) throw new FAE_ERR_OPTION_INVALID(`${group}.${name}`, `unknown; known are ${Object.keys(known).join(', ')}`)
  }
}

/** @throws FAE_ERR_OPTION_INVALID unless every given option is a whole number from `least` to `most` */
export function checkIntegers (options: object, names: readonly string[], least = 0, most = Number.MAX_SAFE_INTEGER): void {
  for (const name of names) {
    const value: unknown = (options as Record<string, unknown>)[name]
    if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most)) {
      const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`
      throw new FAE_ERR_OPTION_INVALID(name, `expected a whole number ${range}, found ${String(value)}`)
    }
  }
}
