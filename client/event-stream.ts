/** What a server sends in one event of text/event-stream. */
export interface StreamMessage { readonly type: string, readonly data: string }

/** Takes text as it comes and gives the messages that are complete. Ids and comments are of no use here. */
export class EventStreamParser {
  readonly #decoder = new TextDecoder()
  #rest = ''
  #type = ''
  #data: string[] = []

  push (bytes: Uint8Array): StreamMessage[] {
    const messages: StreamMessage[] = []
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split(/\r\n|\n|\r(?!$)/)
    this.#rest = lines.pop()!
    for (const line of lines) {
      if (line === '') {
        if (this.#data.length > 0) messages.push({ type: this.#type, data: this.#data.join('\n') })
        this.#type = ''
        this.#data = []
        continue
      }
      const [, name, value = ''] = /^([^:]*):? ?(.*)$/s.exec(line)!
      if (name === 'event') this.#type = value
      if (name === 'data') this.#data.push(value)
    }
    return messages
  }
}
