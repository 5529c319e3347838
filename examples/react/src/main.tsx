import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { Chat } from './chat.js'
import { openThread } from './client.js'
import './style.css'

const root = createRoot(document.getElementById('page')!)
const threadId = await openThread(location.hash.slice(1))
root.render(<StrictMode><Chat threadId={threadId} /></StrictMode>)
