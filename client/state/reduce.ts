import type { AnyAgent } from '../../plugins/agent-registry/define-agent.js'
import type { AgentEvent as StoredEvent, MessageContent, TextPhase } from '../../schemas/index.js'
import type { AgentEvent, ThreadStatus } from '../types.js'
import { List } from './list.js'
import type { FilePart, Message, Part, Run, TextPart, ThinkingPart, ThreadState, ToolPart } from './types.js'

/** What a state is made of. Nothing of it is changed, but the index is added to. */
interface Core {
  readonly messages: List<Message>
  readonly runs: List<Run>
  /**
   * Where to look for a message or a run. It is shared by all states that come from one, also by two that come from the
   * same: so what it says is checked, but what it has never heard of is in none of them.
   */
  readonly index: Map<string, number>
  readonly status: ThreadStatus
  readonly cursor: string | undefined
  readonly seq: number
}
type Change = Partial<Core>

const cores = new WeakMap<object, Core>()

/** The state before the first event. */
export function initialState<T = AnyAgent> (status: ThreadStatus = 'idle'): ThreadState<T> {
  return stateOf({ messages: new List(), runs: new List(), index: new Map(), status, cursor: undefined, seq: 0 })
}

/**
 * The state after an event. The same events give the same state, whether they come live or from a replay. An event that has
 * been seen changes nothing, one of an unknown type moves only the cursor.
 * @param state is not changed; may also be one that has been through JSON
 */
export function reduce<T = AnyAgent> (state: ThreadState<T>, event: AgentEvent<T>): ThreadState<T> {
  const core = coreOf(state)
  const { id, seq } = event
  return seq <= core.seq ? state : stateOf({ ...core, ...changeOf(core, event as StoredEvent), cursor: id, seq })
}

/** The place in the log is lost (Thread.onReset): the state before the first event again, only the status stays. */
export function reset<T = AnyAgent> ({ status }: ThreadState<T>): ThreadState<T> {
  return initialState(status)
}

/** The same with another status: what Thread.onStatus says. */
export function withStatus<T = AnyAgent> (state: ThreadState<T>, status: ThreadStatus): ThreadState<T> {
  return status === state.status ? state : stateOf({ ...coreOf(state), status })
}

function stateOf<T> (core: Core): ThreadState<T> {
  const { status, cursor } = core
  const state = {
    // only when somebody looks: that takes as long as there are messages
    get messages () { return core.messages.toArray() },
    get runs () { return core.runs.toArray() },
    status,
    cursor
  }
  cores.set(state, core)
  // the events of a typed thread are what its types say
  return state as unknown as ThreadState<T>
}

function coreOf<T> (state: ThreadState<T>): Core {
  let core = cores.get(state)
  if (core === undefined) {
    const { status, cursor } = state
    const messages = List.from(state.messages as readonly Message[])
    const runs = List.from(state.runs as readonly Run[])
    const index = new Map<string, number>()
    for (const [at, message] of state.messages.entries()) index.set(messageKey(message), at)
    for (const [at, { runId }] of state.runs.entries()) index.set(runKey(runId), at)
    core = { messages, runs, index, status, cursor, seq: Number(cursor?.split('-').at(-1) ?? 0) }
    cores.set(state, core)
  }
  return core
}

function changeOf (core: Core, event: StoredEvent): Change {
  switch (event.type) {
    case 'user_message': {
      const { messageId: id, content } = event.data
      return putMessage(core, { id, role: 'user', ...runIdOf(event), parts: partsOf(id, content) })
    }
    case 'agent_started': return {
      ...putRun(core, started(event, event.data.agent, runOf(core, event)?.startedAt)),
      ...putMessage(core, messageOf(core, event, event.data.messageId))
    }
    case 'agent_thinking': {
      const { agent, thinkingId, kind, phase, text, step } = event.data
      return putPart(core, event, agent, 'thinking', thinkingId, (part?: ThinkingPart) => ({
        type: 'thinking', id: thinkingId, kind, text: join(part, phase, text), state: stateAfter(phase), ...optional({ step: step ?? part?.step })
      }))
    }
    case 'assistant_message': {
      const { agent, messageId, partId, phase, text, finishReason } = event.data
      return putPart(core, event, agent, 'text', partId, (part?: TextPart) => ({
        type: 'text', id: partId, text: join(part, phase, text), state: stateAfter(phase), ...optional({ finishReason })
      }), messageId)
    }
    case 'tool_executing': {
      const { agent, toolCallId, tool, phase, title, args, argsText, attempt, progress, progressText } = event.data
      return putPart(core, event, agent, 'tool', toolCallId, (part?: ToolPart) => ({
        type: 'tool',
        id: toolCallId,
        toolCallId,
        tool,
        attempt,
        ...optional({ title: title ?? part?.title, progress: progress ?? part?.progress, progressText: progressText ?? part?.progressText }),
        ...phase === 'input_delta'
          ? { state: 'input', argsText: (part?.state === 'input' ? part.argsText : '') + (argsText ?? '') }
          : { state: 'running', args: args ?? part?.args ?? {} }
      }) as ToolPart)
    }
    case 'tool_completed': {
      const { agent, toolCallId, tool, status, output, error, durationMs, truncated } = event.data
      return putPart(core, event, agent, 'tool', toolCallId, (part?: ToolPart) => ({
        type: 'tool',
        id: toolCallId,
        toolCallId,
        tool,
        attempt: part?.attempt ?? 1,
        ...optional({ title: part?.title }),
        state: status,
        args: part?.args ?? {},
        ...status === 'ok' ? { output } : { error },
        durationMs,
        ...optional({ truncated })
      }) as ToolPart)
    }
    case 'custom': {
      const { name, value } = event.data
      return putPart(core, event, undefined, 'custom', event.id, () => ({ type: 'custom', id: event.id, name, value }))
    }
    case 'agent_completed': {
      const { agent, status, result, error, reason, usage, durationMs } = event.data
      const run = runOf(core, event) ?? started(event, agent, new Date(Date.parse(event.timestamp) - durationMs).toISOString())
      return putRun(core, { ...run, status, ...optional({ result, error, reason, usage }), durationMs } as Run)
    }
    default: return {}
  }
}

// ---------- runs ----------

const runKey = (runId: string | undefined) => `run ${runId}`

function runOf ({ index, runs }: Core, { runId }: StoredEvent): Run | undefined {
  const at = find(index, runKey(runId), runs, (run) => run.runId === runId)
  return at < 0 ? undefined : runs.at(at)
}

function started ({ runId, parentRunId, timestamp }: StoredEvent, agent: string, startedAt = timestamp): Run {
  return { runId: runId!, agent, status: 'running', startedAt, ...optional({ parentRunId }) }
}

function putRun ({ index, runs }: Core, run: Run): Change {
  return { runs: put(index, runKey(run.runId), runs, run, ({ runId }) => runId === run.runId) }
}

// ---------- messages ----------

/** An agent has one message per run; where there is no run, the message has its own id. */
const messageKey = ({ id, role, runId }: Pick<Message, 'id' | 'role' | 'runId'>) => role === 'assistant' && runId !== undefined ? `answer ${runId}` : `${role} ${id}`

function putMessage ({ index, messages }: Core, message: Message): Change {
  const key = messageKey(message)
  return { messages: put(index, key, messages, message, (other) => messageKey(other) === key) }
}

/** The agent's message that the event belongs to, as it is or as it begins. */
function messageOf ({ index, messages }: Core, event: StoredEvent, messageId?: string): Message {
  // one that began before what is retained has the id of its run until its own is known
  const blank: Message = { id: messageId ?? event.runId ?? event.id, role: 'assistant', ...runIdOf(event), parts: [] }
  const key = messageKey(blank)
  const at = find(index, key, messages, (message) => messageKey(message) === key)
  if (at < 0) return blank
  const message = messages.at(at)
  return messageId === undefined || messageId === message.id ? message : { ...message, id: messageId }
}

function putPart<Type extends Part['type']> (core: Core, event: StoredEvent, agent: string | undefined, type: Type, id: string, update: (part?: Extract<Part, { type: Type }>) => Part, messageId?: string): Change {
  const message = messageOf(core, event, messageId)
  const at = message.parts.findLastIndex((part) => part.type === type && part.id === id)
  const part = update(message.parts[at] as Extract<Part, { type: Type }> | undefined)
  return {
    // a run that began before what is retained
    ...agent !== undefined && event.runId !== undefined && runOf(core, event) === undefined && putRun(core, started(event, agent)),
    ...putMessage(core, { ...message, parts: at < 0 ? [...message.parts, part] : message.parts.with(at, part) })
  }
}

function partsOf (messageId: string, content: MessageContent): (TextPart | FilePart)[] {
  if (typeof content === 'string') return [{ type: 'text', id: messageId, text: content, state: 'done' }]
  return content.map((part, at) => ({ ...part, id: `${messageId}-${at}`, ...part.type === 'text' && { state: 'done' } }) as TextPart | FilePart)
}

/** The text of a block is all that its pieces say; a full one says all by itself. */
function join (part: { readonly text: string } | undefined, phase: TextPhase, text: string): string {
  return part === undefined || phase === 'full' ? text : part.text + text
}

function stateAfter (phase: TextPhase): 'streaming' | 'done' {
  return phase === 'start' || phase === 'delta' ? 'streaming' : 'done'
}

// ---------- tools ----------

function find<Item> (index: Map<string, number>, key: string, list: List<Item>, fits: (item: Item) => boolean): number {
  const at = index.get(key)
  if (at === undefined) return -1
  if (at < list.length && fits(list.at(at))) return at
  return list.toArray().findIndex(fits)
}

function put<Item> (index: Map<string, number>, key: string, list: List<Item>, item: Item, fits: (item: Item) => boolean): List<Item> {
  let at = find(index, key, list, fits)
  if (at < 0) at = list.length
  index.set(key, at)
  return list.with(at, item)
}

function runIdOf ({ runId }: StoredEvent): { runId?: string } {
  return optional({ runId })
}

/** Without what is undefined. */
function optional<Fields extends object> (fields: Fields): { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> }
}
