import type { Page } from 'playwright-core'

/** What is wider than the page; 'none' if nothing is. */
export async function overflow (page: Page): Promise<unknown> {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth
    if (document.documentElement.scrollWidth <= width) return 'none'
    return [...document.querySelectorAll('body *')].filter((element) => element.getBoundingClientRect().right > width + 1).map((element) => `${element.tagName}.${element.className}`).slice(0, 8)
  })
}

/** Visible texts with a contrast below 4.5 to 1, or 3 to 1 for large ones. */
export function illegible (page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })!
    /** Paints colours over each other, the lowest first. */
    const painted = (colors: readonly string[]) => {
      canvas.clearRect(0, 0, 1, 1)
      for (const color of colors) {
        canvas.fillStyle = color
        canvas.fillRect(0, 0, 1, 1)
      }
      return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
    }
    const luminance = (color: readonly number[]) => {
      const [red, green, blue] = color.map((value) => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4)
      return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!
    }
    const found: string[] = []
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement!
      const text = texts.currentNode.textContent!.trim()
      // a control that cannot be used need not be as legible
      if (text === '' || !element.checkVisibility() || element.closest('.visually-hidden, :disabled, noscript') !== null) continue
      const grounds: string[] = []
      for (let at: Element | null = element; at !== null; at = at.parentElement) {
        const node = at instanceof SVGGElement ? at.querySelector('rect') : null
        grounds.unshift(node !== null ? getComputedStyle(node).fill : at instanceof SVGElement ? 'transparent' : getComputedStyle(at).backgroundColor)
      }
      const style = getComputedStyle(element)
      const color = element instanceof SVGElement ? style.fill : style.color
      const ground = luminance(painted(grounds))
      const ink = luminance(painted([...grounds, color]))
      const contrast = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05)
      const isLarge = parseFloat(style.fontSize) >= 24
      if (contrast < (isLarge ? 3 : 4.5)) found.push(`${text.slice(0, 30)}: ${contrast.toFixed(2)} (${element.className})`)
    }
    return found
  })
}

/** What can have the focus and has no name or no role, in the tree that the browser makes for screen readers. */
export async function nameless (page: Page): Promise<string[]> {
  const session = await page.context().newCDPSession(page)
  const { nodes } = await session.send('Accessibility.getFullAXTree')
  await session.detach()
  const focusable = nodes.filter(({ ignored, properties = [] }) => !ignored && properties.some(({ name, value }) => name === 'focusable' && value.value === true))
  if (focusable.length < 5) throw new Error('the tree is not that of the page')
  return focusable.filter(({ name, role }) => String(name?.value ?? '').trim() === '' || role?.value === 'generic').map(({ name, role }) => `${role?.value} ${name?.value}`)
}
