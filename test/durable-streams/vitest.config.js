// For the conformance suite alone, which is written for vitest; every other test is tap's.
export default {
  test: { include: ['reading.suite.ts'], testTimeout: 30_000, hookTimeout: 30_000, watch: false }
}
