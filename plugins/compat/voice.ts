import { randomUUID } from 'node:crypto'
import { FAE_ERR_EVENT_TOO_LARGE } from '../../errors.js'
import type { LiveRun } from '../agent-registry/index.js'
import { split } from '../agent-registry/text-stream.js'
import type { MaybePromise, ToolContext } from '../tool-dispatcher/define-tool.js'
import { toFailure } from '../tool-dispatcher/failure.js'
import { cut, ENVELOPE_BYTES } from '../tool-dispatcher/tool-dispatcher.js'
import type { Meaning, ToolOutcome } from './translate.js'

type Said<Kind extends Meaning['kind']> = Extract<Meaning, { kind: Kind }>

interface Announced { readonly toolCallId: string, readonly startedAt: number }

/** Says what a legacy agent says of its run with the run's own writer: the same checks, the same order, the same end. */
export class LegacyVoice {
  readonly #run: LiveRun
  /** Tool calls that the agent announced itself, oldest first. */
  readonly #announced = new Map<string, Announced[]>()
  /** Calls by tool whose tool_completed was said here, so that the agent's own one is one too many. */
  readonly #echoes = new Map<string, number>()

  constructor (run: LiveRun) {
    this.#run = run
  }

  /** Resolves when it is stored, with false when the registry says it itself. In call order, awaited or not. */
  async say (meaning: Meaning): Promise<boolean> {
    switch (meaning.kind) {
      case 'started':
      case 'completed': return false
      case 'thinking': return this.#think(meaning)
      case 'answer': return this.#answer(meaning)
      case 'tool_start': return this.#startTool(meaning)
      case 'tool_end': return this.#endTool(meaning)
      case 'other':
        await this.#run.writer.emit('custom', meaning.data)
        return true
    }
  }

  /** The oldest call of this tool that the agent announced and that nobody has run yet. */
  takeAnnounced (tool: string): Announced | undefined {
    return this.#announced.get(tool)?.shift()
  }

  /** A tool_completed of this tool was or will be said by others: the agent's own one is left out. */
  expectEcho (tool: string): void {
    this.#echoes.set(tool, (this.#echoes.get(tool) ?? 0) + 1)
  }

  /** Runs a tool whose tool_executing the agent has sent itself; its end is said here. */
  async runAnnounced<T> (tool: string, { toolCallId, startedAt }: Announced, execute: (context: ToolContext) => MaybePromise<T>): Promise<T> {
    this.expectEcho(tool)
    try {
      const output = await execute(this.#contextOf(tool, toolCallId))
      await this.#completed(tool, toolCallId, { status: 'ok', output }, startedAt)
      return output
    } catch (error) {
      if (this.#run.writer.isOpen('tool', toolCallId)) await this.#completed(tool, toolCallId, { status: 'error', error: toFailure(error, 'FAE_ERR_TOOL_FAILED') }, startedAt)
      throw error
    }
  }

  #contextOf (tool: string, toolCallId: string): ToolContext {
    const { writer, agent, signal, user, ids, log } = this.#run
    return {
      signal,
      toolCallId,
      user,
      run: ids,
      log: log.child({ toolCallId, tool }),
      progress: async (fraction, text) => {
        if (writer.isOpen('tool', toolCallId)) await writer.emit('tool_executing', { agent, toolCallId, tool, phase: 'progress', progress: fraction, ...(text !== undefined && { progressText: text }), attempt: 1 })
      }
    }
  }

  async #think ({ text, step, metadata }: Said<'thinking'>): Promise<boolean> {
    const { writer, agent, partId } = this.#bound()
    const thinkingId = partId('thinking')
    const data = { agent, thinkingId, kind: 'status' as const, ...(step !== undefined && { step }), ...(metadata !== undefined && { metadata }) }
    const pieces = this.#pieces(text)
    if (pieces.length === 1) {
      await writer.emit('agent_thinking', { ...data, phase: 'full', text })
      return true
    }
    await Promise.all([
      writer.emit('agent_thinking', { ...data, phase: 'start', text: '' }),
      ...pieces.map((piece) => writer.emit('agent_thinking', { ...data, phase: 'delta', text: piece })),
      writer.emit('agent_thinking', { ...data, phase: 'end', text: '' })
    ])
    return true
  }

  async #answer ({ text, metadata }: Said<'answer'>): Promise<boolean> {
    const { writer, agent, partId } = this.#bound()
    const data = { agent, messageId: this.#run.messageId, partId: partId('part'), ...(metadata !== undefined && { metadata }) }
    const pieces = this.#pieces(text)
    if (pieces.length === 1) {
      await writer.emit('assistant_message', { ...data, phase: 'full', text })
      return true
    }
    await Promise.all([
      writer.emit('assistant_message', { ...data, phase: 'start', text: '' }),
      ...pieces.map((piece) => writer.emit('assistant_message', { ...data, phase: 'delta', text: piece })),
      writer.emit('assistant_message', { ...data, phase: 'end', text: '' })
    ])
    return true
  }

  async #startTool ({ tool, toolCallId = `call_${randomUUID()}`, args, metadata }: Said<'tool_start'>): Promise<boolean> {
    const { writer, agent, calls } = this.#bound()
    // The dispatcher is running it and has said so, or the same call was announced before.
    if ([...calls].some((call) => call.tool === tool) || writer.isOpen('tool', toolCallId)) return false
    const announced = this.#announced.get(tool) ?? []
    this.#announced.set(tool, [...announced, { toolCallId, startedAt: Date.now() }])
    await writer.emit('tool_executing', { agent, toolCallId, tool, phase: 'start', args, attempt: 1, ...(metadata !== undefined && { metadata }) })
    return true
  }

  async #endTool ({ tool, toolCallId, outcome, durationMs, metadata }: Said<'tool_end'>): Promise<boolean> {
    const announced = this.#announced.get(tool) ?? []
    const open = toolCallId === undefined ? announced[0] : announced.find((call) => call.toolCallId === toolCallId)
    if (open !== undefined) {
      this.#announced.set(tool, announced.filter((call) => call !== open))
      await this.#completed(tool, open.toolCallId, outcome, open.startedAt, durationMs, metadata)
      return true
    }
    const echoes = this.#echoes.get(tool) ?? 0
    if (echoes > 0) {
      this.#echoes.set(tool, echoes - 1)
      return false
    }
    if ([...this.#run.calls].some((call) => call.tool === tool)) return false
    // An end without a beginning: both are told, so that the call is whole.
    const id = toolCallId ?? `call_${randomUUID()}`
    const { writer, agent } = this.#bound()
    const begun = writer.emit('tool_executing', { agent, toolCallId: id, tool, phase: 'start', args: {}, attempt: 1 })
    await Promise.all([begun, this.#completed(tool, id, outcome, Date.now(), durationMs, metadata)])
    return true
  }

  async #completed (tool: string, toolCallId: string, outcome: ToolOutcome, startedAt: number, durationMs = Math.max(0, Date.now() - startedAt), metadata?: Said<'tool_end'>['metadata']): Promise<void> {
    const { writer, agent } = this.#bound()
    const data = { agent, toolCallId, tool, ...outcome, durationMs, ...(metadata !== undefined && { metadata }) }
    try {
      await writer.emit('tool_completed', data)
    } catch (error) {
      if (!(error instanceof FAE_ERR_EVENT_TOO_LARGE) || outcome.status !== 'ok') throw error
      await writer.emit('tool_completed', { ...data, ...cut(outcome.output, writer.maxEventBytes - ENVELOPE_BYTES) })
    }
  }

  #pieces (text: string): string[] {
    // A unit of text may take six bytes in JSON.
    return split(text, Math.floor((this.#run.writer.maxEventBytes - ENVELOPE_BYTES) / 6))
  }

  #bound () {
    const { writer, agent, calls } = this.#run
    return { writer, agent, calls, partId: (kind: 'part' | 'thinking') => this.#run.partId(kind) }
  }
}
