export const USERS = 20
export const THREADS_PER_USER = 2
/** What a run does and how it ends. */
export const KINDS = ['says', 'streams', 'uses a tool', 'calls an agent', 'throws', 'is cancelled', 'is too slow', 'leaves things open'] as const

/** What the clients are told to do, and what they say of it. */
export interface Work { url: string, connections: number, runs: number }
export type Report = { type: 'progress', connections: number, runs: number } | { type: 'done' } | { type: 'failed', message: string }

export function threadOf (user: number, index: number): string { return `thread-${user}-${index}` }
