import { register } from 'node:module'
import { pathToFileURL } from 'node:url'

/* The same tests with another React: whoever asks for it gets the one that is installed for tests. */
const parent = pathToFileURL('test/support/react-19/package.json').href
register(`data:text/javascript,${encodeURIComponent(`
  export function resolve (specifier, context, next) {
    return next(specifier, /^react(-dom)?($|\\/)/.test(specifier) ? { ...context, parentURL: '${parent}' } : context)
  }
`)}`)
await import('./suite.js')
