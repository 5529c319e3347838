import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { Chat } from './chat.js'
import { openThread } from './client.js'
import './style.css'

const root = createRoot(document.getElementById('page')!)
openThread(location.hash.slice(1)).then(
  (threadId) => { root.render(<StrictMode><Chat threadId={threadId} /></StrictMode>) },
  (error: Error) => { root.render(<p role='alert'>Is the server running? {error.message}</p>) }
)
