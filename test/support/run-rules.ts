import type { AgentEvent, EventOf } from '../../schemas/index.js'

/** What must be true of the events of a thread, whatever happened in it. @returns what is not; empty when all is well */
export function brokenRules (events: readonly AgentEvent[]): string[] {
  const broken: string[] = []
  for (const [index, { seq, type }] of events.entries()) {
    if (index > 0 && seq !== events[index - 1]!.seq + 1) broken.push(`${type} has seq ${seq} after ${events[index - 1]!.seq}`)
  }
  const runIds = new Set(events.flatMap(({ runId, type }) => runId === undefined || type === 'user_message' ? [] : [runId]))
  for (const runId of runIds) broken.push(...brokenRulesOfRun(runId, eventsOf(events, runId)))
  return broken
}

function brokenRulesOfRun (runId: string, events: readonly AgentEvent[]): string[] {
  const broken: string[] = []
  const started = events.filter(({ type }) => type === 'agent_started')
  const completed = events.filter((event): event is EventOf<'agent_completed'> => event.type === 'agent_completed')
  if (started.length !== 1) broken.push(`${runId} has ${started.length} agent_started`)
  if (completed.length !== 1) broken.push(`${runId} has ${completed.length} agent_completed`)
  if (events[0]!.type !== 'agent_started') broken.push(`${runId} begins with ${events[0]!.type}`)
  if (events.at(-1)!.type !== 'agent_completed') broken.push(`${runId} ends with ${events.at(-1)!.type}`)
  const end = completed[0]
  if (end !== undefined) {
    const tools = new Set(events.flatMap((event) => event.type === 'tool_executing' ? [event.data.toolCallId] : []))
    if (end.data.firstSeq !== started[0]?.seq) broken.push(`${runId} says firstSeq ${end.data.firstSeq}, its agent_started has ${started[0]?.seq}`)
    if (end.data.counts.events !== events.length) broken.push(`${runId} counts ${end.data.counts.events} events of ${events.length}`)
    if (end.data.counts.tools !== tools.size) broken.push(`${runId} counts ${end.data.counts.tools} tools of ${tools.size}`)
  }
  const open = new Set<string>()
  const over = new Set<string>()
  const early = new Set<string>()
  const step = (id: string, phase: 'open' | 'go on' | 'close'): void => {
    if (over.has(id)) broken.push(`${id} of ${runId} goes on after its end`)
    else if (phase === 'open' && open.has(id)) broken.push(`${id} of ${runId} begins twice`)
    else if (phase !== 'open' && !open.has(id) && !(phase === 'close' && early.has(id))) broken.push(`${id} of ${runId} was never begun`)
    if (phase === 'open') open.add(id)
    if (phase === 'close') {
      open.delete(id)
      over.add(id)
    }
  }
  for (const event of events) {
    // The arguments as a model writes them come before the call.
    if (event.type === 'tool_executing' && event.data.phase === 'input_delta' && !over.has(event.data.toolCallId)) early.add(event.data.toolCallId)
    else if (event.type === 'tool_executing') step(event.data.toolCallId, event.data.phase === 'start' ? 'open' : 'go on')
    if (event.type === 'tool_completed') step(event.data.toolCallId, 'close')
    if (event.type !== 'agent_thinking' && event.type !== 'assistant_message') continue
    const id = event.type === 'agent_thinking' ? event.data.thinkingId : event.data.partId
    if (event.data.phase !== 'full') step(id, event.data.phase === 'start' ? 'open' : event.data.phase === 'end' ? 'close' : 'go on')
  }
  for (const id of early) if (!over.has(id)) broken.push(`${id} of ${runId} is still open at its end`)
  for (const id of open) broken.push(`${id} of ${runId} is still open at its end`)
  return broken
}

/** The events of one run. */
export function eventsOf (events: readonly AgentEvent[], runId: string): AgentEvent[] {
  return events.filter((event) => event.runId === runId && event.type !== 'user_message')
}
