// What the tests need beside npm packages: found, or installed with apt-get where that may be done, or named clearly.
// Silent when all is there. Run before the tests by `npm test`.
import { spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

const REQUIREMENTS = [
  { commands: ['redis-server'], apt: 'redis-server', why: 'the tests of the Redis store start real servers (Redis 6.2 or newer)' },
  { commands: ['chromium'], apt: 'chromium', why: 'the tests of the inspector drive a real browser' }
]

const missing = REQUIREMENTS.filter((requirement) => !isThere(requirement))
if (missing.length > 0) {
  const packages = missing.map(({ apt }) => apt)
  if (mayInstall()) {
    process.stderr.write(`Installing what the tests need: apt-get install ${packages.join(' ')}\n`)
    aptGet('update')
    aptGet('install', '-y', '--no-install-recommends', ...packages)
  }
  const stillMissing = missing.filter((requirement) => !isThere(requirement))
  for (const { commands, apt, why } of stillMissing) {
    process.stderr.write(`Missing for the tests: ${commands.join(' or ')} in PATH; ${why}. Install it, for example: apt-get install ${apt}\n`)
  }
  if (stillMissing.length > 0) process.exitCode = 1
}

function isThere ({ commands }) {
  return commands.some((command) => find(command))
}

function find (command) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function mayInstall () {
  return process.getuid?.() === 0 && find('apt-get')
}

// RUNLEVEL: a service that starts with its installation would only be in the way.
function aptGet (...args) {
  spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }, timeout: 300_000 })
}
