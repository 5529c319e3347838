/* The one place that knows of a page; without one (Node, a worker) nothing is listened to. */
type Listen = (type: string, listener: (event: { type: string }) => void) => void
interface Target { addEventListener?: Listen, removeEventListener?: Listen }

/** The network is back or gone, the page is shown again or becomes visible. */
export type Waking = 'online' | 'offline' | 'pageshow' | 'visibilitychange'

/**
 * Calls the listener at moments at which waiting longer is pointless.
 * @returns stops listening
 */
export function onWake (listener: (type: Waking) => void): () => void {
  const page = globalThis as unknown as Target & { document?: Target & { visibilityState?: string } }
  const { document } = page
  const onEvent = ({ type }: { type: string }) => {
    if (type !== 'visibilitychange' || document?.visibilityState === 'visible') listener(type as Waking)
  }
  const targets = [[page, 'online'], [page, 'offline'], [page, 'pageshow'], [document, 'visibilitychange']] as const
  // not with the signal of an AbortController: a page in Node (jsdom) has another one than Node
  const each = (method: keyof Target) => { for (const [target, type] of targets) target?.[method]?.(type, onEvent) }
  each('addEventListener')
  return () => { each('removeEventListener') }
}
