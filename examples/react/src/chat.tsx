import { useThread } from 'fastify-agent-events/client/react'
import { useState, type FormEvent } from 'react'
import { client } from './client.js'
import { MessageView } from './message.js'

const STATUS = {
  idle: 'Connecting',
  connecting: 'Connecting',
  replaying: 'Catching up',
  live: 'Live',
  degraded: 'Delayed',
  offline: 'Offline',
  closed: 'Closed'
}
const QUESTIONS = ['Where is parcel 1042?', 'Is parcel 2077 delivered in the rain?', 'How do I return something?']

export function Chat ({ threadId }: { threadId: string }) {
  const { messages, runs, status, send, cancel } = useThread(client, threadId)
  const [draft, setDraft] = useState('')
  /** Not stored yet. While the page is offline that takes until it is back. */
  const [unsent, setUnsent] = useState<string>()
  const [failure, setFailure] = useState<string>()
  const isAtWork = runs.some((run) => run.status === 'running')

  /** Read aloud when it is whole, instead of word by word. */
  const lastAnswer = messages.findLast(({ role }) => role === 'assistant')?.parts.flatMap((part) => part.type === 'text' ? [part.text] : []).join(' ')

  async function ask (question: string) {
    setDraft('')
    setFailure(undefined)
    setUnsent(question)
    try {
      await send(question)
    } catch (error) {
      setDraft(question)
      setFailure((error as Error).message)
    }
    setUnsent(undefined)
  }

  function submit (event: FormEvent) {
    event.preventDefault()
    if (draft.trim() !== '' && unsent === undefined) ask(draft)
  }

  return (
    <>
      <header>
        <h1><img src='/bicycle.svg' alt='' /> Parcels by bicycle</h1>
        <p className='status' role='status' data-status={status}>{STATUS[status]}</p>
        <a href='/'>New chat</a>
      </header>

      <main tabIndex={0} aria-label='Conversation'>
        {/* reversed, so that it stays at its end while it grows */}
        <ol>
          {messages.map((message) => <MessageView key={message.id} message={message} run={runs.find(({ runId }) => runId === message.runId)} />)}
          {unsent !== undefined && <li className='user unsent'>{unsent}</li>}
        </ol>
        {messages.length === 0 && unsent === undefined && (
          <section>
            <h2>Ask the clerk</h2>
            {QUESTIONS.map((question) => <button key={question} type='button' onClick={() => ask(question)}>{question}</button>)}
          </section>
        )}
      </main>

      <footer>
        {status === 'offline' && <p role='status'>You are offline. The agent works on, and what you miss comes as soon as you are back.</p>}
        <p className='visually-hidden' role='status'>{isAtWork ? 'The clerk is at work.' : lastAnswer}</p>
        {failure !== undefined && <p role='alert'>{failure}</p>}
        <form onSubmit={submit}>
          <input aria-label='Your question' placeholder='Ask about a parcel' autoComplete='off' value={draft} onChange={(event) => setDraft(event.target.value)} />
          {isAtWork && <button type='button' onClick={() => cancel()}>Cancel</button>}
          <button type='submit' disabled={draft.trim() === '' || unsent !== undefined}>Send</button>
        </form>
      </footer>
    </>
  )
}
