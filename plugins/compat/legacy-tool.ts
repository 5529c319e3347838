import { Type } from '@sinclair/typebox'
import { FAE_ERR_TOOL_INVALID } from '../../errors.js'
import { defineTool, type AnyTool } from '../tool-dispatcher/define-tool.js'
import { isRecord } from './message.js'

/** A tool as older registries know it. */
export interface LegacyTool {
  name: string
  description?: string
  /** JSON schema of the arguments, for the model; not checked. */
  parameters?: Readonly<Record<string, unknown>>
  execute? (args: any, context?: any): unknown
  run? (args: any, context?: any): unknown
}

const definitions = new WeakMap<object, AnyTool>()
const legacy = new WeakSet<AnyTool>()

/**
 * A tool of this registry that runs a legacy one; the same tool gives the same definition.
 * @throws FAE_ERR_TOOL_INVALID that names the field
 */
export function fromLegacyTool (tool: LegacyTool | AnyTool): AnyTool {
  if (!isRecord(tool)) throw new FAE_ERR_TOOL_INVALID(String(tool), 'expected an object')
  let definition = definitions.get(tool)
  if (definition === undefined) definitions.set(tool, definition = define(tool))
  return definition
}

/** Whether it is a legacy one, that never had a context. */
export function isLegacyTool (tool: AnyTool): boolean {
  return legacy.has(tool)
}

function define (tool: LegacyTool | AnyTool): AnyTool {
  if ('inputSchema' in tool) return tool
  const { name, description, parameters } = tool
  const method = tool.execute ?? (tool as LegacyTool).run
  if (typeof method !== 'function') throw new FAE_ERR_TOOL_INVALID(name, 'execute must be a function')
  const definition = defineTool({
    name,
    description: description ?? name,
    // The older schema goes along for the model; its dialect is not ours to check.
    inputSchema: Type.Unknown(isRecord(parameters) ? { ...parameters } : {}),
    execute: async (args: unknown, context): Promise<unknown> => method.call(tool, args, context)
  })
  legacy.add(definition)
  return definition
}
