import type { Sender } from './manager.js'

export interface Tool { name: string, execute (args: any): unknown }

export interface Tools { getTool (name: string): { execute (args: any): unknown } | undefined }

export interface RunContext { threadId: string, runId: string }

export interface DeskAgent {
  name: string
  setWebSocketManager (manager: Sender): void
  execute (input: { message: string }, context: RunContext): Promise<unknown>
}

const HANDBOOK: Record<string, string> = { refund: 'Refunds take five days.', password: 'Reset it on the sign-in page.' }

export const searchHandbook: Tool = {
  name: 'search_handbook',
  execute ({ query }: { query: string }) {
    if (query === 'crash') throw new Error('the handbook is locked')
    return HANDBOOK[query] ?? 'Nothing about that.'
  }
}

/** Answers from the handbook. */
export class SupportAgent implements DeskAgent {
  name = 'support'
  readonly #tools: Tools
  #ws: Sender | undefined

  constructor (tools: Tools) {
    this.#tools = tools
  }

  setWebSocketManager (manager: Sender): void {
    this.#ws = manager
  }

  async execute ({ message }: { message: string }, { threadId, runId }: RunContext): Promise<unknown> {
    await this.#ws?.sendMessage(threadId, { type: 'agent_started', run_id: runId, agent_name: this.name })
    // The run's id where the thread's belongs, and nobody waits for the answer.
    this.#ws?.sendMessage(runId, { type: 'agent_thinking', run_id: runId, thought: 'Looking it up' })
    const answer = await this.#tools.getTool('search_handbook')!.execute({ query: message })
    await this.#ws?.sendMessage(threadId, { type: 'agent_response', run_id: runId, content: answer })
    // Never said when the tool throws.
    await this.#ws?.sendMessage(threadId, { type: 'agent_completed', run_id: runId, result: answer })
    return answer
  }
}

/** Reads around and tells of each step. */
export class ResearchAgent implements DeskAgent {
  name = 'research'
  #ws: Sender | undefined

  setWebSocketManager (manager: Sender): void {
    this.#ws = manager
  }

  async execute ({ message }: { message: string }, { threadId, runId }: RunContext): Promise<unknown> {
    try {
      await this.#ws?.sendMessage(threadId, { type: 'agent_started', run_id: runId, agent_name: this.name })
      await this.#ws?.sendMessage(threadId, { type: 'tool_executing', run_id: runId, tool_name: 'read_sources', tool_args: { topic: message } })
      const sources = [`On ${message}`, `Against ${message}`]
      await this.#ws?.sendMessage(threadId, { type: 'tool_completed', run_id: runId, tool_name: 'read_sources', result: sources })
      return sources
    } finally {
      await this.#ws?.sendMessage(threadId, { type: 'agent_completed', run_id: runId })
    }
  }
}

/** Writes a report. Its author knew another manager. */
export class ReportAgent implements DeskAgent {
  name = 'report'
  #ws: any

  setWebSocketManager (manager: any): void {
    this.#ws = manager
  }

  async execute ({ message }: { message: string }, { threadId, runId }: RunContext): Promise<unknown> {
    try {
      await this.#ws.send_message(threadId, { type: 'agent_thinking', run_id: runId, thought: 'Writing' })
    } catch {
      // It is only a notification.
    }
    return `A report on ${message}`
  }
}
