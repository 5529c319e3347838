import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Registry } from 'prom-client'
import { FAE_ERR_FORBIDDEN, FAE_ERR_PACKAGE_MISSING } from '../errors.js'
import { Subscription } from '../plugins/websocket-notifier/subscription.js'

/** A Registry of prom-client; said by what is used of it, so that nobody needs its types. */
export interface MetricsRegistry {
  readonly contentType: string
  metrics (): Promise<string>
}

export interface MetricsOptions {
  /** Where the metrics go. @default a registry of their own */
  registry?: MetricsRegistry
  /** Who may read /metrics. @default everybody who reaches the app */
  allow?: (request: FastifyRequest) => boolean | Promise<boolean>
}

/** Of latencies, in seconds. */
const BUCKETS = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]

/**
 * Collects what the app does. Nothing is counted twice: gauges and counters read at scrape time the plain numbers that
 * the app keeps anyway, and only what a latency histogram samples is observed while events pass.
 * @throws FAE_ERR_PACKAGE_MISSING without prom-client
 */
export async function collectMetrics (app: FastifyInstance, given?: MetricsRegistry): Promise<MetricsRegistry> {
  const { Registry: OwnRegistry, Gauge, Counter, Histogram } = await loadPromClient()
  const registry = (given ?? new OwnRegistry()) as Registry
  const { threads: { store }, notifier: { hub, stats } } = app
  // Registered below, each once.
  const registers: Registry[] = []

  function gauge (name: string, help: string, read: () => number): void {
    registry.registerMetric(new Gauge({ name: `agent_events_${name}`, help, registers, collect () { this.set(read()) } }))
  }
  function counter (name: string, help: string, read: () => number): void {
    registry.registerMetric(new Counter({
      name: `agent_events_${name}`,
      help,
      registers,
      collect () {
        this.reset()
        this.inc(read())
      }
    }))
  }
  /** One series for each entry of a table of plain numbers. */
  function table (Kind: typeof Gauge | typeof Counter, name: string, help: string, label: string, read: () => Readonly<Record<string, number>>): void {
    registry.registerMetric(new Kind({
      name: `agent_events_${name}`,
      help,
      registers,
      labelNames: [label],
      collect () {
        this.reset()
        for (const [value, number] of Object.entries(read())) this.inc({ [label]: value }, number)
      }
    }))
  }
  function latency (name: string, help: string): (seconds: number) => void {
    const histogram = new Histogram({ name: `agent_events_${name}`, help, registers, buckets: BUCKETS })
    registry.registerMetric(histogram)
    return (seconds) => { histogram.observe(seconds) }
  }

  gauge('connections', 'WebSocket connections', () => hub.connections.size)
  gauge('connections_buffered_bytes', 'Bytes that wait in sockets', () => sum([...hub.connections.values()].map(({ bufferedBytes }) => bufferedBytes)))
  table(Gauge, 'subscriptions', 'Subscriptions of WebSocket connections by their state', 'state', () => {
    const states = { starting: 0, replaying: 0, live: 0, stalled: 0, closed: 0 }
    for (const { state } of subscriptionsOf(app)) states[state]++
    const { closed, ...shown } = states
    return shown
  })
  gauge('http_readers', 'Long-polls and streams of server-sent events', () => sum([...hub.feeds.keys()].map((threadId) => [...hub.feeds.get(threadId)!.readers].filter((reader) => !(reader instanceof Subscription)).length)))
  gauge('threads_watched', 'Threads that somebody follows here', () => hub.feeds.size)
  table(Gauge, 'lag_events', 'Events that are stored and not yet sent to the subscriptions that want them', 'over', () => {
    let total = 0
    let most = 0
    for (const { feed: { head }, seq } of subscriptionsOf(app)) {
      const behind = Math.max(0, head - seq)
      total += behind
      most = Math.max(most, behind)
    }
    return { all: total, worst: most }
  })
  table(Counter, 'events_total', 'Events stored by this process', 'type', () => stats.events)
  table(Counter, 'subscribed_total', 'Places that subscriptions took: recovered, or reset because the position was lost', 'place', () => stats.subscribed)
  counter('replays_total', 'How often a live subscription went back to the log', () => stats.replays)
  table(Counter, 'closes_total', 'Connections closed by this side', 'reason', () => stats.closes)
  gauge('runs_live', 'Runs that have begun and not ended, in this process', () => app.agents.liveRuns)
  table(Counter, 'runs_total', 'Runs that this process ended', 'status', () => stats.runs)
  counter('refused_total', 'Emits after the end of their run', () => stats.refused)
  table(Gauge, 'store_available', '1 while the store is available', 'store', () => ({ [store.name]: store.availability.available ? 1 : 0 }))

  stats.timing = {
    append: latency('append_seconds', 'From an append to the answer of the store; a sample'),
    delivery: latency('delivery_seconds', 'From an append here to its write to the sockets that follow here; a sample')
  }
  return registry
}

/** GET /metrics */
export async function metricRoutes (app: FastifyInstance, { registry, allow }: { registry: MetricsRegistry, allow?: MetricsOptions['allow'] }): Promise<void> {
  app.get('/metrics', async (request, reply) => {
    if (allow !== undefined && await allow(request) !== true) throw new FAE_ERR_FORBIDDEN()
    return reply.type(registry.contentType).serializer((body: string) => body).send(await registry.metrics())
  })
}

function * subscriptionsOf (app: FastifyInstance): Generator<Subscription> {
  for (const { subscriptions } of app.notifier.hub.connections.values()) yield * subscriptions.values()
}

function sum (numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

async function loadPromClient (): Promise<typeof import('prom-client')> {
  try {
    // A CommonJS package: its names are those of its default.
    return (await import('prom-client')).default
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
    throw new FAE_ERR_PACKAGE_MISSING('The option metrics', 'prom-client', 'prom-client')
  }
}
