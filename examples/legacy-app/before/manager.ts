import type { WebSocket } from 'ws'

/** What an agent says, in this app's own form. */
export interface Message { type: string, [field: string]: unknown }

/** All that agents use of a manager. */
export interface Sender { sendMessage (threadId: string, message: Message): Promise<boolean> }

/** Knows which sockets show which thread. */
export class WebSocketManager implements Sender {
  readonly missed: string[] = []
  readonly #connections = new Map<string, Set<WebSocket>>()

  connect (threadId: string, socket: WebSocket): void {
    const sockets = this.#connections.get(threadId) ?? new Set()
    this.#connections.set(threadId, sockets.add(socket))
    socket.on('close', () => { sockets.delete(socket) })
  }

  async sendMessage (threadId: string, message: Message): Promise<boolean> {
    const sockets = this.#connections.get(threadId)
    if (sockets === undefined) {
      this.missed.push(`No connections found for thread ${threadId}`)
      return false
    }
    for (const socket of sockets) socket.send(JSON.stringify(message))
    return true
  }
}
