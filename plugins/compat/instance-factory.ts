import { FAE_DEP009 } from '../../warnings.js'
import type { AgentInstance } from '../agent-registry/index.js'
import { LegacyBridge, type LegacyHost } from './bridge.js'

/** For whom older code creates an agent; either spelling. */
export interface LegacyCreateContext {
  userId: string
  user_id: string
  /** Registered for the user if nobody has it: older code never did. @default the user's inbox */
  threadId: string
  thread_id: string
  /** The id that older code will name the run by; the run has one of its own. */
  runId: string
  run_id: string
  /** What the agent finds in ctx.context. */
  context: Readonly<Record<string, unknown>>
}

/**
 * Creates an agent of the master registry for what older code says of it.
 * @throws FAE_ERR_AGENT_NOT_FOUND, FAE_ERR_USER_ID_INVALID, FAE_ERR_THREAD_NOT_FOUND when the thread is somebody else's
 */
export async function createForLegacy (host: LegacyHost, name: string, given: Partial<LegacyCreateContext>): Promise<AgentInstance<unknown, unknown>> {
  const userId = (given.userId ?? given.user_id)!
  const threadId = given.threadId ?? given.thread_id
  const runId = given.runId ?? given.run_id
  const instance = await host.agents.createForUser(name, {
    userId,
    ...(threadId !== undefined && { threadId: await claimThread(host, threadId, userId) }),
    ...(given.context !== undefined && { context: given.context })
  })
  if (runId !== undefined) LegacyBridge.of(host).alias(runId, instance.runId)
  return instance
}

/** The thread of that id; that of the run, when the id is a run's, as older code mixed them up; else a new one. */
async function claimThread ({ threads }: LegacyHost, id: string, userId: string): Promise<string> {
  threads.checkUserId(userId)
  if (await threads.find(id) !== undefined) return id
  const resolved = await threads.resolveRun(id).catch(() => undefined)
  return resolved ?? (await threads.register({ userId, threadId: id })).threadId
}

export interface AgentInstanceFactory {
  /** @throws FAE_ERR_AGENT_NOT_FOUND, FAE_ERR_USER_ID_INVALID, FAE_ERR_THREAD_NOT_FOUND when the thread is somebody else's */
  create (name: string, context: Partial<LegacyCreateContext>): Promise<AgentInstance<unknown, unknown>>
}

/** @deprecated Use app.agents.createForUser. @throws FAE_ERR_COMPAT_HOST */
export function agentInstanceFactory (host: LegacyHost): AgentInstanceFactory {
  const bridge = LegacyBridge.of(host)
  return {
    create (name, context) {
      FAE_DEP009()
      return createForLegacy(bridge.host, name, context)
    }
  }
}
