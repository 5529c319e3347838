// Takes the screenshots of docs/inspector.md with a real browser, from a small support desk whose agents think, look things up,
// fail, ask each other and answer. Usage: npm run build && node --import tsx scripts/inspector-screenshots.ts [folder]
import { writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import Fastify from 'fastify'
import agentEvents, { defineAgent, defineTool, Type } from 'fastify-agent-events'
import { inspector } from 'fastify-agent-events/inspector'
import { chromium, type Page } from 'playwright-core'
import { indexedPng } from './indexed-png.js'

const folder = resolve(process.argv[2] ?? 'docs')
const WIDE = { width: 1200, height: 840 }
const NARROW = { width: 360, height: 760 }

const findOrder = defineTool({
  name: 'find_order',
  description: 'The order of a number',
  inputSchema: Type.Object({ number: Type.String() }),
  async execute ({ number }, { signal }) {
    await wait(620, undefined, { signal })
    return { number, item: 'folding bicycle', paid: 649, shippedAt: '2026-11-12' }
  }
})
const trackParcel = defineTool({
  name: 'track_parcel',
  description: 'Where a parcel is',
  inputSchema: Type.Object({ number: Type.String() }),
  async execute (_input, { signal }) {
    await wait(480, undefined, { signal })
    throw new Error('the carrier does not answer')
  }
})
const searchHandbook = defineTool({
  name: 'search_handbook',
  description: 'Search the handbook',
  inputSchema: Type.Object({ query: Type.String() }),
  async execute (_input, { signal }) {
    await wait(350, undefined, { signal })
    return { section: 'Late parcels', text: 'After five working days we send it again, free of charge.' }
  }
})
const researcher = defineAgent({
  name: 'handbook',
  description: 'Knows what the handbook says',
  tools: [searchHandbook],
  inputSchema: Type.Object({ question: Type.String() }),
  async run ({ question }, ctx) {
    await ctx.think('Reading what the handbook says about late parcels')
    await wait(180, undefined, { signal: ctx.signal })
    return ctx.tools.search_handbook({ query: question })
  }
})
const support = defineAgent({
  name: 'support',
  description: 'Answers customers of a bicycle shop',
  tools: [findOrder, trackParcel],
  agents: [researcher],
  async run (_input, ctx) {
    await ctx.think('The customer asks about an order: find it, then the parcel, then the rule')
    await wait(240, undefined, { signal: ctx.signal })
    const order = await ctx.tools.find_order({ number: '4711' })
    await ctx.tools.track_parcel({ number: '4711' }).catch(() => {})
    const rule = await ctx.agents.handbook({ question: 'What if a parcel is late?' })
    await ctx.say(pieces(`Your **${order.item}** left us on 12 November, and the carrier does not say where it is.\n\n${rule.text} So:\n\n1. I have asked the carrier to search for it.\n2. If it is not with you by Thursday, a new one leaves on Friday.\n\nYou need not do anything.`, ctx.signal))
    return { resolved: true }
  }
})

async function * pieces (text: string, signal: AbortSignal): AsyncGenerator<string> {
  for (const piece of text.match(/\S+\s*/g) ?? []) {
    await wait(45, undefined, { signal })
    yield piece
  }
}

const app = Fastify()
await app.register(agentEvents, {
  prefix: '/',
  debug: true,
  agents: [support],
  authenticate: (request) => ({ userId: (request.query as { userId?: string }).userId ?? 'ada' })
})
await app.register(inspector, { base: '/', identify: 'userId', suggestions: ['Where is my order 4711?'] })
await app.listen({ port: 0, host: '127.0.0.1' })
const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-lcd-text'] })
try {
  const context = await browser.newContext({ viewport: WIDE, colorScheme: 'light' })
  const page = await context.newPage()
  page.on('pageerror', (error) => { throw error })
  await startAs(page, 'ada')
  await ask(page, 'Is the shop open on Sunday?')
  await done(page)
  await page.getByRole('link', { name: 'New thread' }).click()
  await ask(page, 'Where is my order 4711?')
  await page.locator('#log [data-type="tool_completed"]').nth(1).waitFor()
  await page.getByLabel('Offline').check({ force: true })
  await wait(800)
  await page.getByLabel('Full speed').check({ force: true })
  await page.locator('#log .seam').waitFor()
  await wait(450)
  await shoot(page, 'running')
  await done(page)
  await page.mouse.move(0, 0)
  await shoot(page, 'light')
  await page.emulateMedia({ colorScheme: 'dark' })
  await shoot(page, 'dark')
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize(NARROW)
  await page.locator('#messages > li').last().locator('.run').scrollIntoViewIfNeeded()
  await page.evaluate(() => { globalThis.scrollTo(0, document.querySelector('#messages > li:last-child')!.getBoundingClientRect().top + globalThis.scrollY - 70) })
  await wait(200)
  await shoot(page, 'narrow')
  await page.setViewportSize(WIDE)

  const others = await Promise.all(['ben', 'cleo', 'cleo'].map(async (userId) => {
    const other = await context.newPage()
    await startAs(other, userId)
    return other
  }))
  await ask(others[0]!, 'Where is my order 12?')
  await page.bringToFront()
  await page.getByRole('link', { name: 'Operator' }).click()
  await page.locator('#connections tbody tr').nth(3).waitFor()
  for (let round = 0; round < 4; round++) {
    await ask(others[1 + round % 2]!, 'Where is my order 4711?')
    await wait(2_100)
  }
  await page.getByRole('button', { name: 'Pause' }).click()
  await shoot(page, 'operator-light')
  await page.emulateMedia({ colorScheme: 'dark' })
  await shoot(page, 'operator-dark')
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize(NARROW)
  await shoot(page, 'operator-narrow')
} finally {
  await browser.close()
  await app.close()
}

async function startAs (page: Page, userId: string): Promise<void> {
  await page.goto(url)
  await page.getByLabel('You are').fill(userId)
  await page.getByLabel('You are').press('Enter')
  await page.locator('#badge[data-status="live"]').waitFor()
}

async function ask (page: Page, text: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(text)
  await page.getByRole('button', { name: 'Send' }).click()
  await page.locator('#messages .bubble', { hasText: text }).last().waitFor()
}

async function done (page: Page): Promise<void> {
  await page.locator('#messages > li[data-status="success"]').last().waitFor()
  await page.locator('#messages .cancel:visible').waitFor({ state: 'detached' })
  await wait(300)
}

async function shoot (page: Page, name: string): Promise<void> {
  await writeFile(join(folder, `inspector-${name}.png`), indexedPng(await page.screenshot()))
}
