/**
 * The environment of a Node process that runs sources for a test: nothing of this process' settings but the PATH. Its
 * coverage is not collected: lines that another loader has compiled would spoil the figures of ours.
 */
export const childEnv = { PATH: process.env['PATH'] ?? '', _TAPJS_PROCESSINFO_COVERAGE_: '0' }
