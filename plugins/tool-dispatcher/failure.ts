import type { Failure } from '../../schemas/index.js'

/** The longest code and message that an event carries: the whole error stays with whoever awaits it. */
const CODE_CHARS = 100
const MESSAGE_CHARS = 2_000

/** Whatever was thrown, also undefined or an object that no text can be made of, as a code for programs and a message for people. */
export function toFailure (thrown: unknown, fallbackCode: string): Failure {
  const { code, message, retryable } = read(thrown)
  return {
    code: typeof code === 'string' && code !== '' ? code.slice(0, CODE_CHARS) : fallbackCode,
    message: shorten(typeof message === 'string' ? message : `thrown: ${textOf(thrown)}`),
    ...(typeof retryable === 'boolean' && { retryable })
  }
}

function read (thrown: unknown): { code?: unknown, message?: unknown, retryable?: unknown } {
  if (typeof thrown !== 'object' || thrown === null) return {}
  try {
    const { code, message, retryable } = thrown as { code?: unknown, message?: unknown, retryable?: unknown }
    return { code, message, retryable }
  } catch {
    return {}
  }
}

function textOf (thrown: unknown): string {
  try {
    return String(thrown)
  } catch {
    return 'an object without a text'
  }
}

function shorten (message: string): string {
  return message.length > MESSAGE_CHARS ? `${message.slice(0, MESSAGE_CHARS)}…` : message
}
