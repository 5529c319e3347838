import type * as errors from '../errors.js'

/** The codes that the project's table lists; a server may know more. */
export type ErrorCode = keyof typeof errors

/** What went wrong, as the server said it or as the client found it. `code` is for programs, `message` for people. */
export class AgentEventsError extends Error {
  override readonly name = 'AgentEventsError'
  declare readonly code: ErrorCode | (string & {})
  /** The thread it concerns, if it concerns one. */
  declare readonly threadId: string | undefined
  /** The WebSocket's close code, when the connection was closed for good. */
  declare readonly closeCode: number | undefined

  constructor (code: ErrorCode | (string & {}), message: string, { threadId, closeCode }: { threadId?: string | undefined, closeCode?: number } = {}) {
    super(message)
    Object.assign(this, { code, threadId, closeCode })
  }
}

/** For what the client itself finds: the compiler checks that the table lists the code. */
export function clientError (code: ErrorCode, message: string, context?: { threadId?: string, closeCode?: number }): AgentEventsError {
  return new AgentEventsError(code, message, context)
}
