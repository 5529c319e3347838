import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'

/** Names this process for people too, and tells it from an earlier one with the same id on the same machine. */
export function newNodeName (): string {
  return `${hostname().replaceAll(/[^\w.-]/g, '-')}:${process.pid}:${randomBytes(4).toString('hex')}`
}
