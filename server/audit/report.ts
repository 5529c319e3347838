import type { Unreadable } from './files.js'
import type { Finding } from './findings.js'
import type { Registry } from './inventory.js'
import type { Place } from './facts.js'

export interface Report {
  readonly summary: {
    readonly files: number
    readonly registries: number
    /** By severity. */
    readonly findings: { readonly high: number, readonly medium: number, readonly low: number }
    readonly unreadable: number
    /** fastify-agent-events is imported somewhere. */
    readonly usesMaster: boolean
    /** Where a WebSocket manager is set on something that is no registry. */
    readonly otherManagerSets: readonly Place[]
  }
  readonly registries: readonly Registry[]
  readonly findings: readonly Finding[]
  readonly unreadable: readonly Unreadable[]
}

export type Format = 'table' | 'json' | 'markdown' | 'mermaid'
export const formats: readonly Format[] = ['table', 'json', 'markdown', 'mermaid']

export function render (report: Report, format: Format): string {
  switch (format) {
    case 'json': return `${JSON.stringify(report, undefined, 2)}\n`
    case 'markdown': return renderMarkdown(report)
    case 'mermaid': return renderMermaid(report)
    case 'table': return renderTable(report)
  }
}

function renderTable (report: Report): string {
  const { registries, findings, unreadable } = report
  const parts = [headline(report)]
  if (registries.length > 0) parts.push(columns([['REGISTRY', 'AT', 'MADE', 'REGISTERS', 'CREATES', 'MANAGER SET'], ...registries.map((registry) => [registry.name, at(registry), count(registry.instances), count(registry.registrations), count(registry.creations), count(registry.managerSets)])]))
  if (findings.length > 0) parts.push(columns([['SEVERITY', 'RULE', 'AT'], ...findings.map((found) => [found.severity, found.rule, at(found)])], findings.map(({ message, advice }) => `    ${message}\n    -> ${advice}`)))
  if (unreadable.length > 0) parts.push(columns([['NOT READ', 'WHY'], ...unreadable.map(({ file, reason }) => [file, oneLine(reason)])]))
  return `${parts.join('\n\n')}\n`
}

function columns (rows: readonly string[][], below: readonly string[] = []): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row, index) => {
    const line = row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd()
    return index > 0 && below[index - 1] !== undefined ? `${line}\n${below[index - 1]}` : line
  }).join('\n')
}

function renderMarkdown (report: Report): string {
  const { registries, findings, unreadable, summary } = report
  const parts = ['# Registry audit', headline(report)]
  if (registries.length > 0) {
    parts.push('## Registries', table(['Registry', 'Kind', 'Declared', 'Made', 'Registered with', 'Created from', 'Manager set'],
      registries.map((registry) => [`\`${registry.name}\``, registry.kind, at(registry), ...[registry.instances, registry.registrations, registry.creations, registry.managerSets].map(places)])))
  }
  if (summary.otherManagerSets.length > 0) parts.push(`A WebSocket manager is also set past the registries: ${places(summary.otherManagerSets)}.`)
  if (findings.length > 0) parts.push('## Where events can be lost', table(['Severity', 'Rule', 'Place', 'What and why', 'What to do'], findings.map((found) => [found.severity, `\`${found.rule}\``, at(found), cell(found.message), cell(found.advice)])))
  if (unreadable.length > 0) parts.push('## Not read', table(['File', 'Why'], unreadable.map(({ file, reason }) => [cell(file), cell(reason)])))
  parts.push('## Who uses what', `\`\`\`mermaid\n${renderMermaid(report)}\`\`\``)
  return `${parts.join('\n\n')}\n`
}

function table (head: readonly string[], rows: readonly string[][]): string {
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

/** Registries, the files that use them, the manager, and what goes past all of them. */
function renderMermaid ({ registries, findings, summary }: Report): string {
  const lines = ['flowchart LR']
  const files = new Map<string, string>()
  const idOf = (file: string): string => {
    let id = files.get(file)
    if (id === undefined) {
      files.set(file, id = `f${files.size + 1}`)
      lines.push(`  ${id}["${label(file)}"]`)
    }
    return id
  }
  const edges = new Set<string>()
  const edge = (from: string, to: string, text: string): void => { edges.add(`  ${from} -->|"${text}"| ${to}`) }
  const isSocketUsed = registries.some(({ managerSets }) => managerSets.length > 0) || summary.otherManagerSets.length > 0 || findings.some(({ rule }) => rule === 'direct-send')
  if (isSocketUsed) lines.push('  socket(["WebSocket manager"])')
  for (const [index, registry] of registries.entries()) {
    const id = `r${index + 1}`
    lines.push(registry.kind === 'factory' ? `  ${id}{{"${label(registry.name)}"}}` : `  ${id}[("${label(registry.name)}")]`)
    for (const { file } of registry.registrations) edge(idOf(file), id, 'registers')
    for (const { file } of registry.creations) edge(idOf(file), id, 'creates')
    if (registry.managerSets.length > 0) edge(id, 'socket', 'wired')
    else if (registry.kind === 'registry') edges.add(`  ${id} -.->|"not wired"| nowhere(("nowhere"))`)
  }
  for (const { rule, file } of findings) {
    if (rule === 'direct-send') edge(idOf(file), 'socket', 'sends past the registry')
    if (rule === 'factory-bypass') edge(idOf(file), idOf(file), 'makes agents itself')
  }
  lines.push(...edges)
  if (lines.length === 1) lines.push('  none["No registries found"]')
  return `${lines.join('\n')}\n`
}

function headline ({ summary: { files, registries, findings: { high, medium, low }, unreadable, usesMaster } }: Report): string {
  return `${files} files: ${registries} ${registries === 1 ? 'registry' : 'registries'}${usesMaster ? ' beside fastify-agent-events' : ''}; findings: ${high} high, ${medium} medium, ${low} low; ${unreadable} not read.`
}

const at = ({ file, line }: Place): string => `${file}:${line}`
const count = (list: readonly Place[]): string => String(list.length)
const places = (list: readonly Place[]): string => list.length === 0 ? '–' : list.map(at).join(', ')
const oneLine = (text: string): string => text.replace(/\s+/g, ' ')
const cell = (text: string): string => oneLine(text).replaceAll('|', '\\|')
/** Text inside quotes of a Mermaid node. */
const label = (text: string): string => text.replace(/[&"<>#`\\\n]/g, (character) => `#${character.charCodeAt(0)};`)
