export { initialState, reduce, reset, withStatus } from './reduce.js'
export type { CustomPart, FilePart, Message, Part, Run, TextPart, ThinkingPart, ThreadState, ToolPart } from './types.js'
