import t from 'tap'
import { ReplyError } from 'ioredis'
import { asStoreError } from '../../../plugins/store/redis-client.js'

const SHA = 'f_8f55ae4a3be429c6d38c5d5db3e80edf89197b64'

function reply (message: string): Error {
  return new ReplyError(message)
}

t.test('what passes is a store that is not available, however the server words it', async (t) => {
  const passing = [
    // of Redis 6.2, when a command inside a script is refused
    `ERR Error running script (call to ${SHA}): @user_script:41: @user_script: 41: -OOM command not allowed when used memory > 'maxmemory'.   `,
    `ERR Error running script (call to ${SHA}): @user_script:41: @user_script: 41: -MISCONF Errors writing to the AOF file: No space left on device   `,
    `ERR Error running script (call to ${SHA}): @user_script:41: @user_script: 41: -READONLY You can't write against a read only replica.   `,
    `ERR Error running script (call to ${SHA}): @user_script:41: @user_script: 41: -NOREPLICAS Not enough good replicas to write.   `,
    // since 7.0
    `OOM command not allowed when used memory > 'maxmemory'. script: ${SHA.slice(2)}, on @user_script:41.`,
    `READONLY You can't write against a read only replica. script: ${SHA.slice(2)}, on @user_script:41.`,
    // of any command
    'LOADING Redis is loading the dataset in memory',
    'MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to \'no\'.',
    'CLUSTERDOWN Hash slot not served',
    'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.',
    'ERR max number of clients reached'
  ]
  for (const message of passing) t.match(asStoreError(reply(message)), { code: 'FAE_ERR_STORE_UNAVAILABLE' }, message)
  t.match(asStoreError(new Error('Connection is closed.')), { code: 'FAE_ERR_STORE_UNAVAILABLE' }, 'what is no reply is about the connection')
})

t.test('a mistake of ours stays what it is', async (t) => {
  const mistakes = [
    'WRONGTYPE Operation against a key holding the wrong kind of value',
    `ERR Error running script (call to ${SHA}): @user_script:41: user_script:41: attempt to index a nil value`,
    'ERR The ID specified in XADD is equal or smaller than the target stream top item'
  ]
  for (const message of mistakes) {
    const error = reply(message)
    t.equal(asStoreError(error), error, message)
  }
})
