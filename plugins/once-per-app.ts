import type { FastifyInstance } from 'fastify'
import { FAE_ERR_ALREADY_REGISTERED } from '../errors.js'

/** The server is the one object that every scope of an app shares; encapsulation hides a second decorator, not this. */
const claimed = new WeakMap<FastifyInstance['server'], Set<string>>()

/**
 * Claims a name for the whole app: root, children and siblings.
 * @throws FAE_ERR_ALREADY_REGISTERED on the second claim, which fails the boot
 */
export function oncePerApp (app: FastifyInstance, name: string): void {
  let names = claimed.get(app.server)
  if (names === undefined) claimed.set(app.server, names = new Set())
  if (names.has(name)) throw new FAE_ERR_ALREADY_REGISTERED(name)
  names.add(name)
}
