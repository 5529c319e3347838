import { JSDOM } from 'jsdom'

/* A document for react-dom; imported before it, because it looks for one when it is loaded. Sockets and servers are real. */

const { window } = new JSDOM('<!doctype html>', { pretendToBeVisual: true })

/** Frames that the page has shown since something asked for one. */
export const frames = { count: 0 }

export function requestAnimationFrame (callback: () => void): number {
  return window.requestAnimationFrame(() => {
    frames.count++
    callback()
  })
}

const cancelAnimationFrame = (handle: number) => { window.cancelAnimationFrame(handle) }
for (const [name, value] of Object.entries({ window, document: window.document, navigator: window.navigator, requestAnimationFrame, cancelAnimationFrame })) {
  // newer Nodes have a navigator of their own, which cannot be assigned
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true })
}

/** An element of the document. */
export function newRoot () {
  return window.document.body.appendChild(window.document.createElement('main'))
}
