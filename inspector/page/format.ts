/** 340 ms, 1.2 s, 14 s, 3 min 20 s */
export function duration (ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`
  if (ms < 60_000) return `${Math.round(ms / 1_000)} s`
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 60) return `${minutes} min ${Math.floor(ms / 1_000) % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** How events get here, after 'over'. */
export const TRANSPORTS = { websocket: 'a WebSocket', sse: 'server-sent events', polling: 'polling' } as const

export function bytes (count: number): string {
  if (count < 1_024) return `${count} B`
  if (count < 1_048_576) return `${(count / 1_024).toFixed(1)} KiB`
  return `${(count / 1_048_576).toFixed(1)} MiB`
}

export function count (number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString('en')} ${number === 1 ? one : many}`
}

/** The last part of a long id, enough to tell it from its neighbours. */
export function shortId (id: string, length = 14): string {
  return id.length <= length ? id : `…${id.slice(1 - length)}`
}

/** JSON as people read it; a string by itself. */
export function json (value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2) ?? 'nothing'
}

/** Today's as a time, older ones as a date. */
export function when (timestamp: string): string {
  const date = new Date(timestamp)
  const isToday = date.toDateString() === new Date().toDateString()
  return isToday ? date.toLocaleTimeString('en', { hour: '2-digit', minute: '2-digit', hour12: false }) : date.toLocaleDateString('en', { day: 'numeric', month: 'short' })
}

/** The step between marks of a scale that is so long, and how many of them fit: at least 2, at most 5. */
export function scaleOf (ms: number): { readonly stepMs: number, readonly steps: number } {
  const least = Math.max(ms, 10) / 5
  const power = 10 ** Math.floor(Math.log10(least))
  const stepMs = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least)!
  return { stepMs, steps: Math.floor(ms / stepMs) }
}
