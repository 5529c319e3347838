import { jsonSchema, stepCountIs, streamText, tool, type LanguageModel, type ModelMessage, type ToolSet } from 'ai'
import { defineAgent, type AgentContext, type AnyTool } from 'fastify-agent-events'

export interface AssistantOptions {
  /** Any model of the AI SDK. */
  model: LanguageModel
  /** What the model may call. @default none */
  tools?: readonly AnyTool[]
  /** The system prompt. @default none */
  instructions?: string
  /** How often the model may go on after its tools have answered. @default 10 */
  maxSteps?: number
}

/** An agent whose work is done by a language model: what it reasons, says and calls becomes the events of its run. */
export function createAssistant ({ model, tools = [], instructions, maxSteps = 10 }: AssistantOptions) {
  return defineAgent({
    name: 'assistant',
    description: 'Answers with a language model, and with tools where it needs them',
    tools,
    async run ({ message }, ctx) {
      const blocks = new Map<string, Block>()
      const turns = new Turns()
      const result = streamText({
        model,
        messages: await conversation(message, ctx),
        tools: toolSet(tools, async (name, input, toolCallId) => {
          await turns.reached(toolCallId)
          return ctx.callTool(name, input, { toolCallId })
        }),
        stopWhen: stepCountIs(maxSteps),
        abortSignal: ctx.signal,
        onError: () => {}, // it comes as a part too, and ends the run there
        ...(instructions !== undefined && { system: instructions })
      })
      try {
        for await (const part of result.fullStream) {
          switch (part.type) {
            case 'reasoning-start':
              blocks.set(part.id, new Block((text) => ctx.think(text, { kind: 'reasoning' })))
              break
            case 'text-start':
              blocks.set(part.id, new Block((text) => ctx.say(text)))
              break
            case 'reasoning-delta':
            case 'text-delta':
              await blocks.get(part.id)?.write(part.text)
              break
            case 'reasoning-end':
            case 'text-end':
              await blocks.get(part.id)?.end()
              blocks.delete(part.id)
              break
            case 'tool-call':
              turns.reach(part.toolCallId)
              break
            case 'finish-step':
              ctx.usage({
                model: part.response.modelId,
                inputTokens: part.usage.inputTokens ?? 0,
                outputTokens: part.usage.outputTokens ?? 0,
                totalTokens: part.usage.totalTokens ?? 0
              })
              break
            case 'error':
              throw part.error
          }
        }
        ctx.signal.throwIfAborted()
        return { text: await result.text, finishReason: await result.finishReason }
      } finally {
        await Promise.allSettled([...blocks.values()].map((block) => block.end()))
      }
    }
  })
}

/** What was said in the thread so far. A run that no message of the thread has started brings its own. */
async function conversation (message: string, ctx: AgentContext): Promise<ModelMessage[]> {
  const said = (await ctx.messages()).filter(({ content }) => content !== '').map(({ role, content }) => ({ role, content }))
  return said.at(-1)?.content === message ? said : [...said, { role: 'user', content: message }]
}

/** Tools as the model sees them: TypeBox is JSON Schema. Their arguments are checked where they are called. */
function toolSet (tools: readonly AnyTool[], call: (name: string, input: unknown, toolCallId: string) => Promise<unknown>): ToolSet {
  return Object.fromEntries(tools.map(({ name, description, inputSchema }) => [name, tool({
    description,
    inputSchema: jsonSchema(inputSchema),
    execute: (input: unknown, { toolCallId }) => call(name, input, toolCallId)
  })]))
}

/** One block of text on its way from the model to the thread. Blocks may overlap, so each has a stream of its own. */
class Block {
  readonly #writer: WritableStreamDefaultWriter<string>
  readonly #shown: Promise<unknown>

  constructor (show: (text: AsyncIterable<string>) => Promise<unknown>) {
    const { readable, writable } = new TransformStream<string, string>()
    this.#writer = writable.getWriter()
    this.#shown = show(readable)
    // Why it failed shows where the block is written to.
    this.#shown.catch(() => {})
  }

  write (text: string): Promise<void> {
    return this.#writer.write(text)
  }

  /** Resolves once everything is stored. */
  async end (): Promise<void> {
    await this.#writer.close()
    await this.#shown
  }
}

/** The SDK may start a tool before we have read what the model said before the call: the tool waits for its turn. */
class Turns {
  readonly #turns = new Map<string, { reached: Promise<void>, reach: () => void }>()

  reach (toolCallId: string): void {
    this.#get(toolCallId).reach()
  }

  reached (toolCallId: string): Promise<void> {
    return this.#get(toolCallId).reached
  }

  #get (toolCallId: string) {
    let turn = this.#turns.get(toolCallId)
    if (turn === undefined) {
      let reach = () => {}
      const reached = new Promise<void>((resolve) => { reach = resolve })
      this.#turns.set(toolCallId, turn = { reached, reach })
    }
    return turn
  }
}
