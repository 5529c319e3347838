/*
 * How the things that the audit looks for are called, in both spellings.
 */

const LIFECYCLE = ['agent_started', 'agent_thinking', 'agent_completed', 'tool_executing', 'tool_completed', 'assistant_message']

/** One that needs its name looked at only once. */
function remembered<Answer> (answer: (name: string) => Answer): (name: string) => Answer {
  const known = new Map<string, Answer>()
  return (name) => {
    if (known.has(name)) return known.get(name)!
    const given = answer(name)
    // Names repeat; texts, which do not, must not fill the memory.
    if (known.size < MAX_REMEMBERED) known.set(name, given)
    return given
  }
}

const MAX_REMEMBERED = 20_000

/** A file without any of these words has nothing that the audit looks for. */
const WORDS = /agent|tool|regist|factory|socket|manager|notif|broadcast|run_?id|thread_?id|_run_/i
export const mayMatter = (source: string): boolean => WORDS.test(source)

/** agentStarted, agent.started and AGENT_STARTED are agent_started. */
export function toSnakeCase (name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').replace(/[.\-:]/g, '_').toLowerCase()
}

/** The event of an agent that a text names, if it is one. */
export function agentEvent (text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const name = toSnakeCase(text)
  return LIFECYCLE.includes(name) ? name : undefined
}

export const isRunId = remembered((name) => /^(?:\w*_)?run_id$/.test(toSnakeCase(name)))
export const isThreadId = remembered((name) => /^(?:\w*_)?thread_id$/.test(toSnakeCase(name)))
/** What holds sockets, by the name of a variable. */
export const isManager = remembered((name) => /^(?:\w*_)?(?:ws|websocket|web_socket|connection)_?(?:manager|notifier|bridge|emitter)?$|^(?:\w*_)?(?:manager|notifier)$/.test(toSnakeCase(name)))
export const isSocket = remembered((name) => /^(?:\w*_)?(?:ws|socket|websocket|web_socket|client|conn|connection)$/.test(toSnakeCase(name)))
export const isManagerClass = remembered((name) => /(?:WebSocket|Websocket|Connection|WS)\w*(?:Manager|Notifier|Bridge)$/.test(name))
/** Sends something to users, by the name of a method. */
export const isSend = remembered((method) => /^(?:send_(?:message|event|to_thread|to_user|update|notification|agent_\w+|tool_\w+)|notify(?:_\w+)?|emit_(?:event|message|agent_\w+|tool_\w+)|broadcast(?:_\w+)?|publish_event)$/.test(toSnakeCase(method)))
export const isSocketSend = remembered((method) => /^(?:send|send_json|send_text|send_bytes)$/.test(toSnakeCase(method)))
export const isSetManager = remembered((method) => /^set_(?:web_socket|websocket|ws|connection)_?(?:manager|notifier|bridge)$|^set_notifier$/.test(toSnakeCase(method)))
export const isRegister = remembered((method) => /^(?:register|add)(?:_(?:agents?|tools?|class|factory))?$/.test(toSnakeCase(method)))
export const isCreate = remembered((method) => /^(?:create|get|make|build|resolve)(?:_(?:agent|tool|instance|agent_instance))?$/.test(toSnakeCase(method)))
export const isAgentClass = remembered((name) => /\wAgent$/.test(name))
export const isFactory = remembered((name) => /factory$/i.test(name))
export const isRegistryClass = remembered((name) => /(?:Agent|Tool|Universal|Skill)\w*Registry$/.test(name))
/** Takes a text apart, or a part out of it. */
export const isParse = remembered((method) => /^(?:split|rsplit|partition|rpartition|slice|substring|substr|replace|match|exec|removeprefix|removesuffix)$/.test(method))
/** Looks an id up, so that a guess is checked. */
export const isLookUp = remembered((method) => /^(?:find|get|has|exists|resolve|look_?up)(?:_?\w+)?$/.test(toSnakeCase(method)))

/** Whether the audit has a rule for calls of this method. */
export const matters = remembered((method) => isSend(method) || isSocketSend(method) || isSetManager(method) || isRegister(method) || isCreate(method) || isParse(method) || /^(?:emit|publish)/.test(method))
