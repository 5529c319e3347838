import type { Message, Part, Run, ToolPart } from 'fastify-agent-events/client/state'
import { memo } from 'react'
import type { Agents } from './client.js'

interface MessageProps {
  message: Message<Agents>
  /** The run that the message belongs to. */
  run: Run<Agents> | undefined
}

/** memo: a message that an event does not touch stays the same object, so only the one that grows is rendered. */
export const MessageView = memo(function MessageView ({ message, run }: MessageProps) {
  const parts = message.parts.map((part) => <PartView key={`${part.type} ${part.id}`} part={part} />)
  if (message.role === 'user') return <li className='user' aria-label='You'>{parts}</li>
  return (
    <li className='agent' aria-label='Clerk' aria-busy={run?.status === 'running'}>
      {parts}
      {run?.status === 'running' && <p className='working'>at work</p>}
      {run?.status === 'cancelled' && <p className='end'>You cancelled this.</p>}
      {run?.error !== undefined && run.status !== 'cancelled' && <p className='end error'>{run.error.message}</p>}
    </li>
  )
})

function PartView ({ part }: { part: Part<Agents> }) {
  switch (part.type) {
    case 'text': return <p className='text'>{part.text}</p>
    case 'thinking': return <p className='step'>{part.text}</p>
    case 'tool': return <ToolView part={part} />
    default: return null
  }
}

function ToolView ({ part }: { part: ToolPart<Agents> }) {
  return (
    <details className='step tool' data-state={part.state}>
      <summary>
        <code>{part.tool}</code> {summaryOf(part)} <span className='time'>{part.durationMs === undefined ? '' : `${(part.durationMs / 1_000).toFixed(1)} s`}</span>
      </summary>
      <pre>{JSON.stringify({ args: part.args, output: part.output, error: part.error }, null, 2)}</pre>
    </details>
  )
}

/** Everything here is typed by the tools of the server: args, and output once it is there. */
function summaryOf (part: ToolPart<Agents>): string {
  if (part.state === 'input' || part.state === 'running') return part.progressText ?? 'running'
  if (part.state !== 'ok') return part.error.message
  switch (part.tool) {
    case 'search_handbook': return `${part.output.length} found`
    case 'track_parcel': return `${part.args.parcel} is at ${part.output.place}`
  }
}
