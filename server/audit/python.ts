import { emptyFacts, type Argument, type CallFact, type FileFacts, type Handling } from './facts.js'
import { isRunId, matters, mayMatter } from './names.js'

/*
 * Python, as far as patterns go: classes, what is made of them, calls with their arguments, and what becomes of the
 * result. Indentation tells what is in what; strings and comments are blanked before anything is looked for.
 */

interface Block { readonly indent: number, readonly kind: 'class' | 'def' | 'safe' | 'swallowed', readonly name: string }

const CLASS = /^class\s+(\w+)\s*(?:\(([^)]*)\))?/
const DEFINITION = /^(?:async\s+)?def\s+(\w+)/
const CALL = /((?:[A-Za-z_]\w*(?:\([^()]*\))?\s*\.\s*)*)([A-Za-z_]\w*)\s*\(/g
const KEYWORDS = new Set(['if', 'elif', 'while', 'for', 'return', 'and', 'or', 'not', 'in', 'is', 'await', 'yield', 'lambda', 'with', 'assert', 'del', 'print', 'def', 'class', 'except', 'raise'])
const COLLECTION = /=\s*(?:\{|\[|dict\(|list\(|set\(|defaultdict\(|OrderedDict\(|WeakValueDictionary\()/

export function scanPython (file: string, source: string): FileFacts {
  const facts = emptyFacts(file)
  if (!mayMatter(source)) return facts
  const code = blank(source)
  const lines = code.split('\n')
  const blocks: Block[] = []
  const starts = lineStarts(code)
  let depth = 0
  for (const [index, line] of lines.entries()) {
    const isContinued = depth > 0
    for (const character of line) depth += '([{'.includes(character) ? 1 : ')]}'.includes(character) ? -1 : 0
    const text = line.trim()
    if (text === '') continue
    const indent = line.length - line.trimStart().length
    if (!isContinued) {
      while (blocks.length > 0 && blocks.at(-1)!.indent >= indent) blocks.pop()
      open(facts, { file, line: index + 1 }, text, lines, index, indent, blocks)
      readImport(facts, text)
      const field = /^(?:self\.|cls\.)?_*(\w+)\s*(?::[^=]+)?=\s*(?:await\s+)?(?:\w+\.)*([A-Z]\w*)\(/.exec(text)
      if (field !== null) facts.kinds.set(field[1]!, field[2]!)
    }
    for (const match of line.matchAll(CALL)) {
      if (KEYWORDS.has(match[2]!) || /^(?:async\s+)?(?:def|class)\s/.test(text)) continue
      addCall(facts, { file, line: index + 1 }, match, line, isContinued, { source, code, at: starts[index]! + match.index }, blocks)
    }
  }
  return facts
}

function open (facts: FileFacts, place: { file: string, line: number }, text: string, lines: readonly string[], index: number, indent: number, blocks: Block[]): void {
  const made = CLASS.exec(text)
  const defined = DEFINITION.exec(text)
  if (made !== null) {
    const body = bodyOf(lines, index, indent)
    facts.classes.push({
      ...place,
      name: made[1]!,
      bases: (made[2] ?? '').split(',').map((base) => base.trim().split('.').at(-1)!).filter((base) => /^\w+$/.test(base)),
      methods: new Set(body.flatMap((line) => DEFINITION.exec(line.trim())?.[1] ?? [])),
      keeps: body.some((line) => /^\s*(?:self|cls)\.\w+\s*(?::[^=]+)?=/.test(line) && COLLECTION.test(line)) || body.some((line) => /^\s*_?\w+\s*(?::[^=]+)?=/.test(line) && COLLECTION.test(line) && line.search(/\S/) === body[0]?.search(/\S/))
    })
    blocks.push({ indent, kind: 'class', name: made[1]! })
  } else if (defined !== null) {
    blocks.push({ indent, kind: 'def', name: `${defined[1]!}:${place.line}` })
  } else if (/^(?:finally|except\b[^:]*):/.test(text)) {
    blocks.push({ indent, kind: 'safe', name: '' })
  } else if (/^try:/.test(text) && isSwallowing(lines, index, indent)) {
    blocks.push({ indent, kind: 'swallowed', name: '' })
  }
}

function readImport (facts: FileFacts, text: string): void {
  const from = /^from\s+([\w.]+)\s+import\s+\(?(.+?)\)?$/.exec(text)
  if (from === null) return
  for (const part of from[2]!.split(',')) {
    const [name, local = name] = part.trim().split(/\s+as\s+/)
    if (name !== undefined && local !== undefined && name !== '') facts.imports.set(local, { from: from[1]!, name })
  }
}

function addCall (facts: FileFacts, place: { file: string, line: number }, match: RegExpMatchArray, line: string, isContinued: boolean, where: { source: string, code: string, at: number }, blocks: readonly Block[]): void {
  const before = line.slice(0, match.index).trim()
  const method = match[2]!
  const chain = match[1]!.replace(/\([^()]*\)/g, '').split('.').map((part) => part.trim()).filter((part) => part !== '')
  const inClass = blocks.findLast(({ kind }) => kind === 'class')?.name ?? ''
  const within = /([A-Za-z_]\w*)\s*\($/.exec(before)?.[1] ?? ''
  const task = /(?:create_task|ensure_future|run_coroutine_threadsafe)\($/.exec(before)
  const outer = task === null ? before : before.slice(0, task.index).replace(/[\w.]*$/, '')
  const sinceDefinition = blocks.slice(blocks.findLastIndex(({ kind }) => kind === 'def') + 1)
  const isSwallowed = sinceDefinition.some(({ kind }) => kind === 'swallowed')
  const handling: Handling = /\bawait$/.test(before) ? isSwallowed ? 'swallowed' : 'awaited' : outer === '' && !isContinued ? 'dropped' : 'used'
  if (/^[A-Z]/.test(method)) {
    const into = /(?:self\.|cls\.)?_*(\w+)\s*(?::[^=]+)?=$/.exec(before)?.[1] ?? ''
    const around = [...line.slice(0, match.index).matchAll(/([A-Za-z_]\w*)\s*\(/g)].map(([, name]) => name!).reverse()
    facts.news.push({ ...place, className: method, into, inClass, within: around })
    return
  }
  const args = readArguments(where, match[0].length)
  if (!matters(method) && !args.some(({ fields, keyword }) => fields !== undefined || keyword !== undefined)) return
  const call: CallFact = {
    ...place,
    receiver: (chain.at(-1) ?? '').replace(/^_+/, ''),
    method,
    args,
    handling,
    inClass,
    inFunction: `${place.file}:${blocks.findLast(({ kind }) => kind === 'def')?.name ?? ''}`,
    isSafe: sinceDefinition.some(({ kind }) => kind === 'safe'),
    within
  }
  facts.calls.push(call)
}

function readArguments ({ source, code, at }: { source: string, code: string, at: number }, length: number): Argument[] {
  const args: Argument[] = []
  let depth = 1
  let start = at + length
  for (let end = start; end < code.length && depth > 0; end++) {
    const character = code[end]!
    if ('([{'.includes(character)) depth++
    if (')]}'.includes(character)) depth--
    if (depth > 1 || (depth === 1 && character !== ',')) continue
    if (code.slice(start, end).trim() !== '' || source.slice(start, end).trim() !== '') args.push(readArgument(source.slice(start, end).trim()))
    start = end + 1
  }
  return args
}

function readArgument (text: string): Argument {
  const keyword = /^(\w+)\s*=(?!=)\s*/.exec(text)
  const value = keyword === null ? text : text.slice(keyword[0].length)
  const literal = /^[rbf]?(?:"([^"\n]*)"|'([^'\n]*)')$/.exec(value)
  const event = /["'](?:type|event|event_type)["']\s*:\s*["']([\w.:-]+)["']/.exec(value)?.[1] ?? /^\w+\([^)]*?\b(?:type|event_type)\s*=\s*["']([\w.:-]+)["']/.exec(value)?.[1]
  const fields = value.startsWith('{') ? new Map([...value.matchAll(/["'](\w+)["']\s*:\s*(?:\w+\.)*(\w+)/g)].map(([, key, name]) => [key!, name!] as const).filter(([, name]) => isRunId(name))) : undefined
  return {
    name: /^(?:\w+\.)*_*(\w+)$/.exec(value)?.[1] ?? '',
    ...(keyword !== null && { keyword: keyword[1]! }),
    ...(literal !== null && { text: literal[1] ?? literal[2] ?? '' }),
    ...(event !== undefined && { event }),
    ...(fields !== undefined && fields.size > 0 && { fields })
  }
}

/** A try whose except passes. */
function isSwallowing (lines: readonly string[], index: number, indent: number): boolean {
  for (let next = index + 1; next < lines.length; next++) {
    const text = lines[next]!.trim()
    if (text === '' || lines[next]!.search(/\S/) > indent) continue
    if (lines[next]!.search(/\S/) < indent || !text.startsWith('except')) return false
    return text.endsWith(': pass') || lines.slice(next + 1).find((line) => line.trim() !== '')?.trim() === 'pass'
  }
  return false
}

function bodyOf (lines: readonly string[], index: number, indent: number): string[] {
  const body: string[] = []
  for (const line of lines.slice(index + 1)) {
    if (line.trim() === '') continue
    if (line.search(/\S/) <= indent) break
    body.push(line)
  }
  return body
}

function lineStarts (code: string): number[] {
  const starts = [0]
  for (let at = code.indexOf('\n'); at >= 0; at = code.indexOf('\n', at + 1)) starts.push(at + 1)
  return starts
}

/** The source with comments and the insides of strings as spaces: every place stays where it was. */
function blank (source: string): string {
  return source.replace(/("""|''')[\s\S]*?\1|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*/g, (text) => text.replace(/[^\n]/g, ' '))
}
