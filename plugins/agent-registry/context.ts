import { FAE_ERR_EVENT_INVALID } from '../../errors.js'
import type { EventData, TextPhase } from '../../schemas/index.js'
import type { ToolDispatcher } from '../tool-dispatcher/tool-dispatcher.js'
import { readConversation } from './conversation.js'
import type { AgentContext, AnyAgent, SayOptions, TextSource, ThinkOptions } from './define-agent.js'
import type { Run } from './run.js'
import { TextStream, takePieces, type EmitText } from './text-stream.js'
import type { Store } from '../store/index.js'

export interface ContextServices {
  readonly store: Store
  readonly tools: ToolDispatcher
  /** How long pieces of streamed text are gathered. Milliseconds. */
  readonly coalesceMs: number
  /** Runs another agent for this one, in the same thread. */
  callAgent (parent: Run, agent: AnyAgent, input: unknown): Promise<unknown>
}

/** Room that the envelope of an event needs beside its text. */
const ENVELOPE_BYTES = 2_048
const DEFAULT_MESSAGES = 50

/** What one run's agent gets. */
export function createContext (run: Run, { store, tools, coalesceMs, callAgent }: ContextServices): AgentContext<any, any> {
  const { definition, writer, ids, agent, messageId } = run
  const allowed = new Set(definition.tools.map((tool) => tool.name))
  // A unit of text may take six bytes in JSON.
  const maxChars = Math.floor((writer.maxEventBytes - ENVELOPE_BYTES) / 6)

  /** A text that one event can carry, and most can. */
  function isWhole (source: TextSource): source is string {
    return typeof source === 'string' && source.length <= maxChars
  }

  async function speak (type: 'agent_thinking' | 'assistant_message', partId: string, source: TextSource, emitAs: EmitText): Promise<string> {
    const isText = typeof source === 'string'
    if (!isText && typeof source?.[Symbol.asyncIterator] !== 'function') throw new FAE_ERR_EVENT_INVALID(type, 'text', 'expected a string or an async iterable of strings')
    const stream = new TextStream(writer, emitAs, coalesceMs, maxChars)
    function take (piece: string): Promise<void> | undefined {
      if (typeof piece !== 'string') throw new FAE_ERR_EVENT_INVALID(type, 'text', `expected pieces that are strings, found ${typeof piece}`)
      return stream.push(piece)
    }
    // What is held of other blocks was said before this one; a run that has ended says nothing more.
    writer.flush()
    try {
      await (isText ? take(source) : takePieces(source, run.signal, take))
      run.signal.throwIfAborted()
    } catch (error) {
      // What was begun is ended, unless the run's end has done that.
      if (writer.isOpen(type === 'agent_thinking' ? 'thinking' : 'message', partId) && !run.signal.aborted) await stream.end()
      throw error
    }
    await stream.end()
    await writer.whenStored()
    return stream.text
  }

  /** Nothing here needs to be awaited, just as the writer's emits need not: a rejection that nobody waits for is recorded and must not end the process. */
  function recorded<T> (promise: Promise<T>): Promise<T> {
    promise.catch((error: unknown) => { run.log.debug({ err: error }, 'refused to the agent') })
    return promise
  }

  function think (source: TextSource, { kind = 'status', step, metadata }: ThinkOptions = {}): Promise<void> {
    const thinkingId = run.partId('thinking')
    const more = step === undefined && metadata === undefined ? undefined : { ...(step !== undefined && { step }), ...(metadata !== undefined && { metadata }) }
    const data = (phase: TextPhase, text: string): EventData<'agent_thinking'> => more === undefined ? { agent, thinkingId, kind, phase, text } : { agent, thinkingId, kind, phase, text, ...more }
    if (isWhole(source)) return writer.emit('agent_thinking', data('full', source), nothing)
    return recorded(speak('agent_thinking', thinkingId, source, (phase, text) => writer.stream('agent_thinking', data(phase, text))).then(nothing))
  }

  function say (source: TextSource, { metadata }: SayOptions = {}): Promise<string> {
    const partId = run.partId('part')
    const data = (phase: TextPhase, text: string): EventData<'assistant_message'> => metadata === undefined ? { agent, messageId, partId, phase, text } : { agent, messageId, partId, phase, text, metadata }
    if (isWhole(source)) return writer.emit('assistant_message', data('full', source), () => source)
    return recorded(speak('assistant_message', partId, source, (phase, text) => writer.stream('assistant_message', data(phase, text))))
  }

  return {
    tools: Object.fromEntries(definition.tools.map(({ name }) => [name, (args: unknown = {}) => recorded(tools.call(run, name, args, allowed))])),
    agents: Object.fromEntries(definition.agents.map((child) => [child.name, (input: unknown = {}) => recorded(callAgent(run, child, input))])),
    signal: run.signal,
    run: ids,
    user: run.user,
    context: run.context,
    log: run.log,
    think,
    say,
    callTool: (name, args, options) => recorded(tools.call(run, name, args, allowed, options)),
    messages: ({ limit = DEFAULT_MESSAGES } = {}) => readConversation(store, ids.threadId, limit),
    usage: (entry) => { run.usage(entry) },
    emit: (name, value) => writer.emit('custom', { name, ...(value !== undefined && { value }) })
  }
}

function nothing (): void {}
