import type { Codebase } from './codebase.js'
import type { CallFact, FileFacts, NewFact, Place } from './facts.js'
import type { Inventory } from './inventory.js'
import { agentEvent, isAgentClass, isLookUp, isManager, isManagerClass, isParse, isRegister, isRunId, isSend, isSetManager, isSocket, isSocketSend, isThreadId } from './names.js'
import { rules, type RuleName, type Severity } from './rules.js'

/** A place where events can be lost, why, and what to do. */
export interface Finding extends Place {
  readonly rule: RuleName
  readonly severity: Severity
  readonly message: string
  readonly advice: string
}

const ENDS: Readonly<Record<string, string>> = { agent_started: 'agent_completed', tool_executing: 'tool_completed' }

/** Every finding, by file and line. */
export function findAll (codebase: Codebase, inventory: Inventory): Finding[] {
  const findings = [
    ...registryFindings(codebase, inventory),
    ...codebase.files.flatMap((file) => [
      ...file.news.flatMap((made) => bypasses(codebase, inventory, file, made)),
      ...file.calls.flatMap((call) => callFindings(codebase, inventory, file, call)),
      ...terminalFindings(file)
    ])
  ]
  return findings.sort((a, b) => a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line || (a.rule < b.rule ? -1 : 1))
}

function finding (rule: RuleName, { file, line }: Place, what: string): Finding {
  const { severity, why, advice } = rules[rule]
  return { rule, severity, file, line, message: `${what}. ${why}`, advice }
}

function registryFindings (codebase: Codebase, { registries }: Inventory): Finding[] {
  const findings: Finding[] = []
  if (registries.length > 1) {
    const list = registries.map(({ name, file, line }) => `${name} (${file}:${line})`).join(', ')
    findings.push(finding('several-registries', registries[0]!, `${registries.length} registries: ${list}`))
  }
  for (const registry of registries) {
    if (registry.kind !== 'registry' || registry.managerSets.length > 0) continue
    const one = codebase.classes.find(({ file, line, name }) => file === registry.file && line === registry.line && name === registry.name)!
    const canBeSet = [...codebase.methodsOf(one)].some(isSetManager)
    findings.push(finding('unwired-registry', registry.instances[0] ?? registry, `${registry.name} ${canBeSet ? 'could take a WebSocket manager, and none is set' : 'has no way to take a WebSocket manager'}`))
  }
  return findings
}

/** An agent that is neither made in a registration nor registered later in its file. */
function bypasses (codebase: Codebase, inventory: Inventory, file: FileFacts, { className, line, into, inClass, within }: NewFact): Finding[] {
  if (!isAgentClass(className) || within.some(isRegister)) return []
  const made = codebase.classNamed(file, className)
  if (made === undefined || ![...codebase.methodsOf(made)].some((method) => /^(?:execute|run|process|invoke|handle)/.test(method))) return []
  if (into !== '' && file.calls.some(({ method, args }) => isRegister(method) && args.some(({ name }) => name === into))) return []
  const maker = codebase.classNamed(file, inClass)
  if (inventory.registryOf(maker)?.kind === 'registry') return []
  return [finding('factory-bypass', { file: file.file, line }, `${inClass === '' ? 'Code' : inClass} makes a ${className} itself`)]
}

function callFindings (codebase: Codebase, inventory: Inventory, file: FileFacts, call: CallFact): Finding[] {
  return [...sendFindings(codebase, inventory, file, call), ...idFindings(call)]
}

function sendFindings (codebase: Codebase, inventory: Inventory, file: FileFacts, call: CallFact): Finding[] {
  const { receiver, method, args, handling, inClass } = call
  const event = args.map((argument) => argument.event).find((type) => type !== undefined)
  const isOwnManager = isManagerClass(inClass)
  if (isSocket(receiver) && isSocketSend(method) && agentEvent(event) !== undefined && !isOwnManager) {
    return [finding('direct-send', call, `'${event}' goes straight to a socket`)]
  }
  if (receiver === '' || !isSend(method) || !(isManager(receiver) || isSocket(receiver)) || isOwnManager) return []
  // app.notifier, which is what the advice is to use.
  const isOurs = codebase.usesMaster && receiver === 'notifier' && /^sendTo(?:Thread|User)$/.test(method)
  const findings: Finding[] = []
  if (event !== undefined && !isOurs) findings.push(finding('direct-send', call, `'${event}' goes to whatever manager '${receiver}' is`))
  if (handling === 'dropped') findings.push(finding('fire-and-forget', call, `Nobody waits for ${receiver}.${method}()`))
  if (handling === 'swallowed') findings.push(finding('fire-and-forget', call, `Whatever ${receiver}.${method}() rejects with is swallowed`))
  if (args.length > 1 && args[0]!.keyword === undefined && isRunId(args[0]!.name)) findings.push(finding('run-id-as-thread-id', call, `${receiver}.${method}(${args[0]!.name}, …)`))
  const known = codebase.managers
  if (known.length > 0 && !isOurs && inventory.registryOf(codebase.classOf(file, receiver)) === undefined && !known.some((manager) => codebase.methodsOf(manager).has(method))) {
    findings.push(finding('unknown-manager-method', call, `${known.map(({ name }) => name).join(', ')} has no ${method}()`))
  }
  return findings
}

function idFindings (call: CallFact): Finding[] {
  const { receiver, method, args, within } = call
  const findings: Finding[] = []
  for (const { keyword, name, fields } of args) {
    if (keyword !== undefined && isThreadId(keyword) && isRunId(name)) findings.push(finding('run-id-as-thread-id', call, `${keyword}=${name}`))
    for (const [key, value] of fields ?? []) if (isThreadId(key) && isRunId(value)) findings.push(finding('run-id-as-thread-id', call, `${key}: ${value}`))
  }
  const takesApart = isParse(method) && (isRunId(receiver) || args.some(({ name }) => isRunId(name)) || (args[0]?.text?.includes('_run_') === true))
  // A guess that is looked up at once is checked.
  if (takesApart && !isLookUp(within)) findings.push(finding('run-id-parsing', call, `${receiver}.${method}()`))
  return findings
}

/** What is begun in a function and never ended, or only when nothing throws. */
function terminalFindings ({ calls }: FileFacts): Finding[] {
  const findings: Finding[] = []
  const said = calls.flatMap((call) => {
    const event = agentEvent(call.args.map((argument) => argument.event).find((type) => type !== undefined) ?? call.args.find(({ text }) => agentEvent(text) !== undefined)?.text)
    return event !== undefined && isSaying(call) ? [{ call, event }] : []
  })
  for (const { call, event } of said) {
    const end = ENDS[event]
    if (end === undefined) continue
    const ends = said.filter((other) => other.event === end)
    const here = ends.filter((other) => other.call.inFunction === call.inFunction)
    if (ends.length === 0) findings.push(finding('missing-terminal-event', call, `'${event}' is sent and '${end}' nowhere in this file`))
    else if (here.length > 0 && !here.some((other) => other.call.isSafe)) findings.push(finding('missing-terminal-event', call, `'${end}' is only sent when nothing throws (line ${here[0]!.call.line})`))
  }
  return findings
}

function isSaying ({ receiver, method }: CallFact): boolean {
  return receiver !== '' && (isSend(method) || (isSocket(receiver) && isSocketSend(method)) || (isManager(receiver) && /^(?:emit|publish)/.test(method)))
}
