import { byId, setText } from './dom.js'
import { OperatorView } from './operator-view.js'
import { Server, type Settings } from './server.js'
import { UserView } from './user-view.js'

const THEMES = ['system', 'light', 'dark'] as const

const settings = JSON.parse(document.documentElement.dataset.settings!) as Settings
const userView = new UserView(settings.suggestions)
const operatorView = new OperatorView()

prepareTheme()
prepareIdentity()
foldThreadsWhereNarrow()
byId('skip').addEventListener('click', () => { (byId('operator-view').hidden ? byId('user-main') : byId('operator-view')).focus() })
globalThis.addEventListener('hashchange', () => { route() })
document.addEventListener('inspector-title', () => { route() })
operatorView.use(serverOf())
await userView.use(serverOf())
// who comes back finds the newest thread, who has none begins one
if (location.hash === '' || location.hash === '#/') location.replace(userView.newest === undefined ? '#/new' : `#/thread/${encodeURIComponent(userView.newest)}`)
route()

/** #/thread/<id>, #/new or #/operator */
function route (): void {
  const [, view = '', id] = location.hash.split('/')
  const isOperator = view === 'operator'
  byId('user-view').hidden = isOperator
  byId('operator-view').hidden = !isOperator
  byId('to-user').toggleAttribute('aria-current', false)
  byId('to-operator').toggleAttribute('aria-current', false)
  byId(isOperator ? 'to-operator' : 'to-user').setAttribute('aria-current', 'page')
  operatorView.show(isOperator)
  if (!isOperator && view !== '') userView.show(view === 'thread' && id !== undefined ? threadIdOf(id) : undefined)
  if (!isOperator) byId<HTMLAnchorElement>('to-user').href = view === '' ? '#/' : location.hash
  if (view === 'new') byId('message').focus()
  document.title = `${isOperator ? 'Operator' : userView.title}, agent events`
}

function threadIdOf (text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** Stays over reloads: a name for as long as the browser likes, a token only as long as the tab. */
function serverOf (): Server {
  return new Server(settings, byId<HTMLInputElement>('who').value)
}

function prepareIdentity (): void {
  const { identify, base } = settings
  const form = byId<HTMLFormElement>('identity')
  const who = byId<HTMLInputElement>('who')
  const isToken = identify === 'bearer'
  const kept = isToken ? sessionStorage : localStorage
  const key = `fastify-agent-events ${identify} ${base}`
  form.hidden = identify === 'session'
  setText(byId('who-label'), isToken ? 'Token' : 'You are')
  if (isToken) who.type = 'password'
  let current = who.value = kept.getItem(key) ?? (isToken ? '' : 'local')
  const change = () => {
    if (!isToken && who.value.trim() === '') who.value = 'local'
    who.value = who.value.trim()
    // not what is kept: another tab may be the same person already
    if (current === who.value) return
    current = who.value
    kept.setItem(key, who.value)
    // a token is more often a fresh one than somebody else's
    if (!isToken) location.hash = '#/new'
    operatorView.use(serverOf())
    userView.use(serverOf())
  }
  who.addEventListener('change', change)
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    change()
  })
}

function prepareTheme (): void {
  const key = 'fastify-agent-events theme'
  const button = byId('theme')
  const root = document.documentElement
  const show = (theme: string) => {
    root.dataset.theme = theme
    setText(button, `Theme: ${theme}`)
  }
  show(localStorage.getItem(key) ?? 'system')
  button.addEventListener('click', () => {
    const theme = THEMES[(THEMES.indexOf(root.dataset.theme as typeof THEMES[number]) + 1) % THEMES.length]!
    localStorage.setItem(key, theme)
    show(theme)
  })
}

/** A long list would be in the way of what it leads to. */
function foldThreadsWhereNarrow (): void {
  const isNarrow = matchMedia('(max-width: 799px)')
  const fold = byId<HTMLDetailsElement>('threads-fold')
  const follow = () => { fold.open = !isNarrow.matches }
  isNarrow.addEventListener('change', follow)
  follow()
  fold.addEventListener('click', (event) => {
    if (isNarrow.matches && (event.target as Element).closest('a') !== null) fold.open = false
  })
}
