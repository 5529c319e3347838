/* The one place that knows of a page; without one (Node, a worker) nothing is listened to. */
type Listen = (type: string, listener: (event: { type: string }) => void) => void
interface Target { addEventListener?: Listen, removeEventListener?: Listen }

/**
 * Calls the listener when the network is back (true), the page is shown again or becomes visible: moments at which waiting
 * longer is pointless.
 * @returns stops listening
 */
export function onWake (listener: (isOnline: boolean) => void): () => void {
  const page = globalThis as unknown as Target & { document?: Target & { visibilityState?: string } }
  const { document } = page
  const onEvent = ({ type }: { type: string }) => {
    if (type !== 'visibilitychange' || document?.visibilityState === 'visible') listener(type === 'online')
  }
  const targets = [[page, 'online'], [page, 'pageshow'], [document, 'visibilitychange']] as const
  // not with the signal of an AbortController: a page in Node (jsdom) has another one than Node
  for (const [target, type] of targets) target?.addEventListener?.(type, onEvent)
  return () => { for (const [target, type] of targets) target?.removeEventListener?.(type, onEvent) }
}
