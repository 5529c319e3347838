/* What all servers of the bench say: the same fields and sizes, whoever makes the event. */

/** Events of 390 B and 1.24 kB, mixed 4:1: 370 bytes are the rest of an event. */
const TEXTS = ['x'.repeat(20), 'x'.repeat(20), 'x'.repeat(20), 'x'.repeat(20), 'x'.repeat(870)] as const

export function textOf (i: number): string { return TEXTS[i % TEXTS.length]! }

/** Milliseconds of a clock that all processes of one machine share. */
export function now (): number { return Number(process.hrtime.bigint()) / 1e6 }

/** A text that tells when it was said, and the how manieth of its thread it is. */
export function stampedText (i: number, n: number): string {
  const stamp = `${n} ${now().toFixed(3)} `
  return stamp + textOf(i).slice(stamp.length)
}

export function readStamp (text: string): { n: number, at: number } {
  const [n, at] = text.split(' ', 2)
  return { n: Number(n), at: Number(at) }
}

const RUN_ID = 'run_0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11'
const ANSWER_ID = '2f1c9a52-7d0b-4f3e-8a55-6b1f0c9d7e42'

function event (type: string, userId: string, threadId: string, seq: number, data: object): object {
  return {
    v: 1,
    id: `mi8xkq3vk3xw-${String(seq).padStart(10, '0')}`,
    seq,
    type,
    threadId,
    runId: RUN_ID,
    agentId: `${userId}:speaker:0b9d6f0e-6a53-4d55-9a4e-3b9a1d0f3f11`,
    timestamp: new Date().toISOString(),
    data
  }
}

/** The event of a peer, which makes what this project makes of ctx.think(text). */
export function thought (thread: number, seq: number, text: string): object {
  return event('agent_thinking', `user${thread}`, `t${thread}`, seq, { agent: 'speaker', thinkingId: `thinking_${ANSWER_ID}_${seq}`, kind: 'status', phase: 'full', text })
}

/** And of a piece of ctx.say(pieces). */
export function delta (thread: number, seq: number, text: string): object {
  return event('assistant_message', `user${thread}`, `t${thread}`, seq, { agent: 'speaker', messageId: `msg_${ANSWER_ID}`, partId: `part_${ANSWER_ID}_1`, phase: 'delta', text })
}
