import { runConformanceTests } from '@durable-streams/server-conformance-tests'

// Run by vitest, which conformance.test.ts starts: which groups count is decided there.
runConformanceTests({ baseUrl: process.env.CONFORMANCE_URL!, longPollTimeoutMs: Number(process.env.LONG_POLL_MS) })
