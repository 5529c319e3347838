import type { User } from './user.js'

/** What somebody wants to do with a thread or a run in it; debug: with the debug endpoints, of no thread. */
export type Action = 'read' | 'send' | 'cancel' | 'delete' | 'debug'

export interface Resource {
  /** '' for debug. */
  readonly threadId: string
  /** The user whose thread it is; '' for debug. */
  readonly ownerId: string
  /** For cancel. */
  readonly runId?: string
  readonly metadata?: Readonly<Record<string, unknown>>
}

/** May this user do that? Asked every time; a throw is no. A no looks like a thread that does not exist. */
export type Authorize = (user: User, action: Action, resource: Resource) => boolean | Promise<boolean>

/** A thread is its owner's alone, and debug endpoints are nobody's. */
export const ownerOnly: Authorize = (user, action, { ownerId }) => action !== 'debug' && user.userId === ownerId
