import { readFile } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import type { Locator, Page } from 'playwright-core'
import type { Test } from 'tap'
import type { AgentEvent, AgentEventsOptions } from '../../index.js'
import { inspector } from '../../inspector/index.js'
import { get } from '../support/connect.js'
import { Gates, guideBehind } from '../support/guide.js'
import { startApp, type StartedApp } from '../support/start-app.js'

export interface Inspected extends StartedApp { readonly gates: Gates }

/** An app with the inspector at /inspector and its routes at /. */
export async function startInspected (t: Test, options: Partial<AgentEventsOptions> = {}, prepare?: (app: FastifyInstance) => unknown): Promise<Inspected> {
  const gates = new Gates()
  const started = await startApp(t, { agents: [guideBehind(gates)], debug: true, coalesceMs: 0, closeGraceMs: 100, ...options }, {}, prepare ?? (async (app) => {
    await app.register(inspector, { prefix: '/inspector', base: '/', identify: 'userId', suggestions: ['Where is the station?'] })
  }))
  return { ...started, gates }
}

/** Opens the page as this person and waits until it is connected. */
export async function open (page: Page, url: string, userId = 'ada', hash = ''): Promise<void> {
  await page.goto(`${url}/inspector/`)
  const who = page.getByLabel('You are')
  if (await who.inputValue() !== userId) {
    await who.fill(userId)
    await who.press('Enter')
  }
  await badge(page, 'live')
  // another person begins with a new thread
  if (hash !== '') await page.goto(`${url}/inspector/${hash}`)
}

export async function badge (page: Page, status: string): Promise<void> {
  await page.locator(`#badge[data-status="${status}"]`).waitFor()
}

export async function say (page: Page, text: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(text)
  await page.getByRole('button', { name: 'Send' }).click()
}

/** How fast the page reads. */
export async function readAs (page: Page, speed: 'Full speed' | 'Slow' | 'Paused' | 'Offline'): Promise<void> {
  await page.getByRole('radio', { name: speed }).check()
}

/** The run's line of this kind in the timeline of the last answer. */
export function row (page: Page, kind: string, state?: string): Locator {
  return lastAnswer(page).locator(`.row[data-kind="${kind}"]${state === undefined ? '' : `[data-state="${state}"]`}`)
}

export function lastAnswer (page: Page): Locator {
  return page.locator('#messages > .agent').last()
}

export async function untilRun (page: Page, status: string): Promise<void> {
  await page.locator(`#messages > .agent:last-child[data-status="${status}"]`).waitFor()
}

export function threadIdOf (page: Page): string {
  return decodeURIComponent(new URL(page.url()).hash.split('/')[2] ?? '')
}

/** What the page has received, by its button. */
export async function savedLog (page: Page): Promise<AgentEvent[]> {
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Save as JSON' }).click()])
  return JSON.parse(await readFile(await download.path(), 'utf8'))
}

export async function serverLog (url: string, threadId: string, userId = 'ada'): Promise<AgentEvent[]> {
  return (await get(url, `/threads/${threadId}/events`, userId)).body
}

/** A number among what the page says of its connection. */
export async function fact (page: Page, name: 'received' | 'caught' | 'missing' | 'doubled'): Promise<number> {
  return Number(await page.locator(`#fact-${name}`).textContent())
}

export async function until (holds: () => unknown, what: string, timeoutMs = 30_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!await holds()) {
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs} ms for ${what}`)
    await new Promise((resolve) => { setTimeout(resolve, 20) })
  }
}
