import t from 'tap'
import type { AgentEventsOptions } from '../../index.js'
import { fuzz } from '../support/fuzz.js'

/* `npm run fuzz` says more. */

t.test('anything, said to any door: no crash, no 5xx, and nobody learns of anybody else', async (t) => {
  const seed = Date.now() % 2 ** 31
  t.comment(`seed ${seed}`)
  const { inputs, answers, failure } = await fuzz({ runs: 400, seed })
  t.equal(failure, undefined, `npm run fuzz -- --runs 400 --seed ${seed}`)
  t.equal(inputs.frame + inputs.http + inputs.bytes, 400)
  for (const reached of ['200', '400', '404', 'FAE_ERR_FRAME_INVALID', 'frame subscribed', 'FAE_ERR_THREAD_NOT_FOUND']) t.ok(answers[reached]! > 0, `${reached} was among the answers`)
})

t.test('what is broken is found, and made small', async (t) => {
  const leaky = await fuzz({ runs: 2_000, seed: 1, sabotage: { authorize: (_user, action) => action !== 'debug' } })
  t.match(leaky.failure?.why, /names the victim|the victim/, 'a right that nobody should have')
  const redact: AgentEventsOptions['redact'] = ({ type, data }) => {
    if (type === 'user_message' && typeof data.content === 'string' && !/^hello$|^victim-/.test(data.content)) throw new Error('oh')
    return data
  }
  const failing = await fuzz({ runs: 5_000, seed: 1, sabotage: { redact } })
  t.match(failing.failure?.why, /status 500|internal error|an error is logged/, 'an error of the inside')
  t.match(failing.failure?.input, /^.{1,300}$/, 'made small')
})
